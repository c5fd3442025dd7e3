"""The extra config and what is said about it."""

from __future__ import annotations

import logging
from typing import Any, Callable

import pytest

from hicache import pools
from hicache.content import page_hashes
from hicache.controller import Controller
from hicache.versions import VERSIONS

Attach = Callable[..., Controller]
every_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name, indirect=True)


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    records = [r for r in caplog.records if r.name.startswith("peercache")]
    return [record.getMessage() for record in records if record.levelno >= level]


def works(store: Controller, v1: bool = True) -> bool:
    keys = page_hashes(3)
    store.kv.fill(range(3), keys)
    if v1:
        return all(store.set(keys, range(3))) and store.fetch(keys, range(3, 6)) == 3
    return store.set_pages(keys, range(3)) and store.get_pages(keys, range(3, 6)) == 3


@every_version
def test_sglangs_own_keys_pass_without_a_word(
    attach: Attach, caplog: pytest.LogCaptureFixture
) -> None:
    """The decode side's manager removes none of them."""
    extra: dict[str, Any] = {
        "prefetch_threshold": 256,
        "prefetch_timeout_base": 1,
        "prefetch_timeout_per_ki_token": 0.25,
        "prefetch_timeout_max": 30,
        "hicache_storage_pass_prefix_keys": False,
        "allocator": "shm",
    }
    store = attach()
    caplog.clear()
    user = store.sglang.config(extra_config=extra | {"interface_v1": 1} | isolated())
    type(store.store)(user, {}).close()
    assert not [text for text in lines(caplog) if any(key in text for key in extra)]


def isolated() -> dict[str, Any]:
    return {"global_segment_size": "4mb", "disk_enabled": False, "metrics_enabled": False}


def test_an_unknown_key_warns_once_and_passes(
    attach: Attach, caplog: pytest.LogCaptureFixture
) -> None:
    store = attach(extra={"golbal_segment_size": "3mb", "nested": {"a": [1, None]}})
    about = [text for text in lines(caplog) if "golbal_segment_size" in text]
    assert len(about) == 1
    assert works(store)


def test_values_may_be_text(attach: Attach) -> None:
    extra = {
        "interface_v1": "1",
        "op_timeout": "1.5",
        "disk_enabled": "false",
        "global_segment_size": str(16 << 20),
        "vnodes": "160",
        "heartbeat_interval": "0.1",
    }
    assert works(attach(extra=extra))


@pytest.mark.parametrize("flag", [1, 2, True, "1", "true", "on", "0", "false"])
def test_the_flag_for_v1_has_many_spellings(
    attach: Attach, caplog: pytest.LogCaptureFixture, flag: Any
) -> None:
    """SGLang takes any text for true, also "false", and calls us so.

    layer_first tells the forms apart: v1 pages are joined pieces.
    """
    make: Callable[[], pools.PoolDouble] = lambda: pools.mha(layout="layer_first")
    writer = attach(make(), extra={"interface_v1": flag})
    reader = attach(make(), extra={"interface_v1": 1})
    assert not [text for text in lines(caplog) if "interface_v1" in text]
    assert works(writer) and reader.exists(page_hashes(3)) == 3


@pytest.mark.parametrize("flag", [None, 0, False, ""])
def test_without_the_flag_one_warning_names_it(
    attach: Attach, caplog: pytest.LogCaptureFixture, flag: Any
) -> None:
    store = attach(v1=False, extra={} if flag is None else {"interface_v1": flag})
    assert len([text for text in lines(caplog) if "interface_v1" in text]) == 1
    assert works(store, v1=False)


@pytest.mark.parametrize(
    "wrong", [{"op_timeout": "soon"}, {"global_segment_size": -1}, {"protocol": ["x", 3]}]
)
def test_a_wrong_setting_is_named_and_never_raises_later(
    attach: Attach, caplog: pytest.LogCaptureFixture, wrong: dict[str, Any]
) -> None:
    """Whether the constructor refuses it or goes on with misses: the log names it."""
    try:
        store = attach(extra=wrong)
    except Exception as error:
        assert next(iter(wrong)) in str(error)
        return
    assert any(next(iter(wrong)) in text for text in lines(caplog)), lines(caplog)
    assert store.exists(page_hashes(2)) in (0, 2)


def test_a_line_at_attach_tells_what_there_is(
    attach: Attach, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        attach(pools.mha(layout="layer_first"), {"swa": pools.swa()})
    text = "\n".join(lines(caplog, logging.INFO))
    for word in ("p2p", "kv", "swa", "6 pieces", "tcp"):
        assert word in text, (word, text)
