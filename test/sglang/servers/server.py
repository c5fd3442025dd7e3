"""One SGLang server on the CPU: its launch line, and the questions we ask it."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from processes import Child, LateError, StepError, free_port

LAUNCH = Path(__file__).resolve().parent / "launch.py"
PAGE_TOKENS = 16
NEW_TOKENS = 8
# Two servers that start on two cores take 35 s, and five times that where others
# use the cores, too.
START_S = 300.0
# A usual answer takes less than a second; the first of all builds the page hash,
# which alone takes 20 s.
ANSWER_S = 120.0
# It detaches its storage, and then stops its processes one by one.
END_S = 45.0


@dataclass(frozen=True)
class Setup:
    """What the servers of one run have in common."""

    python: str
    model: Path
    logs: Path
    # In front of PYTHONPATH: the shims for a CPU, then the package under test.
    paths: Sequence[Path]
    env: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        env = dict(os.environ)
        paths = [str(path) for path in self.paths]
        paths += [part for part in env.get("PYTHONPATH", "").split(":") if part]
        env.update(
            PYTHONPATH=":".join(paths),
            SGLANG_USE_CPU_ENGINE="1",
            HF_HUB_OFFLINE="1",
            OMP_NUM_THREADS="1",
            PYTHONUNBUFFERED="1",
        )
        env.update(self.env)
        return env


@dataclass(frozen=True)
class Launch:
    """What differs between the cases."""

    arguments: Sequence[str]
    backend: str
    extra: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a request gave, and where its cached tokens came from."""

    tokens: tuple[int, ...]
    # Log probability of each new token: equal text by luck would show here.
    logprobs: tuple[float, ...]
    cached: int
    device: int
    host: int
    storage: int
    backend: Optional[str]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.cached} cached (device {self.device}, host {self.host}, "
            f"storage {self.storage}), {self.seconds:.2f} s"
        )


def _answer(reply: Mapping[str, Any], seconds: float) -> Answer:
    meta = reply["meta_info"]
    details = meta.get("cached_tokens_details") or {}
    return Answer(
        tokens=tuple(reply["output_ids"]),
        logprobs=tuple(float(entry[0]) for entry in meta["output_token_logprobs"]),
        cached=int(meta["cached_tokens"]),
        device=int(details.get("device") or 0),
        host=int(details.get("host") or 0),
        storage=int(details.get("storage") or 0),
        backend=details.get("storage_backend"),
        seconds=seconds,
    )


class Server:
    """A running server; `wait_up` before the first question."""

    def __init__(self, name: str, setup: Setup, launch: Launch) -> None:
        self.name = name
        self.port = free_port()
        self.child = Child(
            name,
            [
                setup.python, str(LAUNCH),
                "--model-path", str(setup.model), "--served-model-name", "tiny",
                "--device", "cpu", "--dtype", "float32", "--skip-tokenizer-init",
                "--attention-backend", "torch_native", "--sampling-backend", "pytorch",
                "--page-size", str(PAGE_TOKENS), "--max-total-tokens", "4096",
                # A share of the memory that is free, which others of this machine change
                # while it starts; what it takes is bounded by the tokens above.
                "--mem-fraction-static", "0.5",
                "--host", "127.0.0.1", "--port", str(self.port),
                "--log-level-http", "warning",
                "--skip-server-warmup", "--enable-cache-report", "--enable-metrics",
                "--enable-hierarchical-cache", "--hicache-ratio", "2",
                *launch.arguments,
                "--hicache-storage-backend", launch.backend,
                "--hicache-storage-backend-extra-config", json.dumps(dict(launch.extra)),
            ],
            setup.logs / f"{name}.log",
            setup.environment(),
            talk=False,
        )  # fmt: skip

    def _call(self, path: str, body: Optional[object], seconds: float) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=data,
            headers={"Content-Type": "application/json"},
            method="GET" if body is None else "POST",
        )
        with urllib.request.urlopen(request, timeout=seconds) as reply:
            return bytes(reply.read())

    def up(self) -> bool:
        """Answers /health. StepError when the process has ended."""
        if not self.child.alive:
            raise StepError(f"{self.name} has ended")
        try:
            self._call("/health", None, 5)
        except OSError:
            return False
        return True

    def wait_up(self, seconds: float = START_S) -> None:
        begin = time.monotonic()
        while not self.up():
            if time.monotonic() - begin > seconds:
                raise LateError(f"{self.name}: not up within {seconds:g} s")
            time.sleep(0.5)

    def ask(self, prompt: Sequence[int], seconds: float = ANSWER_S) -> Answer:
        """Let it continue `prompt`. StepError when it does not answer."""
        body = {
            "input_ids": list(prompt),
            "sampling_params": {
                "max_new_tokens": NEW_TOKENS,
                "temperature": 0,
                "ignore_eos": True,
            },
            "return_logprob": True,
            # Only of new tokens: with those of the prompt nothing is cached.
            "logprob_start_len": -1,
        }
        begin = time.monotonic()
        try:
            reply = json.loads(self._call("/generate", body, seconds))
        except (OSError, ValueError) as error:
            raise StepError(f"{self.name} did not answer: {error}") from error
        return _answer(reply, time.monotonic() - begin)

    def flush(self) -> None:
        """Empty device and host cache; the storage keeps what it has. Waits
        until the server is idle, as it refuses otherwise."""
        deadline = time.monotonic() + 20
        while True:
            try:
                self._call("/flush_cache", {}, 10)
                return
            except urllib.error.HTTPError as error:
                if time.monotonic() > deadline:
                    raise StepError(f"{self.name}: flush_cache refused: {error}") from error
            time.sleep(0.2)

    def clear_storage(self) -> None:
        self._call("/hicache/storage-backend/clear", {}, 20)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels; 0 when it was never counted."""
        text = self._call("/metrics", None, 10).decode()
        found = re.findall(rf"^{re.escape(name)}(?:\{{[^\n]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for value in found)

    def log(self) -> str:
        """Everything it has printed so far."""
        return self.child.log.read_text(errors="replace")

    def tail(self) -> str:
        """The end of its log. At its start SGLang 0.5.23 logs an exception of its
        own, for want of a warm-up: that is left out."""
        return self.child.tail("ready to roll")
