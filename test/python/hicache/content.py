"""Page contents that tell whose they are, so that every wrong byte shows."""

from __future__ import annotations

import hashlib

import numpy as np

from hicache.tensors import Bytes

POISON = 0xEE


def content(owner: str, key: str, piece: int | str, size: int) -> Bytes:
    """The bytes of one piece of a page; owner is the pool with rank or model."""
    seed = f"{owner}/{key}/{piece}".encode()
    # A short random run, repeated with a counter: quick, and no page equals another.
    run = np.frombuffer(hashlib.shake_128(seed).digest(64), np.uint8)
    out = np.resize(run, size)
    out[: size // 64 * 64 : 64] += np.arange(size // 64, dtype=np.uint64).astype(np.uint8)
    return out


def chained_hashes(tokens: list[int], page_size: int) -> list[str]:
    """Page keys as SGLang makes them: each goes on from the page before."""
    digest, hashes = b"", []
    for i in range(0, len(tokens), page_size):
        page = b"".join(token.to_bytes(4, "little") for token in tokens[i : i + page_size])
        digest = hashlib.sha256(digest + page).digest()
        hashes.append(digest.hex())
    return hashes


def page_hashes(n: int, chain: str = "") -> list[str]:
    """Keys of n pages; another chain begins with other tokens."""
    first = int.from_bytes(hashlib.sha256(chain.encode()).digest()[:3], "little")
    return chained_hashes(list(range(first, first + n)), 1)


def page_hash(n: int, chain: str = "") -> str:
    return page_hashes(n + 1, chain)[n]
