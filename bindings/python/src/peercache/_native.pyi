from collections.abc import Iterable, Sequence
from typing import Any, Protocol, SupportsIndex

from typing_extensions import Self

class SupportsBuffer(Protocol):
    """Has the buffer protocol; typing names it only from Python 3.12 on."""
    def __buffer__(self, flags: int, /) -> memoryview: ...

class SupportsArray(Protocol):
    """An array of numpy, whose hints name the buffer protocol late, too."""
    @property
    def __array_interface__(self) -> Any: ...

class SupportsTensor(Protocol):
    """A tensor, as of torch: contiguous memory with an address."""
    def data_ptr(self) -> int: ...
    def is_contiguous(self) -> bool: ...
    @property
    def nbytes(self) -> int: ...

Piece = SupportsBuffer | SupportsArray | SupportsTensor | tuple[SupportsIndex, SupportsIndex]
Value = Piece | Sequence[Piece]
Key = str | bytes

# Namespace, keys, and for put and get where the pages are.
PageMemory = (
    tuple[PageTable, Iterable[SupportsIndex]]
    | tuple[Iterable[SupportsIndex], Iterable[SupportsIndex]]
)
PageGroup = tuple[Key | None, Iterable[Key], PageMemory | None]

def statuses() -> dict[str, int]: ...
def version() -> str: ...
def load_ucx(path: str, /) -> bool: ...

class Registration:
    @property
    def address(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: Any) -> None: ...

class PageTable:
    def __init__(
        self,
        bases: Iterable[SupportsIndex],
        strides: Iterable[SupportsIndex],
        sizes: Iterable[SupportsIndex],
    ) -> None: ...
    @property
    def n_pieces(self) -> int: ...
    @property
    def page_size(self) -> int: ...

class NodeBase:
    def __init__(self, settings: dict[str, str], /) -> None: ...
    @property
    def closed(self) -> bool: ...
    def wait_ready(self, timeout: float | None = None) -> bool: ...
    def put(
        self,
        keys: Iterable[Key],
        values: Iterable[Value],
        *,
        namespace: Key | None = None,
        timeout: float | None = None,
        chain: bool = False,
    ) -> list[bool]: ...
    def get_into(
        self,
        keys: Iterable[Key],
        buffers: Iterable[Value],
        *,
        namespace: Key | None = None,
        timeout: float | None = None,
        chain: bool = False,
    ) -> list[bool]: ...
    def get(
        self,
        key: Key,
        *,
        namespace: Key | None = None,
        timeout: float | None = None,
    ) -> bytes | None: ...
    def exists(
        self,
        keys: Iterable[Key],
        *,
        namespace: Key | None = None,
        timeout: float | None = None,
        chain: bool = False,
    ) -> list[bool]: ...
    def match(
        self,
        keys: Iterable[Key],
        *,
        namespace: Key | None = None,
        timeout: float | None = None,
        chain: bool = False,
    ) -> int: ...
    def remove(
        self,
        keys: Iterable[Key],
        *,
        namespace: Key | None = None,
        timeout: float | None = None,
        chain: bool = False,
    ) -> list[bool]: ...
    def run_pages(
        self,
        verb: str,
        groups: Iterable[PageGroup],
        *,
        timeout: float | None = None,
        chain: bool = False,
    ) -> list[list[int]]: ...
    def clear(self, *, timeout: float | None = None) -> int: ...
    def drain(self, node_id: str | None = None, *, timeout: float | None = 60.0) -> bool: ...
    def register(self, buffer: Piece, *, kind: str = "host") -> Registration: ...
    def metrics_text(self) -> str: ...
    def info_text(self) -> str: ...
    def explain_text(self, key: Key, *, namespace: Key | None = None) -> str: ...
    def close(self) -> None: ...
