/*
 * miss.h - why a value was not delivered; each cause is counted (a miss without
 * a cause is a defect).
 */
#ifndef PC_NODE_MISS_H
#define PC_NODE_MISS_H

enum pc_miss {
    PC_MISS_NOT_FOUND, /* Every reachable owner says so. */
    PC_MISS_STALE,     /* Places were found, none held the value any more. */
    PC_MISS_CORRUPT,
    PC_MISS_PEER_DOWN, /* Owners or holders could not be reached. */
    PC_MISS_TIMED_OUT,
    PC_MISS_NO_PATH, /* A forced read mode has no way to the holder. */
    PC_MISS_BUSY,    /* A disk had too much to do, or the pool no room. */
    PC_MISS_SIZE,
    PC_MISS_CANCELED,
    PC_MISS_SHUTDOWN,
    PC_MISS_NO_MEMORY
};

#endif /* PC_NODE_MISS_H */
