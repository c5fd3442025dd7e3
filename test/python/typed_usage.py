"""Checked by mypy --strict; shows every method with its types."""

import array

import peercache


def use(node: peercache.Node) -> None:
    keys: list[str] = ["a", "b"]
    stored: list[bool] = node.put(keys, [b"1", bytearray(b"2")], namespace="n", chain=True)
    node.put((b"c",), [[b"1", memoryview(b"2"), (4096, 16)]], timeout=1.5)
    buffers = [bytearray(1), bytearray(1)]
    found: list[bool] = node.get_into(keys, buffers)
    node.get_into(iter(keys), [array.array("d", [0.0]), (4096, 16)])
    value: bytes | None = node.get("a")
    n: int = node.match([b"a", "b"])
    gone: list[bool] = node.remove(keys) + node.exists(keys)
    gone.append(node.clear(timeout=1.0) == n)
    gone.append(node.drain(timeout=0) or node.drain("other"))
    with node.register(bytearray(16)) as handle:
        address: int = handle.address
    print(stored, found, value, n, gone, address, node.stats()["info"], node.closed)


def main() -> None:
    try:
        with peercache.Node(discovery_addr="127.0.0.1:1", vnodes=40, spin=0.5) as node:
            node.wait_ready(1)
            use(node)
    except peercache.ConfigError as error:
        print(error.status.name)
