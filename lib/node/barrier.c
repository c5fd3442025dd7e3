#include "barrier.h"

#include "base/mem.h"
#include "node/node.h"

static void barrier_over(struct pc_barrier *barrier)
{
    pc_list_remove(&barrier->link);
    pc_engine_timer_stop(&barrier->node->engine, &barrier->deadline);
    pc_free(barrier->marks);
    barrier->marks = NULL;
    barrier->done(barrier);
}

static void barrier_late(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    barrier_over(PC_CONTAINER_OF(timer, struct pc_barrier, deadline));
}

/* Every turn asks: with many barriers and owners each mark is passed once. */
static bool is_reached(struct pc_publisher *pub, struct pc_barrier *barrier)
{
    while (barrier->n_reached < barrier->n_marks) {
        const struct pc_mark *mark = &barrier->marks[barrier->n_reached];
        struct pc_outbox *box = pc_fifo_find(pub, mark->incarnation);
        if (box != NULL && box->n_settled < mark->settled) {
            return false;
        }
        barrier->n_reached++;
    }
    return true;
}

unsigned pc_barrier_check(struct peercache_node *node)
{
    struct pc_publisher *pub = &node->publisher;
    unsigned n = 0;
    struct pc_list *at = pub->barriers.next;
    while (at != &pub->barriers) {
        struct pc_barrier *barrier =
            PC_CONTAINER_OF(at, struct pc_barrier, link);
        at = at->next;
        if (is_reached(pub, barrier)) {
            barrier_over(barrier);
            n++;
        }
    }
    return n;
}

bool pc_publish_barrier(struct peercache_node *node, struct pc_barrier *barrier,
                        uint64_t wait_ns, void (*done)(struct pc_barrier *))
{
    struct pc_publisher *pub = &node->publisher;
    barrier->node = node;
    barrier->done = done;
    barrier->n_marks = 0;
    barrier->n_reached = 0;
    barrier->marks =
        pc_alloc(pub->by_incarnation.n_used + 1, sizeof(*barrier->marks));
    if (barrier->marks == NULL) {
        return false;
    }
    for (struct pc_list *at = pub->outboxes.next; at != &pub->outboxes;
         at = at->next) {
        struct pc_outbox *box = PC_CONTAINER_OF(at, struct pc_outbox, link);
        if (box->parked || box->n == 0) {
            continue;
        }
        barrier->marks[barrier->n_marks].incarnation = box->owner.incarnation;
        barrier->marks[barrier->n_marks++].settled = box->n_added;
        pc_fifo_hurry(box);
    }
    pc_list_push_back(&pub->barriers, &barrier->link);
    pc_engine_timer_init(&barrier->deadline, barrier_late);
    if (wait_ns > 0) {
        pc_engine_timer_start(&node->engine, &barrier->deadline,
                              pc_engine_now(&node->engine) + wait_ns);
    }
    return true;
}

void pc_barrier_lift(struct peercache_node *node, uint64_t incarnation)
{
    struct pc_list *barriers = &node->publisher.barriers;
    for (struct pc_list *at = barriers->next; at != barriers; at = at->next) {
        struct pc_barrier *barrier =
            PC_CONTAINER_OF(at, struct pc_barrier, link);
        for (size_t i = 0; i < barrier->n_marks; i++) {
            if (barrier->marks[i].incarnation == incarnation) {
                barrier->marks[i].settled = 0;
            }
        }
    }
}

void pc_publish_end_barriers(struct peercache_node *node)
{
    struct pc_list *barriers = &node->publisher.barriers;
    while (!pc_list_is_empty(barriers)) {
        barrier_over(PC_CONTAINER_OF(barriers->next, struct pc_barrier, link));
    }
}
