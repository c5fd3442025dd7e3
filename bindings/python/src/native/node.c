#include "node.h"

#include "args.h"
#include "docs.h"
#include "errors.h"
#include "pages.h"
#include "registration.h"
#include "verbs.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long wait_ready stays away from signals and from close. */
#define WAIT_SLICE_NS  50000000u
#define DRAIN_SLICE_NS 1000000000u
#define DRAIN_NS       60000000000u

int pc_node_enter(struct pc_node_object *self)
{
    if (self->state != PC_NODE_OPEN) {
        (void)pc_errors_raise_closed();
        return -1;
    }
    self->n_calls++;
    return 0;
}

void pc_node_leave(struct pc_node_object *self)
{
    self->n_calls--;
    if (self->n_calls == 0 && self->state == PC_NODE_CLOSING) {
        pc_node_wake(self);
    }
}

void pc_node_wake(struct pc_node_object *self)
{
    (void)pthread_mutex_lock(&self->lock);
    self->ticket++;
    (void)pthread_cond_broadcast(&self->changed);
    (void)pthread_mutex_unlock(&self->lock);
}

void pc_node_sleep(struct pc_node_object *self)
{
    uint64_t ticket = self->ticket;
    Py_BEGIN_ALLOW_THREADS(void) pthread_mutex_lock(&self->lock);
    while (self->ticket == ticket) {
        (void)pthread_cond_wait(&self->changed, &self->lock);
    }
    (void)pthread_mutex_unlock(&self->lock);
    Py_END_ALLOW_THREADS
}

/* In a child of a fork the node is only a picture of its parent's: nothing of
 * it runs there, so nothing of it can be stopped there. */
static bool is_in_child(const struct pc_node_object *self)
{
    return getpid() != self->pid;
}

void pc_node_release(struct pc_node_object *self, struct pc_reg *reg)
{
    reg->closing = true;
    if (!is_in_child(self)) {
        while (reg->n_users > 0) {
            pc_node_sleep(self);
        }
        Py_BEGIN_ALLOW_THREADS peercache_mem_deregister(reg->mem);
        Py_END_ALLOW_THREADS
    }
    pc_hold_fini(&reg->hold);
    free(reg);
}

/* Stop the node and give back its memory; no call is inside any more. */
static void stop(struct pc_node_object *self)
{
    struct pc_reg *reg;
    while ((reg = pc_regs_take(&self->regs, 0)) != NULL) {
        pc_node_release(self, reg);
    }
    if (!is_in_child(self)) {
        peercache_node_t *node = self->node;
        Py_BEGIN_ALLOW_THREADS peercache_node_destroy(node);
        Py_END_ALLOW_THREADS
    }
    self->node = NULL;
    self->state = PC_NODE_CLOSED;
}

static PyObject *node_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct pc_node_object *self = (struct pc_node_object *)object;
    if (self->state == PC_NODE_OPEN) {
        self->state = PC_NODE_CLOSING;
        while (self->n_calls > 0 && !is_in_child(self)) {
            pc_node_sleep(self);
        }
        stop(self);
        if (!is_in_child(self)) {
            pc_node_wake(self);
        }
    }
    /* Another thread closes: closed means closed for both. */
    while (self->state == PC_NODE_CLOSING && !is_in_child(self)) {
        pc_node_sleep(self);
    }
    Py_RETURN_NONE;
}

/* Keep the lines of the configuration's last error; -1 with an exception. */
static int add_reasons(PyObject *reasons, const peercache_config_t *config)
{
    PyObject *text = PyUnicode_DecodeUTF8(
        peercache_config_error(config),
        (Py_ssize_t)strlen(peercache_config_error(config)), "replace");
    int result = text == NULL ? -1 : PyList_Append(reasons, text);
    Py_XDECREF(text);
    return result;
}

