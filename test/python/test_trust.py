"""The cluster key: who gets in, and that Python's own ssl does not notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import peercache
from conftest import DEADLINE_S, free_port, settings, wait_for_members, wait_until

# A wheel's nodes need no OpenSSL of the system, and ci/wheel_test.sh hides it.
try:
    import ssl
except ImportError:
    ssl = None  # type: ignore[assignment]

HAS_TLS = any(Path(peercache.__file__).parent.glob("libpeercache_tls*"))
pytestmark = pytest.mark.skipif(not HAS_TLS, reason="this build has no TLS module")

KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
OTHER = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"


def key_file(folder: Path, name: str, *keys: str) -> Path:
    path = folder / name
    path.write_text("".join(key + "\n" for key in keys))
    path.chmod(0o600)
    return path


def say_hello() -> bytes:
    """The first bytes of a client of Python's ssl."""
    if ssl is None:
        return b"\x16\x03\x01"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def test_nodes_with_one_key_share_values(tmp_path: Path) -> None:
    key = key_file(tmp_path, "key", KEY)
    port = free_port()
    options: dict[str, Any] = settings(port, cluster_key_file=key, read_mode="served")
    before = say_hello()
    with peercache.Node(**options) as one, peercache.Node(**options) as two:
        wait_for_members([one, two], 2)
        value = os.urandom(300_000)
        assert one.put(["a"], [value]) == [True]
        assert two.get("a") == value
        links = two.stats()["info"]["links"]
        assert links.startswith("TLS 1.3 by OpenSSL 3.")
        assert two.stats()["handshakes_total"] > 0
        # Both at once, in one process.
        assert say_hello()[:3] == before[:3] == b"\x16\x03\x01"


@pytest.mark.skipif(ssl is None, reason="this Python has no ssl")
def test_ssl_works_when_it_is_imported_after_a_node(tmp_path: Path) -> None:
    program = """
import json, sys
import peercache
assert "ssl" not in sys.modules
with peercache.Node(**json.loads(sys.argv[1])) as node:
    assert node.wait_ready(30)
    import ssl
    ssl.create_default_context()
    print(node.stats()["info"]["links"], "|", ssl.OPENSSL_VERSION)
"""
    key = key_file(tmp_path, "key", KEY)
    ended = subprocess.run(
        [sys.executable, "-c", program,
         json.dumps(settings(free_port(), cluster_key_file=str(key)))],
        capture_output=True, text=True, timeout=2 * DEADLINE_S,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "TLS 1.3" in ended.stdout


def test_a_node_with_another_key_stays_outside(tmp_path: Path) -> None:
    port = free_port()
    inside = settings(port, cluster_key_file=key_file(tmp_path, "a", KEY))
    outside = settings(port, cluster_key_file=key_file(tmp_path, "b", OTHER))
    with peercache.Node(**inside) as one, peercache.Node(**outside) as two:
        assert one.wait_ready(DEADLINE_S)
        refused = "connections_refused_total"
        wait_until(lambda: one.stats()[refused]["untrusted"] > 0, "a refusal")
        assert one.stats()["members"] == 1
        assert one.put(["a"], [b"x"]) == [True]
        assert two.get("a") is None


def test_two_keys_are_accepted_while_they_change(tmp_path: Path) -> None:
    port = free_port()
    old = settings(port, cluster_key_file=key_file(tmp_path, "old", KEY, OTHER))
    new = settings(port, cluster_key_file=key_file(tmp_path, "new", OTHER, KEY))
    with peercache.Node(**old) as one, peercache.Node(**new) as two:
        wait_for_members([one, two], 2)


def test_the_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERCACHE_CLUSTER_KEY", KEY)
    with peercache.Node(**settings(free_port())) as node:
        assert node.wait_ready(DEADLINE_S)
        info = node.stats()["info"]
        assert info["links"].startswith("TLS 1.3")
        assert KEY not in json.dumps(info)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, "key", KEY)
    path.chmod(mode)
    with pytest.raises(peercache.ConfigError, match="cluster_key_file.*owner") as caught:
        peercache.Node(**settings(free_port(), cluster_key_file=path))
    assert KEY not in str(caught.value)
