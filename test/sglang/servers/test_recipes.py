"""The launch lines of docs/sglang.md, read by SGLang's own parser and by ours."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from peercache.hicache.config import DEFAULTS, SGLANG_KEYS
from sglang.srt.server_args import ServerArgs

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "sglang.md"
STORAGE = "hicache_storage_backend"


def _blocks() -> Iterator[str]:
    """What stands between fences; lines that a backslash continues are joined."""
    for block in re.findall(r"^```\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL):
        yield str(block).replace("\\\n", " ")


def _lines() -> list[list[str]]:
    """Arguments of each launch line. A quoted argument may span lines."""
    commands = []
    for block in _blocks():
        for part in block.split("python -m sglang.launch_server ")[1:]:
            commands.append(shlex.split(part, comments=True))
    return commands


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    return parser


def test_the_document_has_launch_lines() -> None:
    assert len(_lines()) >= 5


@pytest.mark.parametrize("line", _lines(), ids=lambda line: " ".join(line)[:60])
def test_sglang_knows_every_argument(line: list[str], parser: argparse.ArgumentParser) -> None:
    parser.parse_args(line)


@pytest.mark.parametrize("line", _lines(), ids=lambda line: " ".join(line)[:60])
def test_every_line_with_a_storage_has_the_fast_path_and_keys_that_we_know(
    line: list[str], parser: argparse.ArgumentParser
) -> None:
    found = vars(parser.parse_args(line))
    if found[STORAGE] is None:
        assert "decode" in line, "a line without storage is that of a decode server"
        return
    assert found[STORAGE] == "dynamic"
    extra = json.loads(found[STORAGE + "_extra_config"])
    assert extra["interface_v1"] == 1
    assert (extra["module_path"], extra["class_name"]) == ("peercache.store", "PeerCacheStore")
    assert set(extra) <= set(DEFAULTS) | SGLANG_KEYS
