"""Stand-in for the package of CUDA kernels: every name is there, none can be called."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"sgl_kernel.{name} exists on CUDA only")

    missing.__name__ = name
    return missing
