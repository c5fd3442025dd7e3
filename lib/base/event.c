#include "event.h"

#include "clock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void pc_event_init(struct pc_event *event, uint32_t value)
{
    atomic_init(&event->word, value);
}

uint32_t pc_event_get(const struct pc_event *event)
{
    /* acquire: pairs with the release in set; what was written before the
     * change is seen after it. */
    return atomic_load_explicit(&event->word, memory_order_acquire);
}

void pc_event_set(struct pc_event *event, uint32_t value)
{
    /* release: pairs with the acquire in get. */
    atomic_store_explicit(&event->word, value, memory_order_release);
    pc_event_wake(event);
}

void pc_event_wake(struct pc_event *event)
{
    (void)syscall(SYS_futex, &event->word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL,
                  NULL, 0);
}

bool pc_event_wait(struct pc_event *event, uint32_t seen, uint64_t timeout_ns)
{
    uint64_t end = UINT64_MAX;
    if (timeout_ns != UINT64_MAX) {
        uint64_t now = pc_clock_monotonic();
        end = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
    }
    while (pc_event_get(event) == seen) {
        struct timespec left;
        struct timespec *left_or_ever = NULL;
        if (end != UINT64_MAX) {
            uint64_t now = pc_clock_monotonic();
            if (now >= end) {
                return false;
            }
            left.tv_sec = (time_t)((end - now) / PC_S);
            left.tv_nsec = (long)((end - now) % PC_S);
            left_or_ever = &left;
        }
        (void)syscall(SYS_futex, &event->word, FUTEX_WAIT_PRIVATE, seen,
                      left_or_ever, NULL, 0);
    }
    return true;
}
