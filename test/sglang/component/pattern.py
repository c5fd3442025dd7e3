"""Bytes that say where they belong: another key, pool, rank, piece or offset shows."""

from __future__ import annotations

import hashlib

import torch

POISON = 0xA5


def piece_bytes(key: str, pool: str, rank: str, piece: str, size: int) -> torch.Tensor:
    """`size` bytes as a uint8 tensor, derived from all the names."""
    name = f"{key}|{pool}|{rank}|{piece}".encode()
    return torch.frombuffer(bytearray(hashlib.shake_128(name).digest(size)), dtype=torch.uint8)


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """A uint8 view of a tensor whose last dimension is dense, first dimension kept."""
    return tensor.view(torch.uint8)


def poison(tensor: torch.Tensor) -> None:
    as_bytes(tensor).fill_(POISON)


def is_poison(tensor: torch.Tensor) -> bool:
    return bool((tensor == POISON).all())
