"""Exceptions of PeerCache. The C extension raises them by from_status."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """Results of the library, as in peercache.h."""

    OK = 0
    IN_PROGRESS = 1
    NOT_FOUND = -1
    TOO_LARGE = -3
    SIZE_MISMATCH = -4
    STALE = -5
    CORRUPT = -6
    INVALID = -20
    AGAIN = -21
    TIMED_OUT = -22
    CANCELED = -23
    PARTIAL = -24
    NO_SPACE = -25
    UNREACHABLE = -40
    PEER_FAILED = -41
    PROTOCOL = -42
    VERSION = -43
    UNAUTHENTICATED = -44
    MISMATCH = -45
    NO_MEMORY = -60
    NOT_READY = -61
    SHUTDOWN = -62
    IO = -63
    TRANSPORT = -64
    UNSUPPORTED = -65
    FORKED = -66


class PeerCacheError(RuntimeError):
    """The library refused a call; `status` says why."""

    status: Status

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = Status(status)


class ClosedError(PeerCacheError):
    """The node is closed, or is being closed."""


class TimedOutError(PeerCacheError, TimeoutError):
    """A wait ended before what it waited for."""


class ConfigError(PeerCacheError, ValueError):
    """Settings are wrong; the message has every reason, one a line."""


_CLASSES: dict[int, type[PeerCacheError]] = {
    Status.SHUTDOWN: ClosedError,
    Status.TIMED_OUT: TimedOutError,
}


def from_status(status: int, what: str, text: str) -> PeerCacheError:
    """The exception for a status; `what` names the call, `text` the problem."""
    kind = _CLASSES.get(status, PeerCacheError)
    return kind(f"{what}: {text} ({Status(status).name})", status)


def from_reasons(reasons: list[str]) -> ConfigError:
    """The exception for settings, each reason said once."""
    lines = [line for reason in reasons for line in reason.splitlines() if line]
    return ConfigError("\n".join(dict.fromkeys(lines)), Status.INVALID)
