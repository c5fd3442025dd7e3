"""A store in another process, for tests that stop or kill it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

from conftest import Peer

FOLDER = Path(__file__).parent.parent


class StorePeer(Peer):
    """Told what to do line by line; see store_peer.py."""

    def __init__(
        self, version: str, extra: dict[str, Any], options: Optional[dict[str, Any]] = None
    ) -> None:
        paths = [str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hicache.store_peer", version]
            + [json.dumps(extra), json.dumps(options or {})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        self._unread = b""
        assert self._answer() == "ready"

    def go_on(self) -> None:
        """After stop()."""
        self.process.send_signal(signal.SIGCONT)
