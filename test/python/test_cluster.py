"""Several nodes: in this process and in others, every read mode."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

import peercache
from conftest import DEADLINE_S, Peer, has_ucx, wait_for_members, wait_until

MakeNode = Callable[..., peercache.Node]
MakePeer = Callable[..., Peer]

MODES = ["auto", "mapped", "one-sided", "served"]


def skip_without_path(mode: str) -> None:
    if mode in ("mapped", "one-sided") and not has_ucx():
        pytest.skip("this build has no UCX module")


def changes(mode: str) -> dict[str, Any]:
    return {"read_mode": mode, "ucx_tcp": "lo" if mode == "one-sided" else ""}


def two_nodes(make_node: MakeNode, **options: Any) -> tuple[peercache.Node, peercache.Node]:
    nodes = [make_node(node_id=name, **options) for name in ("one", "two")]
    for node in nodes:
        node.wait_ready(DEADLINE_S)
    wait_for_members(nodes, 2)
    return nodes[0], nodes[1]


def test_keys_under_different_prefixes_never_meet(make_node: MakeNode) -> None:
    first, second, other = (
        make_node(node_id=name, prefix=prefix)
        for name, prefix in (("one", "blue"), ("two", "blue"), ("three", "red"))
    )
    wait_for_members([first, second, other], 3)
    assert first.put(["key"], [b"of blue"]) == [True]
    assert second.get("key") == b"of blue"
    assert other.exists(["key"]) == [False]
    assert other.put(["key"], [b"of red!"]) == [True]
    assert other.get("key") == b"of red!"
    assert second.get("key") == b"of blue"


@pytest.mark.parametrize("mode", MODES)
def test_two_nodes_of_one_process_share(make_node: MakeNode, mode: str) -> None:
    skip_without_path(mode)
    one, two = two_nodes(make_node, **changes(mode))
    pages = [bytes([k]) * (10_000 + k) for k in range(32)]
    keys = [f"page {k}" for k in range(32)]
    assert one.put(keys, pages) == [True] * 32
    assert two.exists(keys) == [True] * 32
    buffers = [bytearray(len(page)) for page in pages]
    memory = bytearray(10_000)
    two.register(memory)
    assert two.get_into(keys, buffers) == [True] * 32
    assert buffers == pages
    assert two.get_into(keys[:1], [[memoryview(memory)[:5000], memoryview(memory)[5000:]]]) == [True]
    assert memory == pages[0]
    if mode != "auto":
        hits = two.stats()["read_mode_hits_total"]
        assert hits[mode.replace("-", "_")] == 33


def test_a_clear_leaves_what_other_nodes_hold(make_node: MakeNode) -> None:
    one, two = two_nodes(make_node)
    keys = [f"page {k}" for k in range(2000)]
    assert one.put(keys, [b"1"] * 2000) == [True] * 2000
    assert two.put(["theirs"], [b"2"]) == [True]
    assert two.match(keys) == 2000
    assert one.clear() == 2000
    assert not any(two.exists(keys)) and not any(one.exists(keys))
    assert one.get("theirs") == b"2"
    assert two.clear() == 1


def test_a_drained_node_may_go_and_what_others_hold_is_found(make_node: MakeNode) -> None:
    one, two = two_nodes(make_node, settle=0.5, heartbeat_interval=0.1, member_ttl=2)
    theirs = [f"page {k}" for k in range(500)]
    both = [f"both {k}" for k in range(500)]
    assert two.put(theirs, [b"1"] * 500) == [True] * 500
    assert one.put(both, [b"2"] * 500) == [True] * 500
    with pytest.raises(peercache.PeerCacheError) as nobody:
        two.drain("nobody", timeout=1)
    assert nobody.value.status is peercache.Status.NOT_FOUND
    assert two.drain(one.stats()["info"]["node"]["id"], timeout=DEADLINE_S)
    assert one.stats()["info"]["node"]["state"] == "draining" and one.drain(timeout=0)
    # What it holds is found still, and stored elsewhere when somebody puts it again.
    assert two.match(both) == 500 and two.match(theirs) == 500
    assert two.put(both, [b"2"] * 500) == [True] * 500
    one.close()
    assert two.match(both) == 500 and two.match(theirs) == 500


@pytest.mark.parametrize("mode", MODES)
def test_two_processes_share(make_node: MakeNode, make_peer: MakePeer, mode: str) -> None:
    skip_without_path(mode)
    node = make_node(node_id="here", **changes(mode))
    node.wait_ready(DEADLINE_S)
    peer = make_peer(node_id="there", **changes(mode))
    wait_for_members([node], 2)
    wait_until(lambda: peer.ask("stats")["members"] == 2, "2 members at the peer")
    assert peer.ask("put", ["a", "b"], ["from there", "x" * 100_000]) == [True, True]
    assert node.get("a") == b"from there"
    assert node.get("b") == b"x" * 100_000
    assert node.put(["c"], [b"from here"]) == [True]
    assert peer.ask("get", "c") == "from here"
    assert peer.ask("match", ["a", "b", "c", "d"]) == 3
    assert node.remove(["a"]) == [True]
    wait_until(lambda: peer.ask("exists", ["a"]) == [False], "the removal")


def test_a_stopped_peer_is_a_miss_and_not_a_hang(make_node: MakeNode, make_peer: MakePeer) -> None:
    node = make_node(node_id="here", read_mode="served")
    node.wait_ready(DEADLINE_S)
    peer = make_peer(node_id="there", read_mode="served")
    wait_for_members([node], 2)
    peer.ask("put", ["a"], ["x" * 4096])
    wait_until(lambda: node.get("a") is not None, "the value")
    peer.stop()
    n_turns = 0
    done: list[list[bool]] = []
    reader = threading.Thread(
        target=lambda: done.append(node.get_into(["a"], [bytearray(4096)], timeout=1))
    )
    reader.start()
    while not done:
        n_turns += 1  # This thread runs: the reader waits without the GIL.
        reader.join(0.001)
        assert n_turns < DEADLINE_S * 1000
    assert done == [[False]]
    assert n_turns >= 2


def test_a_killed_peer_is_a_miss(make_node: MakeNode, make_peer: MakePeer) -> None:
    node = make_node(node_id="here")
    node.wait_ready(DEADLINE_S)
    peer = make_peer(node_id="there")
    wait_for_members([node], 2)
    peer.ask("put", ["a"], ["value"])
    wait_until(lambda: node.get("a") == b"value", "the value")
    peer.end()
    wait_until(lambda: node.get("a") is None, "the miss")
    assert node.put(["b"], [b"x"]) == [True]


def test_many_threads_share_one_node(make_node: MakeNode) -> None:
    one, two = two_nodes(make_node)
    strange: list[object] = []

    def work(name: int) -> None:
        try:
            for turn in range(20):
                keys = [f"{name} {turn} {k}" for k in range(16)]
                values = [key.encode() * 20 for key in keys]
                buffers = [bytearray(len(value)) for value in values]
                if not all(one.put(keys, values)):
                    strange.append("not stored")
                if not all(two.get_into(keys, buffers)):
                    strange.append("missed")
                if buffers != values:
                    strange.append("wrong bytes")
        except BaseException as error:
            strange.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not strange
