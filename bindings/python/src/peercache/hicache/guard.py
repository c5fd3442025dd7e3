"""Between SGLang's threads and everything that can go wrong behind them.

Up to SGLang 0.5.21 an exception ends the calling thread for good, and the other
ranks wait for it for ever. So every public method of the store is `guarded`:
what fails is counted, said in the log at a limited rate, and answered with the
neutral value: a miss of the right shape.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Optional, TypeVar, cast

from peercache.errors import ClosedError

log = logging.getLogger("peercache.store")

Clock = Callable[[], float]
Method = TypeVar("Method", bound=Callable[..., Any])
Neutral = Callable[[tuple[Any, ...], dict[str, Any]], Any]


class Paused(Exception):
    """The breaker is open, or the store is closed: answer a miss and say nothing."""


class ContractError(Exception):
    """An argument is not what the contract says; the message tells what it is."""


class Breaker:
    """Opens for `pause` seconds after `limit` timeouts in a row.

    Each timeout costs SGLang's thread the whole deadline; three of them say that
    the next call would wait as well. After the pause one further timeout opens
    it again, and one answer closes it.
    """

    def __init__(self, limit: int = 3, pause: float = 1.0, clock: Clock = time.monotonic) -> None:
        self._limit = limit
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._timeouts = 0
        self._open_until: Optional[float] = None

    def allows(self) -> bool:
        """Whether a call may be made now."""
        until = self._open_until  # Read once: another thread may reset it.
        return until is None or self._clock() >= until

    def note(self, timed_out: bool) -> bool:
        """Take down how a call ended. True: this timeout opened the breaker."""
        if not timed_out:
            if self._timeouts:
                with self._lock:
                    self._timeouts = 0
                    self._open_until = None
            return False
        with self._lock:
            self._timeouts += 1
            if self._timeouts < self._limit:
                return False
            self._open_until = self._clock() + self._pause
            return True


class Journal:
    """Counts by kind, and a log that says each kind at most every `interval` seconds."""

    def __init__(self, interval: float = 10.0, clock: Clock = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._next: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def count(self, kind: str, n: int = 1) -> None:
        """Count without a word."""
        with self._lock:
            self._counts[kind] = self._counts.get(kind, 0) + n

    def counts(self) -> dict[str, int]:
        """A copy of all counts."""
        with self._lock:
            return dict(self._counts)

    def problem(self, kind: str, text: str, detail: object = "") -> None:
        """Count, and warn unless that was done a moment ago."""
        unsaid = self._may_say(kind)
        if unsaid is not None:
            more = f" ({unsaid} more since the last such line)" if unsaid else ""
            log.warning("%s%s%s", text, detail and f": {detail}", more)

    def once(self, kind: str, text: str) -> None:
        """Warn the first time only."""
        with self._lock:
            first = kind not in self._counts
            self._counts[kind] = self._counts.get(kind, 0) + 1
        if first:
            log.warning("%s", text)

    def _may_say(self, kind: str) -> Optional[int]:
        """How many were not said since the last one that was; None: not now."""
        now = self._clock()
        with self._lock:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            if now < self._next.get(kind, now):
                self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
                return None
            self._next[kind] = now + self._interval
            return self._unsaid.pop(kind, 0)


def guarded(neutral: Neutral) -> Callable[[Method], Method]:
    """A method that never raises: it answers neutral(args, kwargs) instead.

    The object has a Journal as `_journal`. KeyboardInterrupt and SystemExit pass:
    they are for the main thread, which somebody wants to end. Every other
    BaseException stays here, whatever a pool of a foreign type raises.
    """

    def wrap(method: Method) -> Method:
        name = method.__name__

        @functools.wraps(method)
        def guarded_method(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except (KeyboardInterrupt, SystemExit):
                raise
            except (Paused, ClosedError):
                self._journal.count(name + " while paused or closed")
            except BaseException as error:
                self._journal.problem(name, f"{name} failed and answers a miss", _text(error))
            return neutral(args, kwargs)

        return cast(Method, guarded_method)

    return wrap


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except Exception:
        return type(error).__name__


# ---- Neutral answers ----------------------------------------------------


def count_of(keys: Any) -> int:
    """Length of what should be a list of keys; 0 for anything else."""
    try:
        return len(keys)
    except Exception:
        return 0


def _keys(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("keys")


def nothing(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    """None."""


def no_text(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> str:
    """Nothing to tell."""
    return ""


def no_pages(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> int:
    """No page was found."""
    return 0


def refused(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> bool:
    """Not stored, not there."""
    return False


def all_false(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[bool]:
    """One False a key: an empty list would count as success."""
    return [False] * count_of(_keys(args, kwargs))


def all_none(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[None]:
    """One None a key."""
    return [None] * count_of(_keys(args, kwargs))


def all_transfers_false(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Any, list[bool]]:
    """One False for each key of each transfer that can be named."""
    answer: dict[Any, list[bool]] = {}
    try:
        for transfer in (args[0] if args else kwargs.get("transfers")) or ():
            name = getattr(transfer, "name", None)
            answer[name] = [False] * count_of(getattr(transfer, "keys", None))
    except Exception:
        pass  # As far as it can be read.
    return answer