/* Apply a dict of str to str; failures go to reasons, -1 is an exception. */
static int apply(peercache_config_t *config, PyObject *settings,
                 PyObject *reasons)
{
    PyObject *name;
    PyObject *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(settings, &at, &name, &value)) {
        const char *name_text = PyUnicode_AsUTF8AndSize(name, NULL);
        const char *value_text =
            name_text == NULL ? NULL : PyUnicode_AsUTF8AndSize(value, NULL);
        if (value_text == NULL) {
            return -1;
        }
        if (peercache_config_set(config, name_text, value_text) !=
                PEERCACHE_OK &&
            add_reasons(reasons, config) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Environment, then the settings, then the check of all; -1 is an exception.
 * Nothing opens before everything is right. */
static int configure(peercache_config_t *config, PyObject *settings,
                     PyObject *reasons)
{
    if (peercache_config_from_env(config) != PEERCACHE_OK &&
        add_reasons(reasons, config) != 0) {
        return -1;
    }
    if (apply(config, settings, reasons) != 0) {
        return -1;
    }
    if (peercache_config_check(config) != PEERCACHE_OK &&
        add_reasons(reasons, config) != 0) {
        return -1;
    }
    if (PyList_Size(reasons) > 0) {
        (void)pc_errors_raise_config(reasons);
        return -1;
    }
    return 0;
}

/* Create the node, or raise with the configuration's text. */
static int start(struct pc_node_object *self, peercache_config_t *config,
                 PyObject *reasons)
{
    peercache_status_t status;
    peercache_node_t *node = NULL;
    Py_BEGIN_ALLOW_THREADS status = peercache_node_create(config, &node);
    Py_END_ALLOW_THREADS if (status == PEERCACHE_OK)
    {
        self->node = node;
        self->pid = getpid();
        self->state = PC_NODE_OPEN;
        return 0;
    }
    const char *text = peercache_config_error(config);
    if (status == PEERCACHE_INVALID && add_reasons(reasons, config) == 0) {
        (void)pc_errors_raise_config(reasons);
    } else if (status != PEERCACHE_INVALID) {
        (void)pc_errors_raise(status, *text != '\0' ? text : "Node");
    }
    return -1;
}

static int node_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    struct pc_node_object *self = (struct pc_node_object *)object;
    PyObject *settings =
        PyTuple_Size(args) == 1 ? PyTuple_GetItem(args, 0) : NULL;
    if (settings == NULL || !PyDict_Check(settings) || kwargs != NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "NodeBase() takes a dict of settings as texts");
        return -1;
    }
    if (self->state != PC_NODE_NEW) {
        PyErr_SetString(PyExc_RuntimeError, "a node is initialized once");
        return -1;
    }
    peercache_config_t *config;
    if (peercache_config_create(&config) != PEERCACHE_OK) {
        (void)PyErr_NoMemory();
        return -1;
    }
    int result = -1;
    PyObject *reasons = PyList_New(0);
    if (reasons != NULL && configure(config, settings, reasons) == 0) {
        result = start(self, config, reasons);
    }
    Py_XDECREF(reasons);
    peercache_config_destroy(config);
    return result;
}

static PyObject *node_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct pc_node_object *self = (struct pc_node_object *)alloc(type, 0);
    if (self != NULL) {
        (void)pthread_mutex_init(&self->lock, NULL);
        (void)pthread_cond_init(&self->changed, NULL);
    }
    return (PyObject *)self;
}

