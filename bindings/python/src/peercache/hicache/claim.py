"""A node id that the user chose, unique among the processes of this host.

All ranks of a server get the same configuration, and before SGLang 0.5.21 two
DP ranks cannot be told apart by theirs. Two nodes of one name would silence each
other, so the second process that wants a name gets it with a number behind.
"""

from __future__ import annotations

import hashlib
import socket
from typing import Optional

_CLAIMS_MAX = 256
_ID_MAX = 128


class Claim:
    """A name, ours until close or the end of the process."""

    def __init__(self, cluster: str, node_id: str) -> None:
        """Takes node_id, or node_id-2, -3, ... See `name` for which."""
        self.name = node_id
        self._socket: Optional[socket.socket] = None
        for n in range(1, _CLAIMS_MAX):
            name = node_id if n == 1 else f"{node_id[: _ID_MAX - 4]}-{n}"
            if self._take(f"{cluster}/{name}"):
                self.name = name
                return

    def _take(self, name: str) -> bool:
        # An address of the abstract kind leaves no file, and the kernel frees it
        # whatever ends the process. It has room for 107 bytes.
        address = "\0peercache-" + hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(address)
        except OSError:
            claim.close()
            return False
        self._socket = claim
        return True

    def close(self) -> None:
        """Leave the name to others."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
