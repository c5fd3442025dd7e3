"""The node: a place in the cluster that stores and fetches values."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Union

from peercache._native import NodeBase
from peercache.errors import from_reasons
from peercache.stats import parse_metrics
from peercache.ucx import provide

if TYPE_CHECKING:
    from typing_extensions import Self

Setting = Union[bool, int, float, str, "os.PathLike[str]", Sequence[str], None]

# Nodes to close before the interpreter goes.
_open_nodes: weakref.WeakSet[Node] = weakref.WeakSet()


def _text(name: str, value: Setting) -> str:
    """A setting as the library reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        # Never "1e-05": nanoseconds are the smallest unit.
        text = f"{value:.9f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        if isinstance(text, str):
            return text
    elif isinstance(value, Sequence) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    raise TypeError(
        f"setting {name} must be a bool, int, float, str, path or list of str, "
        f"not {type(value).__name__}"
    )


def _texts(settings: Mapping[str, Setting]) -> dict[str, str]:
    texts = {name: _text(name, value) for name, value in settings.items() if value is not None}
    holes = [name for name, text in texts.items() if "\0" in name + text]
    if holes:
        raise from_reasons([f"{name!r}: a setting holds no zero byte" for name in holes])
    return texts


def _load_ssl(texts: Mapping[str, str]) -> None:
    """Python's own OpenSSL comes first where the library will use one.

    A package that was built from source takes the system's; should that be of
    an older release than Python's of the same name, importing ssl later failed.
    """
    given = [texts.get(name) for name in ("cluster_key_file", "tls_cert")]
    names = ("PEERCACHE_CLUSTER_KEY", "PEERCACHE_CLUSTER_KEY_FILE", "PEERCACHE_TLS_CERT")
    if any(given) or any(name in os.environ for name in names):
        with contextlib.suppress(ImportError):
            importlib.import_module("ssl")


class Node(NodeBase):
    """A node of a cluster, running from construction to close().

    Node(discovery_addr="127.0.0.1:31998", global_segment_size="16mb")

    Settings are keyword arguments by their names in the table of settings
    (docs/configuration.md), as text or as Python values: sizes are bytes or
    "16mb", times are seconds or "50us", lists of addresses may be lists; None
    leaves the default. Variables PEERCACHE_<NAME> of the environment count
    where no argument is given. The constructor does not wait for other nodes:
    see wait_ready.

    Any thread may call any method. A `with` block closes the node at its end,
    and so does the end of the interpreter.

    Raises ConfigError with every reason when settings are wrong or unknown,
    TypeError for a value of another type, PeerCacheError when the node cannot
    start (a port that is taken, memory that is not there).
    """

    def __init__(self, **settings: Setting) -> None:
        texts = _texts(settings)
        provide()  # Before the library opens its module for UCX.
        _load_ssl(texts)
        super().__init__(texts)
        _open_nodes.add(self)

    def stats(self) -> dict[str, Any]:
        """Metrics by name, without "peercache_", and "info".

        A metric is a number: counts since the start, bytes, or seconds, as its
        name says. One with labels is a dict from the label to the number.
        "info" is a dict: identity, bound addresses, members, pool, settings in
        effect, and "ucx": which UCX was found, and where. Raises ClosedError,
        PeerCacheError.
        """
        stats: dict[str, Any] = dict(parse_metrics(self.metrics_text()))
        stats["info"] = json.loads(self.info_text())
        stats["info"]["ucx"] = asdict(provide())
        return stats

    def explain(self, key: str | bytes, *, namespace: str | bytes | None = None) -> dict[str, Any]:
        """What a get of the key would do here, and why.

        "owners" are the nodes that know where it is, with what each answers,
        "holders" those that have it, with what each says, "phases" what each
        step took, "result" and "why" the verdict. Asks other nodes, and waits
        at most op_timeout. Raises ClosedError, PeerCacheError.
        """
        explanation: dict[str, Any] = json.loads(self.explain_text(key, namespace=namespace))
        return explanation

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@atexit.register
def _close_all() -> None:
    for node in list(_open_nodes):
        node.close()