static void node_dealloc(PyObject *object)
{
    struct pc_node_object *self = (struct pc_node_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (self->state == PC_NODE_OPEN) {
        stop(self);
    }
    pc_regs_fini(&self->regs);
    (void)pthread_cond_destroy(&self->changed);
    (void)pthread_mutex_destroy(&self->lock);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static int node_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct pc_node_object *self = (struct pc_node_object *)object;
    Py_VISIT(Py_TYPE(object));
    for (size_t i = 0; i < self->regs.n; i++) {
        const struct pc_hold *hold = &self->regs.at[i]->hold;
        Py_VISIT(hold->owner != NULL ? hold->owner : hold->view.obj);
    }
    return 0;
}

/* One slice of a wait; TIMED_OUT goes on. */
static int wait_slice(struct pc_node_object *self, uint64_t slice_ns,
                      peercache_status_t *status_p)
{
    if (pc_node_enter(self) != 0) {
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS *status_p =
        peercache_node_wait_ready(self->node, slice_ns);
    Py_END_ALLOW_THREADS pc_node_leave(self);
    return PyErr_CheckSignals();
}

static PyObject *node_wait_ready(PyObject *object, PyObject *const *args,
                                 Py_ssize_t n_args, PyObject *kw_names)
{
    static const struct pc_signature signature = {
        "wait_ready", 1, 0, {"timeout", NULL}};
    struct pc_node_object *self = (struct pc_node_object *)object;
    PyObject *values[PC_ARGS_MAX];
    uint64_t left_ns;
    peercache_status_t status;
    if (pc_args_parse(&signature, args, n_args, kw_names, values) != 0 ||
        pc_args_seconds(values[0], UINT64_MAX, &left_ns) != 0) {
        return NULL;
    }
    do {
        uint64_t slice_ns = left_ns < WAIT_SLICE_NS ? left_ns : WAIT_SLICE_NS;
        if (wait_slice(self, slice_ns, &status) != 0) {
            return NULL;
        }
        left_ns -= left_ns == UINT64_MAX ? 0 : slice_ns;
    } while (status == PEERCACHE_TIMED_OUT && left_ns > 0);
    if (status != PEERCACHE_OK) {
        return pc_errors_raise(status, "wait_ready");
    }
    Py_RETURN_TRUE;
}

static PyObject *node_clear(PyObject *object, PyObject *const *args,
                            Py_ssize_t n_args, PyObject *kw_names)
{
    static const struct pc_signature signature = {
        "clear", 0, 0, {"timeout", NULL}};
    struct pc_node_object *self = (struct pc_node_object *)object;
    PyObject *values[PC_ARGS_MAX];
    peercache_op_params_t params;
    uint64_t n_removed;
    peercache_status_t status;
    if (pc_args_parse(&signature, args, n_args, kw_names, values) != 0 ||
        pc_args_options(NULL, values[0], NULL, &params) != 0 ||
        pc_node_enter(self) != 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS status =
        peercache_node_clear(self->node, params.timeout_ns, &n_removed);
    Py_END_ALLOW_THREADS pc_node_leave(self);
    if (status != PEERCACHE_OK) {
        return pc_errors_raise(status, "clear");
    }
    return PyLong_FromUnsignedLongLong(n_removed);
}

/* One slice of a drain; TIMED_OUT goes on. */
static int drain_slice(struct pc_node_object *self, const char *node_id,
                       uint64_t slice_ns, peercache_status_t *status_p)
{
    if (pc_node_enter(self) != 0) {
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS *status_p =
        peercache_node_drain(self->node, node_id, slice_ns);
    Py_END_ALLOW_THREADS pc_node_leave(self);
    return PyErr_CheckSignals();
}

static PyObject *node_drain(PyObject *object, PyObject *const *args,
                            Py_ssize_t n_args, PyObject *kw_names)
{
    static const struct pc_signature signature = {
        "drain", 1, 0, {"node_id", "timeout", NULL}};
    struct pc_node_object *self = (struct pc_node_object *)object;
    PyObject *values[PC_ARGS_MAX];
    const char *node_id = NULL;
    uint64_t left_ns;
    peercache_status_t status;
    if (pc_args_parse(&signature, args, n_args, kw_names, values) != 0 ||
        pc_args_seconds(values[1], values[1] == NULL ? DRAIN_NS : UINT64_MAX,
                        &left_ns) != 0) {
        return NULL;
    }
    if (values[0] != NULL && values[0] != Py_None) {
        Py_ssize_t len;
        node_id = PyUnicode_AsUTF8AndSize(values[0], &len);
        if (node_id == NULL) {
            return NULL;
        }
        if (strlen(node_id) != (size_t)len) {
            PyErr_SetString(PyExc_ValueError, "node_id holds a zero byte");
            return NULL;
        }
    }
    do {
        uint64_t slice_ns = left_ns < DRAIN_SLICE_NS ? left_ns : DRAIN_SLICE_NS;
        if (drain_slice(self, node_id, slice_ns, &status) != 0) {
            return NULL;
        }
        left_ns -= left_ns == UINT64_MAX ? 0 : slice_ns;
    } while (
        (status == PEERCACHE_TIMED_OUT || status == PEERCACHE_UNREACHABLE) &&
        left_ns > 0);
    if (status != PEERCACHE_OK && status != PEERCACHE_TIMED_OUT &&
        status != PEERCACHE_IN_PROGRESS) {
        return pc_errors_raise(status, "drain");
    }
    return PyBool_FromLong(status == PEERCACHE_OK);
}

/* A text that the library allocated, as str; frees it. */
static PyObject *take_text(peercache_status_t status, char *text,
                           const char *what)
{
    if (status != PEERCACHE_OK) {
        return pc_errors_raise(status, what);
    }
    PyObject *object =
        PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    peercache_free(text);
    return object;
}

static PyObject *node_metrics(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct pc_node_object *self = (struct pc_node_object *)object;
    char *text = NULL;
    peercache_status_t status;
    if (pc_node_enter(self) != 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS status = peercache_node_metrics(self->node, &text);
    Py_END_ALLOW_THREADS pc_node_leave(self);
    return take_text(status, text, "metrics");
}

static PyObject *node_info(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct pc_node_object *self = (struct pc_node_object *)object;
    char *text = NULL;
    peercache_status_t status;
    if (pc_node_enter(self) != 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS status = peercache_node_info(self->node, &text);
    Py_END_ALLOW_THREADS pc_node_leave(self);
    return take_text(status, text, "info");
}

static PyObject *node_explain(PyObject *object, PyObject *const *args,
                              Py_ssize_t n_args, PyObject *kw_names)
{
    static const struct pc_signature signature = {
        "explain_text", 1, 1, {"key", "namespace", NULL}};
    struct pc_node_object *self = (struct pc_node_object *)object;
    PyObject *values[PC_ARGS_MAX];
    peercache_op_params_t params;
    const void *key;
    size_t key_len;
    char *text = NULL;
    peercache_status_t status;
    if (pc_args_parse(&signature, args, n_args, kw_names, values) != 0 ||
        pc_args_options(values[1], NULL, NULL, &params) != 0 ||
        pc_args_bytes(values[0], "key", -1, 1, PEERCACHE_KEY_MAX, &key,
                      &key_len) != 0 ||
        pc_node_enter(self) != 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS status =
        peercache_node_explain(self->node, params.name_space,
                               params.name_space_len, key, key_len, &text);
    Py_END_ALLOW_THREADS pc_node_leave(self);
    return take_text(status, text, "explain");
}

static PyObject *node_closed(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((struct pc_node_object *)object)->state !=
                           PC_NODE_OPEN);
}

/* What PyMethodDef wants for a function of another shape. */
#define FAST(function)                                                         \
    (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS

static PyMethodDef methods[] = {
    {"wait_ready", FAST(node_wait_ready), PC_DOC_WAIT_READY},
    {"put", FAST(pc_verbs_put), PC_DOC_PUT},
    {"get_into", FAST(pc_verbs_get_into), PC_DOC_GET_INTO},
    {"get", FAST(pc_verbs_get), PC_DOC_GET},
    {"exists", FAST(pc_verbs_exists), PC_DOC_EXISTS},
    {"match", FAST(pc_verbs_match), PC_DOC_MATCH},
    {"remove", FAST(pc_verbs_remove), PC_DOC_REMOVE},
    {"run_pages", FAST(pc_pages_run), PC_DOC_RUN_PAGES},
    {"clear", FAST(node_clear), PC_DOC_CLEAR},
    {"drain", FAST(node_drain), PC_DOC_DRAIN},
    {"register", FAST(pc_registration_new), PC_DOC_REGISTER},
    {"metrics_text", node_metrics, METH_NOARGS, PC_DOC_METRICS_TEXT},
    {"info_text", node_info, METH_NOARGS, PC_DOC_INFO_TEXT},
    {"explain_text", FAST(node_explain), PC_DOC_EXPLAIN_TEXT},
    {"close", node_close, METH_NOARGS, PC_DOC_CLOSE},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"closed", node_closed, NULL, "True once close was called.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, node_new},
    {Py_tp_init, node_init},
    {Py_tp_dealloc, node_dealloc},
    {Py_tp_traverse, node_traverse},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "peercache._native.NodeBase",
    .basicsize = sizeof(struct pc_node_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int pc_node_add_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int result =
        type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return result;
}
