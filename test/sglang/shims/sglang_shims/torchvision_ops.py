"""Operators that the torchvision wheel, built for CUDA, misses beside a CPU torch."""

from typing import Any

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[Any] = []  # An operator lives as long as its library object.


def define() -> None:
    """Declare them, so that torchvision can be imported; none of them is ever called."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    _libraries.append(library)
    for name in ("nms", "qnms"):
        try:
            library.define(name + _SCHEMA)
        except RuntimeError:
            pass  # Defined already: this torchvision fits its torch.
