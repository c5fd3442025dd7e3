/*
 * event.h - a word that threads can wait for, without a lock.
 *
 * Waiters sleep in the kernel only while the word has the value they saw, so a
 * change between look and sleep is never missed. Any thread.
 */
#ifndef PC_BASE_EVENT_H
#define PC_BASE_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct pc_event
{
    _Atomic uint32_t word;
};

void pc_event_init(struct pc_event *event, uint32_t value);
uint32_t pc_event_get(const struct pc_event *event);
/* Change the word and wake everybody who waits. */
void pc_event_set(struct pc_event *event, uint32_t value);
/* Wake everybody who waits, after a change made with an atomic operation. */
void pc_event_wake(struct pc_event *event);
/* Wait until the word differs from `seen` or timeout_ns passed (UINT64_MAX: no
 * end); false on timeout. */
bool pc_event_wait(struct pc_event *event, uint32_t seen, uint64_t timeout_ns);

#endif /* PC_BASE_EVENT_H */
