"""How many random sequences, of how many steps, and from which seed."""

from __future__ import annotations

import os
import random
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

# The host pools of the component tests.
sys.path.append(str(Path(__file__).resolve().parent.parent / "component"))

EXAMPLES = 24
STEPS = 30


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--examples", type=int, default=0,
        help=f"sequences per model, from a seed that is printed (default: {EXAMPLES}, "
        "the same every time); the seed may be given as --hypothesis-seed=N",
    )
    parser.addoption("--steps", type=int, default=STEPS, help="calls in a sequence")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Before hypothesis reads its option: so that the seed is known in any case.
    if config.getoption("--examples") and not config.getoption("--hypothesis-seed"):
        config.option.hypothesis_seed = str(random.randrange(1 << 32))


def pytest_report_header(config: pytest.Config) -> str:
    examples, steps = config.getoption("--examples"), config.getoption("--steps")
    if not examples:
        return f"{EXAMPLES} sequences per model, up to {steps} calls each, the same every time"
    seed = config.getoption("--hypothesis-seed")
    again = f"--examples {examples} --steps {steps} --hypothesis-seed={seed}"
    return f"{examples} sequences per model, up to {steps} calls each; again with: {again}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    # A quiet run has no header.
    terminalreporter.write_line(pytest_report_header(config))


@pytest.fixture(scope="session")
def sequence_settings(request: pytest.FixtureRequest) -> Any:
    """hypothesis' settings for all state machines of the run."""
    from hypothesis import HealthCheck, Phase, settings

    wanted = request.config.getoption("--examples")
    return settings(
        max_examples=wanted or EXAMPLES,
        stateful_step_count=request.config.getoption("--steps"),
        derandomize=not wanted,
        database=None,
        deadline=None,
        # To find the shortest sequence takes minutes: only where somebody asks for more.
        phases=[Phase.generate, Phase.shrink] if wanted else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="session", autouse=True)
def quiet_oracle() -> None:
    """The file backend warns of every miss."""
    import logging

    logging.getLogger("sglang").setLevel(logging.CRITICAL)
    os.environ.pop("SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR", None)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
