"""Put a page on one node, read it on another. Two nodes in one process stand
for two servers; elsewhere each has its own, with the same discovery_addr."""

import sys

import peercache

seed = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:31998"
settings = dict(
    discovery_addr=seed,
    global_segment_size="64mb",
    region_size="64mb",
    disk_enabled=False,
    metrics_enabled=False,
)

with (
    peercache.Node(node_id="py-writer", **settings) as writer,
    peercache.Node(node_id="py-reader", **settings) as reader,
):
    writer.wait_ready(10)
    reader.wait_ready(10)

    page = bytes(range(256)) * 512
    assert writer.put(["block-0"], [page]) == [True]

    target = bytearray(len(page))
    assert reader.match(["block-0", "block-1"]) == 1
    assert reader.get_into(["block-0"], [target]) == [True]
    assert target == page
    assert reader.get("block-1") is None
    print("ok")
