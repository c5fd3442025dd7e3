#include "pages.h"

#include "args.h"
#include "errors.h"
#include "node.h"
#include "page_group.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How often and how long to wait when too many operations are in flight. Our
 * own are over by then; those of other threads may take longer than this, and
 * then the answer is AGAIN. */
#define TRIES_MAX    100
#define TRY_SLEEP_NS 100000

/* At most PC_BATCH_ITEMS_PER_OP items of one group: an operation. */
struct part
{
    struct pc_page_group *group;
    peercache_item_t *items;
    size_t n_items;
    peercache_op_t *op;
    peercache_status_t status;
};

struct pages
{
    pc_verb_fn verb;
    bool with_memory;
    size_t n_groups;
    struct pc_page_group *groups; /* Head of the one allocation. */
    size_t n_parts;
    struct part *parts;
};

/* ---- Without the GIL -------------------------------------------------- */

static void run_part(const struct pages *pages, peercache_node_t *node,
                     struct part *part)
{
    part->status = pages->verb(node, part->items, part->n_items,
                               &part->group->params, NULL);
}

static void start_part(const struct pages *pages, peercache_node_t *node,
                       struct part *part)
{
    part->status = pages->verb(node, part->items, part->n_items,
                               &part->group->params, &part->op);
}

static void end_part(struct part *part)
{
    if (part->op != NULL) {
        part->status = peercache_op_wait(part->op, UINT64_MAX);
        peercache_op_free(part->op);
        part->op = NULL;
    }
}

/* Nothing of ours is in flight: others are, or just were. */
static void run_again(const struct pages *pages, peercache_node_t *node,
                      struct part *part)
{
    const struct timespec nap = {.tv_nsec = TRY_SLEEP_NS};
    for (int i = 0; part->status == PEERCACHE_AGAIN && i < TRIES_MAX; i++) {
        (void)nanosleep(&nap, NULL);
        run_part(pages, node, part);
    }
}

/* What was refused as a whole has no status of its items. */
static void tell_items(struct part *part)
{
    if (part->status == PEERCACHE_OK || part->status == PEERCACHE_PARTIAL) {
        return;
    }
    for (size_t i = 0; i < part->n_items; i++) {
        part->items[i].status = part->status;
    }
}

/*
 * All parts at the same time. The first one runs in this thread: a blocking
 * call copies what is near by itself, and drives the engine for the others
 * meanwhile. Every operation has ended when this returns.
 */
static void run_parts(struct pages *pages, peercache_node_t *node)
{
    struct part *parts = pages->parts;
    for (size_t i = 1; i < pages->n_parts; i++) {
        start_part(pages, node, &parts[i]);
    }
    if (pages->n_parts > 0) {
        run_part(pages, node, &parts[0]);
    }
    for (size_t i = 1; i < pages->n_parts; i++) {
        end_part(&parts[i]);
    }
    for (size_t i = 0; i < pages->n_parts; i++) {
        run_again(pages, node, &parts[i]);
        tell_items(&parts[i]);
    }
}

/* ---- Arguments -------------------------------------------------------- */

static int parse_verb(PyObject *object, struct pages *pages)
{
    static const struct
    {
        const char *name;
        pc_verb_fn verb;
        bool with_memory;
    } verbs[] = {
        {"get", peercache_get, true},
        {"put", peercache_put, true},
        {"exists", peercache_exists, false},
        {"remove", peercache_remove, false},
    };
    size_t n = PyUnicode_Check(object) ? sizeof(verbs) / sizeof(verbs[0]) : 0;
    for (size_t i = 0; i < n; i++) {
        if (PyUnicode_CompareWithASCIIString(object, verbs[i].name) == 0) {
            pages->verb = verbs[i].verb;
            pages->with_memory = verbs[i].with_memory;
            return 0;
        }
    }
    PyErr_Format(n > 0 ? PyExc_ValueError : PyExc_TypeError,
                 "verb is %R, allowed are \"put\", \"get\", \"exists\" and "
                 "\"remove\"",
                 object);
    return -1;
}

/* Put the group's place before a message of ours. */
static void name_group(size_t index)
{
    PyObject *type;
    PyObject *value;
    PyObject *trace;
    PyErr_Fetch(&type, &value, &trace);
    if (type == PyExc_TypeError || type == PyExc_ValueError) {
        PyErr_Format(type, "groups[%zu] %S", index, value);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(trace);
    } else {
        PyErr_Restore(type, value, trace);
    }
}

