#include "topology.h"

#include "base/mem.h"

#include <hwloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* ---- Loading ---------------------------------------------------------- */

/* Parts of hwloc that open drivers of accelerators or displays: the program
 * that we are in uses them itself, and a library beside it must not. And the
 * one that runs on each CPU in turn to ask it about itself, and the one that
 * reads PCI by a library that leaks, where the system's files say the same. */
static const char *const unwanted[] = {"cuda",      "nvml", "rsmi", "opencl",
                                       "levelzero", "gl",   "x86",  "pci"};

/* hwloc asks libudev about devices, and that has state of its process that it
 * sets without a lock. Nodes of one process look one after the other. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static bool set_source(hwloc_topology_t h,
                       const struct pc_topology_source *source)
{
    unsigned long flags = HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED;
    for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++) {
        /* One that this hwloc does not have is an error that is none. */
        (void)hwloc_topology_set_components(
            h, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, unwanted[i]);
    }
    if (source->xml != NULL &&
        hwloc_topology_set_xmlbuffer(h, source->xml,
                                     (int)strlen(source->xml) + 1) != 0) {
        return false;
    }
    if (source->synthetic != NULL &&
        hwloc_topology_set_synthetic(h, source->synthetic) != 0) {
        return false;
    }
    /* NUMA nodes and CPUs are always there; of the rest, what groups CPUs
     * around a node, and devices. */
    (void)hwloc_topology_set_all_types_filter(h, HWLOC_TYPE_FILTER_KEEP_NONE);
    (void)hwloc_topology_set_type_filter(h, HWLOC_OBJ_PACKAGE,
                                         HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
    (void)hwloc_topology_set_type_filter(h, HWLOC_OBJ_GROUP,
                                         HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
    (void)hwloc_topology_set_io_types_filter(h,
                                             HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    return hwloc_topology_set_flags(h, flags) == 0;
}

static bool read_list(const char *text, hwloc_bitmap_t set)
{
    struct pc_cpus list;
    if (!pc_cpus_parse(text, &list)) {
        return false;
    }
    for (unsigned i = 0; i < PC_CPUS_MAX; i++) {
        if (pc_cpus_has(&list, i)) {
            (void)hwloc_bitmap_set(set, i);
        }
    }
    return true;
}

/* As a container's cpuset does it. */
static bool restrict_to(hwloc_topology_t h,
                        const struct pc_topology_source *source)
{
    if (source->allowed_cpus == NULL && source->allowed_nodes == NULL) {
        return true;
    }
    hwloc_bitmap_t cpus = hwloc_bitmap_alloc();
    hwloc_bitmap_t nodes = hwloc_bitmap_alloc();
    bool done =
        cpus != NULL && nodes != NULL &&
        (source->allowed_cpus == NULL ||
         read_list(source->allowed_cpus, cpus)) &&
        (source->allowed_nodes == NULL ||
         read_list(source->allowed_nodes, nodes)) &&
        hwloc_topology_allow(h, source->allowed_cpus != NULL ? cpus : NULL,
                             source->allowed_nodes != NULL ? nodes : NULL,
                             HWLOC_ALLOW_FLAG_CUSTOM) == 0;
    hwloc_bitmap_free(cpus);
    hwloc_bitmap_free(nodes);
    return done;
}

/* ---- Taking what we need ---------------------------------------------- */

static void copy_cpus(hwloc_const_bitmap_t set, struct pc_cpus *cpus)
{
    memset(cpus, 0, sizeof(*cpus));
    if (set == NULL) {
        return;
    }
    for (int i = hwloc_bitmap_first(set); i >= 0 && i < PC_CPUS_MAX;
         i = hwloc_bitmap_next(set, i)) {
        pc_cpus_add(cpus, (unsigned)i);
    }
}

static bool take_nodes(hwloc_topology_t h, struct pc_topology *t)
{
    hwloc_const_nodeset_t allowed = hwloc_topology_get_allowed_nodeset(h);
    int n = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_NUMANODE);
    t->nodes = pc_alloc(n > 0 ? (size_t)n : 1, sizeof(*t->nodes));
    if (t->nodes == NULL) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        hwloc_obj_t object =
            hwloc_get_obj_by_type(h, HWLOC_OBJ_NUMANODE, (unsigned)i);
        struct pc_place_node *node = &t->nodes[t->n_nodes++];
        node->number = object->os_index;
        node->is_allowed = hwloc_bitmap_isset(allowed, object->os_index) == 1;
        node->has_memory = object->attr->numanode.local_memory > 0;
        copy_cpus(object->cpuset, &node->cpus);
    }
    return true;
}

