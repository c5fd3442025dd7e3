/*
 * topo_xml.h - topologies as lstopo writes them, for machines that we do not
 * have: so many NUMA nodes of four CPUs each, with devices at them.
 */
#ifndef PC_TEST_TOPO_XML_H
#define PC_TEST_TOPO_XML_H

#include "base/text.h"

struct topo_device
{
    const char *name;
    bool is_rdma;
    int node; /* -1: at the machine, near to no node in particular. */
};

void topo_xml(struct pc_text *text, unsigned n_nodes,
              const struct topo_device *devices, size_t n_devices);

#endif /* PC_TEST_TOPO_XML_H */
