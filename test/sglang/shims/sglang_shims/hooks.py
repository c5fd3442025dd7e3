"""Calls functions just before a module is imported, or just after it was executed."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Optional

_before: dict[str, Callable[[], None]] = {}
_after: list[tuple[str, Callable[[ModuleType], None]]] = []


def before_import(name: str, call: Callable[[], None]) -> None:
    """Run `call` once, before the module `name` is imported."""
    _before[name] = call
    _install()


def after_import(name: str, call: Callable[[ModuleType], None]) -> None:
    """Run `call` with the module `name`, and with each module below it, when executed."""
    _after.append((name, call))
    _install()


def _calls_after(name: str) -> list[Callable[[ModuleType], None]]:
    return [call for top, call in _after if name == top or name.startswith(top + ".")]


class _Loader(importlib.abc.Loader):
    """The real loader, and then the calls."""

    def __init__(self, real: Any, calls: list[Callable[[ModuleType], None]]) -> None:
        self._real = real
        self._calls = calls

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Optional[ModuleType]:
        module: Optional[ModuleType] = self._real.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        for call in self._calls:
            call(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        before = _before.pop(name, None)
        if before is not None:
            before()
        calls = _calls_after(name)
        if not calls:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, calls)
        return spec


def _install() -> None:
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