static void name_bus(hwloc_obj_t object, char *bus, size_t len)
{
    for (; object != NULL; object = object->parent) {
        if (object->type == HWLOC_OBJ_PCI_DEVICE) {
            const struct hwloc_pcidev_attr_s *pci = &object->attr->pcidev;
            (void)snprintf(bus, len, "%04x:%02x:%02x.%01x",
                           (unsigned)pci->domain, (unsigned)pci->bus,
                           (unsigned)pci->dev, (unsigned)pci->func);
            return;
        }
    }
}

static int node_of(hwloc_topology_t h, hwloc_obj_t object)
{
    hwloc_obj_t at = hwloc_get_non_io_ancestor_obj(h, object);
    return at != NULL && hwloc_bitmap_weight(at->nodeset) == 1
               ? hwloc_bitmap_first(at->nodeset)
               : -1;
}

static bool take_devices(hwloc_topology_t h, struct pc_topology *t)
{
    int n = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_OS_DEVICE);
    t->devices = pc_alloc(n > 0 ? (size_t)n : 1, sizeof(*t->devices));
    if (t->devices == NULL) {
        return false;
    }
    hwloc_obj_t object = NULL;
    while ((object = hwloc_get_next_osdev(h, object)) != NULL &&
           t->n_devices < (size_t)n) {
        bool is_rdma = object->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS;
        if (object->name == NULL ||
            (!is_rdma && object->attr->osdev.type != HWLOC_OBJ_OSDEV_NETWORK)) {
            continue;
        }
        struct pc_place_device *device = &t->devices[t->n_devices++];
        (void)snprintf(device->name, sizeof(device->name), "%s", object->name);
        device->is_rdma = is_rdma;
        device->numa_node = node_of(h, object);
        name_bus(object, device->bus, sizeof(device->bus));
    }
    return true;
}

static bool load(const struct pc_topology_source *source, struct pc_topology *t)
{
    hwloc_topology_t h;
    if (hwloc_topology_init(&h) != 0) {
        return false;
    }
    bool loaded = set_source(h, source) && hwloc_topology_load(h) == 0 &&
                  restrict_to(h, source) && take_nodes(h, t) &&
                  take_devices(h, t);
    if (loaded) {
        copy_cpus(hwloc_topology_get_allowed_cpuset(h), &t->allowed);
        t->is_this_machine = hwloc_topology_is_thissystem(h) != 0;
    } else {
        pc_topology_fini(t);
    }
    hwloc_topology_destroy(h);
    return loaded;
}

bool pc_topology_load(const struct pc_topology_source *source,
                      struct pc_topology *t)
{
    memset(t, 0, sizeof(*t));
    (void)pthread_mutex_lock(&one_at_a_time);
    bool loaded = load(source, t);
    (void)pthread_mutex_unlock(&one_at_a_time);
    return loaded;
}

void pc_topology_fini(struct pc_topology *t)
{
    pc_free(t->nodes);
    pc_free(t->devices);
    memset(t, 0, sizeof(*t));
}

/* ---- Looking ---------------------------------------------------------- */

const struct pc_place_node *pc_topology_node(const struct pc_topology *t,
                                             unsigned number)
{
    for (size_t i = 0; i < t->n_nodes; i++) {
        if (t->nodes[i].number == number) {
            return &t->nodes[i];
        }
    }
    return NULL;
}

const struct pc_place_device *pc_topology_device(const struct pc_topology *t,
                                                 const char *name)
{
    for (size_t i = 0; i < t->n_devices; i++) {
        if (strcmp(t->devices[i].name, name) == 0) {
            return &t->devices[i];
        }
    }
    return NULL;
}
