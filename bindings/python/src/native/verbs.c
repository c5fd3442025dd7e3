#include "verbs.h"

#include "args.h"
#include "batch.h"
#include "errors.h"
#include "node.h"

#include <string.h>

/* Names of the arguments of a verb without and with values. */
#define OPTIONS "namespace", "timeout", "chain", NULL
static const struct pc_signature put_signature = {
    "put", 2, 2, {"keys", "values", OPTIONS}};
static const struct pc_signature get_into_signature = {
    "get_into", 2, 2, {"keys", "buffers", OPTIONS}};
static const struct pc_signature exists_signature = {
    "exists", 1, 1, {"keys", OPTIONS}};
static const struct pc_signature match_signature = {
    "match", 1, 1, {"keys", OPTIONS}};
static const struct pc_signature remove_signature = {
    "remove", 1, 1, {"keys", OPTIONS}};
static const struct pc_signature get_signature = {
    "get", 1, 1, {"key", "namespace", "timeout", NULL}};

/* Run a parsed batch inside the node; -1 with an exception set. */
static int run(struct pc_node_object *self, struct pc_batch *batch,
               pc_verb_fn verb, const peercache_op_params_t *params,
               const char *method)
{
    peercache_status_t status = PEERCACHE_OK;
    if (pc_node_enter(self) != 0) {
        return -1;
    }
    int result = pc_batch_pin(batch, &self->regs);
    if (result == 0) {
        status = pc_batch_run(batch, verb, self->node, params);
    }
    if (pc_batch_unpin(batch)) {
        pc_node_wake(self);
    }
    pc_node_leave(self);
    if (result == 0 && status != PEERCACHE_OK) {
        (void)pc_errors_raise(status, method);
        result = -1;
    }
    return result;
}

/* What a verb answers, from its batch. */
typedef PyObject *(*answer_fn)(const struct pc_batch *batch);

static PyObject *answer_leading(const struct pc_batch *batch)
{
    return PyLong_FromSize_t(pc_batch_leading(batch));
}

static PyObject *call(PyObject *object, PyObject *const *args,
                      Py_ssize_t n_args, PyObject *kw_names,
                      const struct pc_signature *signature, pc_verb_fn verb,
                      answer_fn answer)
{
    struct pc_node_object *self = (struct pc_node_object *)object;
    PyObject *values[PC_ARGS_MAX];
    peercache_op_params_t params;
    struct pc_batch batch;
    if (pc_args_parse(signature, args, n_args, kw_names, values) != 0) {
        return NULL;
    }
    Py_ssize_t n = signature->n_positional;
    if (pc_args_options(values[n], values[n + 1], values[n + 2], &params) !=
            0 ||
        pc_batch_init(&batch, values[0], n == 2 ? values[1] : NULL,
                      n == 2 ? signature->names[1] : NULL,
                      verb == peercache_get) != 0) {
        return NULL;
    }
    PyObject *result = NULL;
    if (run(self, &batch, verb, &params, signature->method) == 0) {
        result = answer(&batch);
    }
    pc_batch_fini(&batch);
    return result;
}

PyObject *pc_verbs_put(PyObject *self, PyObject *const *args, Py_ssize_t n_args,
                       PyObject *kw_names)
{
    return call(self, args, n_args, kw_names, &put_signature, peercache_put,
                pc_batch_result);
}

PyObject *pc_verbs_get_into(PyObject *self, PyObject *const *args,
                            Py_ssize_t n_args, PyObject *kw_names)
{
    return call(self, args, n_args, kw_names, &get_into_signature,
                peercache_get, pc_batch_result);
}

PyObject *pc_verbs_exists(PyObject *self, PyObject *const *args,
                          Py_ssize_t n_args, PyObject *kw_names)
{
    return call(self, args, n_args, kw_names, &exists_signature,
                peercache_exists, pc_batch_result);
}

PyObject *pc_verbs_match(PyObject *self, PyObject *const *args,
                         Py_ssize_t n_args, PyObject *kw_names)
{
    return call(self, args, n_args, kw_names, &match_signature,
                peercache_exists, answer_leading);
}

PyObject *pc_verbs_remove(PyObject *self, PyObject *const *args,
                          Py_ssize_t n_args, PyObject *kw_names)
{
    return call(self, args, n_args, kw_names, &remove_signature,
                peercache_remove, pc_batch_result);
}

/* One verb on one item; -1 with an exception: the item has no status. */
static int run_item(struct pc_node_object *self, pc_verb_fn verb,
                    peercache_item_t *item, const peercache_op_params_t *params)
{
    peercache_status_t status;
    Py_BEGIN_ALLOW_THREADS status = verb(self->node, item, 1, params, NULL);
    Py_END_ALLOW_THREADS if (status != PEERCACHE_OK &&
                             status != PEERCACHE_PARTIAL)
    {
        (void)pc_errors_raise(status, "get");
        return -1;
    }
    return 0;
}

/* Ask for the length, then for the bytes. None: a miss, and *again_p if the
 * value has another length by now. */
static PyObject *get_once(struct pc_node_object *self, const void *key,
                          size_t key_len, const peercache_op_params_t *params,
                          bool *again_p)
{
    peercache_item_t item = {.key = key, .key_len = key_len};
    *again_p = false;
    if (run_item(self, peercache_exists, &item, params) != 0) {
        return NULL;
    }
    if (item.status != PEERCACHE_OK) {
        Py_RETURN_NONE;
    }
    if (item.value_len > PY_SSIZE_T_MAX) {
        return PyErr_NoMemory();
    }
    PyObject *bytes =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)item.value_len);
    if (bytes == NULL) {
        return NULL;
    }
    peercache_piece_t piece = {PyBytes_AsString(bytes), item.value_len};
    item = (peercache_item_t){
        .key = key, .key_len = key_len, .pieces = &piece, .n_pieces = 1};
    int result = run_item(self, peercache_get, &item, params);
    if (result == 0 && item.status == PEERCACHE_OK) {
        return bytes;
    }
    Py_DECREF(bytes);
    if (result != 0) {
        return NULL;
    }
    *again_p = item.status == PEERCACHE_SIZE_MISMATCH;
    Py_RETURN_NONE;
}

PyObject *pc_verbs_get(PyObject *object, PyObject *const *args,
                       Py_ssize_t n_args, PyObject *kw_names)
{
    struct pc_node_object *self = (struct pc_node_object *)object;
    PyObject *values[PC_ARGS_MAX];
    peercache_op_params_t params;
    const void *key;
    size_t key_len;
    bool again;
    if (pc_args_parse(&get_signature, args, n_args, kw_names, values) != 0 ||
        pc_args_options(values[1], values[2], NULL, &params) != 0 ||
        pc_args_bytes(values[0], "key", -1, 1, PEERCACHE_KEY_MAX, &key,
                      &key_len) != 0 ||
        pc_node_enter(self) != 0) {
        return NULL;
    }
    PyObject *result = get_once(self, key, key_len, &params, &again);
    if (result != NULL && again) {
        Py_DECREF(result);
        result = get_once(self, key, key_len, &params, &again);
    }
    pc_node_leave(self);
    return result;
}
