/*
 * page_group.h - one group of run_pages: keys of one name space, and the
 * pages of memory that belong to them.
 *
 * A group is a batch that was filled from numbers instead of from Python
 * buffers: nothing of the memory is held. All functions need the GIL.
 */
#ifndef PC_PY_PAGE_GROUP_H
#define PC_PY_PAGE_GROUP_H

#include "python.h"

#include <peercache/peercache.h>

#include "batch.h"

#include <stdbool.h>

struct pc_page_group
{
    PyObject *tuple; /* (namespace, keys, memory): keeps the name space. */
    struct pc_batch batch;
    peercache_op_params_t params;
};

/*
 * Parse (namespace, keys, memory) into a group of zeros; the options common
 * to all groups come in params. with_memory: put and get, whose memory is
 * (PageTable, slots) or (sizes, pointers); otherwise it is None. -1 with an
 * exception set; pc_page_group_fini is due either way.
 */
int pc_page_group_init(struct pc_page_group *group, PyObject *object,
                       const peercache_op_params_t *params, bool with_memory);
void pc_page_group_fini(struct pc_page_group *group);

/* A list with the number of each key's status. */
PyObject *pc_page_group_result(const struct pc_page_group *group);

#endif /* PC_PY_PAGE_GROUP_H */
