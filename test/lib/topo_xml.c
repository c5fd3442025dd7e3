#include "topo_xml.h"

#define CPUS_A_NODE 4

/* Numbers that each object has its own of. */
struct counter
{
    struct pc_text *text;
    unsigned next;
};

static void add_sets(struct pc_text *text, uint64_t cpus, uint64_t nodes)
{
    pc_text_add(text,
                " cpuset=\"0x%08x,0x%08x\" complete_cpuset=\"0x%08x,0x%08x\""
                " nodeset=\"0x%08x\" complete_nodeset=\"0x%08x\"",
                (unsigned)(cpus >> 32), (unsigned)cpus, (unsigned)(cpus >> 32),
                (unsigned)cpus, (unsigned)nodes, (unsigned)nodes);
}

static void add_device(struct counter *c, const struct topo_device *device,
                       unsigned bus)
{
    pc_text_add(c->text,
                "<object type=\"Bridge\" gp_index=\"%u\" bridge_type=\"0-1\" "
                "depth=\"0\" bridge_pci=\"0000:[%02x-%02x]\">"
                "<object type=\"PCIDev\" gp_index=\"%u\" "
                "pci_busid=\"0000:%02x:00.0\" pci_type=\"%s [15b3:101b] "
                "[15b3:0007] 00\" pci_link_speed=\"0.000000\">"
                "<object type=\"OSDev\" gp_index=\"%u\" name=\"%s\" "
                "osdev_type=\"%d\"/></object></object>\n",
                c->next, bus, bus, c->next + 1, bus,
                device->is_rdma ? "0207" : "0200", c->next + 2, device->name,
                device->is_rdma ? 3 : 2);
    c->next += 3;
}

static void add_devices(struct counter *c, int node,
                        const struct topo_device *devices, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (devices[i].node == node) {
            add_device(c, &devices[i], (unsigned)i + 1);
        }
    }
}

static void add_node(struct counter *c, unsigned node,
                     const struct topo_device *devices, size_t n)
{
    uint64_t cpus = (uint64_t)0xf << (node * CPUS_A_NODE);
    pc_text_add(c->text, "<object type=\"Package\" os_index=\"%u\"", node);
    add_sets(c->text, cpus, 1u << node);
    pc_text_add(c->text, " gp_index=\"%u\">\n<object type=\"NUMANode\" ",
                c->next++);
    pc_text_add(c->text, "os_index=\"%u\" local_memory=\"1073741824\" ", node);
    add_sets(c->text, cpus, 1u << node);
    pc_text_add(c->text, " gp_index=\"%u\"/>\n", c->next++);
    for (unsigned i = 0; i < CPUS_A_NODE; i++) {
        unsigned cpu = node * CPUS_A_NODE + i;
        pc_text_add(c->text, "<object type=\"PU\" os_index=\"%u\"", cpu);
        add_sets(c->text, (uint64_t)1 << cpu, 1u << node);
        pc_text_add(c->text, " gp_index=\"%u\"/>\n", c->next++);
    }
    add_devices(c, (int)node, devices, n);
    pc_text_add(c->text, "</object>\n");
}

void topo_xml(struct pc_text *text, unsigned n_nodes,
              const struct topo_device *devices, size_t n_devices)
{
    struct counter c = {.text = text, .next = 2};
    unsigned n_cpus = n_nodes * CPUS_A_NODE;
    uint64_t cpus = n_cpus >= 64 ? UINT64_MAX : ((uint64_t)1 << n_cpus) - 1;
    uint64_t nodes = ((uint64_t)1 << n_nodes) - 1;
    pc_text_add(text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                      "<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n"
                      "<topology version=\"2.0\">\n"
                      "<object type=\"Machine\" os_index=\"0\"");
    add_sets(text, cpus, nodes);
    pc_text_add(text,
                " allowed_cpuset=\"0x%08x,0x%08x\" "
                "allowed_nodeset=\"0x%08x\" gp_index=\"1\">\n",
                (unsigned)(cpus >> 32), (unsigned)cpus, (unsigned)nodes);
    for (unsigned node = 0; node < n_nodes; node++) {
        add_node(&c, node, devices, n_devices);
    }
    add_devices(&c, -1, devices, n_devices);
    pc_text_add(text, "</object>\n</topology>\n");
}
