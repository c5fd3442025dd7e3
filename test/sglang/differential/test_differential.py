"""Our backend answers as SGLang's own file backend does, whatever is asked in which order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from backends import Pair
from host_memory import Model
from machine import Calls

MODELS = [
    Model("mha generic", "mha", "layer_first", interface_v1=False),
    Model("mha mamba", "mha_mamba", "page_first", trailing=(("mamba", 1),)),
    Model("mha swa", "mha_swa", "page_first_direct", trailing=(("swa", 2),)),
    Model(
        "mha draft", "mha_draft", "layer_first", generic_pages=False, trailing=(("draft", 0),)
    ),
    Model("mla mamba", "mla_mamba", "page_first", replicated=True, trailing=(("mamba", 1),)),
    Model("dsa", "dsa", "page_first_direct", replicated=True, trailing=(("indexer", 0),)),
]


@pytest.fixture
def pair(request: pytest.FixtureRequest, port: int, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(request.param, port, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("pair", MODELS, ids=str, indirect=True)
def test_any_sequence_of_calls_is_answered_as_by_the_file_backend(
    pair: Pair, sequence_settings: Any
) -> None:
    machine = type("CallsOfThisPair", (Calls,), {"pair": pair})
    run_state_machine_as_test(machine, settings=sequence_settings)
