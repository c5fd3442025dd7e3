/*
 * scan.h - what a segment file holds, by its index block or by reading all of
 * it. Takes nothing for granted: any bytes may be there. Pure, but for the
 * source it reads from and the thread that reads ahead.
 */
#ifndef PC_DISK_SCAN_H
#define PC_DISK_SCAN_H

#include "ahead.h"
#include "format.h"

/* Entries in the order of the log. */
struct pc_disk_entries
{
    struct pc_disk_entry *entry;
    size_t n, capacity;
};

void pc_disk_entries_fini(struct pc_disk_entries *entries);
bool pc_disk_entries_add(struct pc_disk_entries *entries,
                         const struct pc_disk_entry *entry);

enum pc_disk_load {
    PC_DISK_LOAD_OK,
    PC_DISK_LOAD_NONE, /* No footer: was never sealed. */
    PC_DISK_LOAD_LIES, /* There is one, and it cannot be true. */
    PC_DISK_LOAD_IO,
    PC_DISK_LOAD_NO_MEMORY
};

/* Read the header block, or, when that is bad, its copy in the footer. The
 * buffer has PC_DISK_STAGE bytes, aligned. */
int pc_disk_read_ident(const struct pc_disk_source *source, void *buffer,
                       enum pc_disk_header *header_p,
                       struct pc_disk_ident *ident_p);

/* The index block. Entries are in order, do not overlap and lie within the
 * records' part of the file; whether records are there, reading them tells. */
enum pc_disk_load pc_disk_load_index(const struct pc_disk_source *source,
                                     const struct pc_disk_ident *ident,
                                     void *buffer,
                                     struct pc_disk_entries *entries_p);

struct pc_disk_scan
{
    struct pc_disk_entries
        entries;        /* Only of records that proved themselves. */
    uint64_t end;       /* Behind the last of them, in whole blocks. */
    uint64_t n_corrupt; /* Records with wrong bytes before that. */
    bool torn;          /* Behind that something had been begun. */
    bool io_error;      /* Parts could not be read. */
};

/* Look for records in the whole file. False: no memory. With PC_DISK_AHEAD more
 * buffers, one behind the other, a thread reads ahead meanwhile; NULL: none
 * does. */
bool pc_disk_scan(const struct pc_disk_source *source,
                  const struct pc_disk_ident *ident, void *buffer, void *more,
                  struct pc_disk_scan *scan_p);

#endif /* PC_DISK_SCAN_H */
