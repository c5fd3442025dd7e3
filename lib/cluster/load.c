/*
 * How much members have to do: each says so in its beats, masters tell
 * everybody of those that have the most. No part of the table's hash: it
 * changes often, and who has it wrong only reads from a second-best holder.
 */
#include "state.h"

/* Who has less is not worth a word. */
#define WORTH_A_WORD 2

void pc_cluster_set_load(struct pc_cluster *cluster, uint8_t load)
{
    cluster->load = load <= PC_LOAD_MAX ? load : PC_LOAD_MAX;
}

uint8_t pc_cluster_load(const struct pc_cluster *cluster, uint64_t incarnation)
{
    size_t at = pc_table_find(cluster, incarnation);
    if (at == SELF) {
        return cluster->load;
    }
    return pc_table_is_live(cluster, at) ? cluster->watches[at].load : 0;
}

void pc_load_tell(const struct pc_cluster *cluster, struct pc_msg_table *table)
{
    /* The arrays are no state: they may change under a const cluster. */
    struct pc_cluster *c = (struct pc_cluster *)cluster;
    uint32_t n = 0;
    for (uint8_t load = PC_LOAD_MAX; load >= WORTH_A_WORD && c->am_master;
         load--) {
        for (size_t i = 0; i < c->n_members && n < PC_BUSY_MAX; i++) {
            uint8_t its = i == SELF ? c->load : c->watches[i].load;
            if (its == load && pc_table_is_live(c, i)) {
                c->busy[n] = c->members[i].incarnation;
                c->loads[n++] = load;
            }
        }
    }
    table->n_busy = n;
    table->busy = n > 0 ? c->busy : NULL;
    table->loads = n > 0 ? c->loads : NULL;
}

void pc_load_learn(struct pc_cluster *c, const struct pc_msg_table *table,
                   uint64_t from)
{
    size_t teller = pc_table_find(c, from);
    /* A master knows it from themselves. */
    if (c->am_master || teller == NOBODY || !c->watches[teller].is_master ||
        table->more) {
        return;
    }
    for (size_t i = 1; i < c->n_members; i++) {
        c->watches[i].load = 0;
    }
    for (uint32_t i = 0; i < table->n_busy; i++) {
        size_t at = pc_table_find(c, table->busy[i]);
        if (at != NOBODY && at != SELF) {
            c->watches[at].load = table->loads[i];
        }
    }
}
