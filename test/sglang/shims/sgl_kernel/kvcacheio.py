"""Copies between device and host pools, under the name that SGLang 0.5.6 imports."""

from typing import Any

from sglang_shims.copies import COPIES


def __getattr__(name: str) -> Any:
    try:
        return COPIES[name]
    except KeyError:
        raise AttributeError(name) from None
