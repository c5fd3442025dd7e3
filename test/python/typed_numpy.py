"""Checked by mypy --strict where numpy is: arrays are values and buffers."""

import numpy as np

import peercache


def use(node: peercache.Node) -> list[bool]:
    page = np.zeros((2, 8), dtype=np.float32)
    node.put(["a", "b"], [page, [page[0], page[1]]])
    node.register(page)
    return node.get_into(["a"], [page])