static int parse_groups(struct pages *pages, PyObject *groups,
                        const peercache_op_params_t *params)
{
    size_t n = (size_t)PyTuple_Size(groups);
    pages->groups = calloc(n + 1, sizeof(*pages->groups));
    if (pages->groups == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        pages->n_groups++;
        if (pc_page_group_init(&pages->groups[i],
                               PyTuple_GetItem(groups, (Py_ssize_t)i), params,
                               pages->with_memory) != 0) {
            name_group(i);
            return -1;
        }
    }
    return 0;
}

static int make_parts(struct pages *pages)
{
    size_t n_parts = 0;
    for (size_t i = 0; i < pages->n_groups; i++) {
        n_parts +=
            (pages->groups[i].batch.n_items + PC_BATCH_ITEMS_PER_OP - 1) /
            PC_BATCH_ITEMS_PER_OP;
    }
    pages->parts = calloc(n_parts + 1, sizeof(*pages->parts));
    if (pages->parts == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < pages->n_groups; i++) {
        struct pc_batch *batch = &pages->groups[i].batch;
        for (size_t at = 0; at < batch->n_items; at += PC_BATCH_ITEMS_PER_OP) {
            struct part *part = &pages->parts[pages->n_parts++];
            size_t left = batch->n_items - at;
            part->group = &pages->groups[i];
            part->items = &batch->items[at];
            part->n_items =
                left < PC_BATCH_ITEMS_PER_OP ? left : PC_BATCH_ITEMS_PER_OP;
        }
    }
    return 0;
}

static void pages_fini(struct pages *pages)
{
    for (size_t i = 0; i < pages->n_groups; i++) {
        pc_page_group_fini(&pages->groups[i]);
    }
    free(pages->groups);
    free(pages->parts);
}

/* ---- The call --------------------------------------------------------- */

static int pin(struct pages *pages, const struct pc_regs *regs)
{
    for (size_t i = 0; i < pages->n_groups; i++) {
        if (pc_batch_pin(&pages->groups[i].batch, regs) != 0) {
            name_group(i);
            return -1;
        }
    }
    return 0;
}

static void unpin(struct pages *pages, struct pc_node_object *node)
{
    bool is_wanted = false;
    for (size_t i = 0; i < pages->n_groups; i++) {
        is_wanted = pc_batch_unpin(&pages->groups[i].batch) || is_wanted;
    }
    if (is_wanted) {
        pc_node_wake(node);
    }
}

static int run(struct pc_node_object *self, struct pages *pages)
{
    if (pc_node_enter(self) != 0) {
        return -1;
    }
    int result = pin(pages, &self->regs);
    if (result == 0) {
        peercache_node_t *node = self->node;
        Py_BEGIN_ALLOW_THREADS run_parts(pages, node);
        Py_END_ALLOW_THREADS
    }
    unpin(pages, self);
    pc_node_leave(self);
    return result;
}

static PyObject *answer(const struct pages *pages)
{
    PyObject *list = PyList_New((Py_ssize_t)pages->n_groups);
    for (size_t i = 0; list != NULL && i < pages->n_groups; i++) {
        PyObject *statuses = pc_page_group_result(&pages->groups[i]);
        if (statuses == NULL) {
            Py_CLEAR(list);
        } else {
            (void)PyList_SetItem(list, (Py_ssize_t)i, statuses);
        }
    }
    return list;
}

PyObject *pc_pages_run(PyObject *self, PyObject *const *args, Py_ssize_t n_args,
                       PyObject *kw_names)
{
    static const struct pc_signature signature = {
        "run_pages", 2, 2, {"verb", "groups", "timeout", "chain", NULL}};
    PyObject *values[PC_ARGS_MAX];
    peercache_op_params_t params;
    struct pages pages = {0};
    if (pc_args_parse(&signature, args, n_args, kw_names, values) != 0 ||
        pc_args_options(NULL, values[2], values[3], &params) != 0 ||
        parse_verb(values[0], &pages) != 0) {
        return NULL;
    }
    PyObject *groups = pc_args_tuple(values[1], "groups");
    if (groups == NULL) {
        return NULL;
    }
    PyObject *result = NULL;
    if (parse_groups(&pages, groups, &params) == 0 && make_parts(&pages) == 0 &&
        run((struct pc_node_object *)self, &pages) == 0) {
        result = answer(&pages);
    }
    pages_fini(&pages);
    Py_DECREF(groups);
    return result;
}
