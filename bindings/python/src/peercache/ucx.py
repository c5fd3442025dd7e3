"""Which UCX this process uses: the system's, PyPI's package libucx, or none.

libpeercache_ucx.so, which the C library opens when a node starts, asks for
libucp.so.0 by that name. The dynamic linker gives it what the process has
loaded under the name already, else what it finds on the system. PyPI's package
lies where it does not look, so provide() loads it before the first node starts.

PEERCACHE_UCX in the environment chooses:

    auto     (default) what the process has loaded, else the system's, else PyPI's
    system   never PyPI's, unless the process has loaded it
    pypi     PyPI's, unless the process has loaded another
    none     no UCX: pages come from other nodes over their connections only

Importing this module loads nothing.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from peercache._native import load_ucx
from peercache.errors import from_reasons

log = logging.getLogger("peercache.ucx")

CHOICES = ("auto", "system", "pypi", "none")
VARIABLE = "PEERCACHE_UCX"

# Never unloaded: threads and exit functions of UCX stay. Local: other packages
# may bring a UCX of their own, whose symbols must not meet these.
_MODE = os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_NODELETE
_LIBRARY = "libucp.so.0"

# The C library opens what this names and nothing else: "none" is no module.
_MODULE_VARIABLE = "PEERCACHE_UCX_MODULE"


@dataclass(frozen=True)
class Ucx:
    """source: "system", "pypi" or "none"; version and path are "" with none."""

    source: str
    version: str = ""
    path: str = ""


_lock = threading.Lock()
_provided: Ucx | None = None


def provide() -> Ucx:
    """Load the chosen UCX, once a process; a later call tells what the first found.

    Where there is none, a warning names the ways to get one, and nodes work
    without mapped and one-sided reads. Raises ConfigError when PEERCACHE_UCX
    is none of CHOICES.
    """
    global _provided
    with _lock:
        if _provided is None:
            _provided = _find(_choice())
        return _provided


def _choice() -> str:
    choice = os.environ.get(VARIABLE) or "auto"
    if choice not in CHOICES:
        raise from_reasons([f"{VARIABLE}: {choice!r} is none of {', '.join(CHOICES)}"])
    return choice


def _find(choice: str) -> Ucx:
    if choice == "none":
        load_ucx("none")
        return Ucx("none")
    library = _load(choice)
    if library is None:
        _say_missing(choice)
        # Not even the system's, if the user chose PyPI's.
        if _MODULE_VARIABLE not in os.environ:
            load_ucx("none")
        return Ucx("none")
    path = _path_of(library)
    folder = _package_folder()
    is_pypi = folder is not None and folder.resolve() in path.parents
    if choice == "pypi" and not is_pypi:
        log.warning("the process had loaded UCX from %s before, which is used", path)
    return Ucx("pypi" if is_pypi else "system", _version_of(library), str(path))


def _load(choice: str) -> ctypes.CDLL | None:
    loaded = _loaded()
    if loaded is not None:
        return loaded
    places = {"auto": (_LIBRARY, _package_library()), "system": (_LIBRARY,)}
    for place in places.get(choice, (_package_library(),)):
        # Not by ctypes: the C library sees to it that UCX leaves this process
        # alone, and other threads' reading of the environment.
        if place is not None and load_ucx(place):
            return ctypes.CDLL(place, mode=_MODE | os.RTLD_NOLOAD)
    return None


def _loaded() -> ctypes.CDLL | None:
    """What the process has: a second UCX of the same names would get mixed with it."""
    try:
        return ctypes.CDLL(_LIBRARY, mode=_MODE | os.RTLD_NOLOAD)
    except OSError:
        return None


def _package_folder() -> Path | None:
    """Of PyPI's package libucx, which is not imported."""
    try:
        spec = importlib.util.find_spec("libucx")
    except (ImportError, ValueError):  # Somebody put a substitute into sys.modules.
        return None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _package_library() -> str | None:
    """Its libucp, which finds the others and its modules in its own folder."""
    folder = _package_folder()
    return None if folder is None else str(folder / "lib" / _LIBRARY)


def _say_missing(choice: str) -> None:
    where = {"auto": "UCX", "system": "UCX on the system", "pypi": "PyPI's package libucx"}
    log.warning(
        "%s is not found: pages from other nodes come over their connections, without mapped "
        "and one-sided reads. Install the system's UCX (Debian, Ubuntu: apt install libucx0) or "
        "PyPI's (pip install libucx-cu12), or set %s=none if this is as it should be",
        where[choice], VARIABLE,
    )  # fmt: skip


class _DlInfo(ctypes.Structure):
    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _path_of(library: ctypes.CDLL) -> Path:
    info = _DlInfo()
    address = ctypes.cast(library.ucp_get_version, ctypes.c_void_p)
    if ctypes.CDLL(None).dladdr(address, ctypes.byref(info)) == 0 or info.file is None:
        return Path(_LIBRARY)
    return Path(os.fsdecode(info.file)).resolve()


def _version_of(library: ctypes.CDLL) -> str:
    numbers = [ctypes.c_uint() for _ in range(3)]
    library.ucp_get_version(*map(ctypes.byref, numbers))
    return ".".join(str(number.value) for number in numbers)
