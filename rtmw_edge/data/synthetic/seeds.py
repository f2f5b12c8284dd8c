"""Random streams: every picture, body and background has its own, named by split, seed, purpose and index.

Streams of different names are independent: the splits share no picture, no body and no background, whatever the seed.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np

from ...errors import unknown

SPLITS = ("train", "val", "calibration")
Entry = TypeVar("Entry")
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Streams:
    """The random streams of one split and seed."""

    split: str
    seed: int

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS)

    def generator(self, purpose: str, index: int) -> np.random.Generator:
        """The generator of one thing; the same arguments give the same numbers on every machine."""
        names = [zlib.crc32(f"{self.split}/{purpose}".encode()), self.seed, index]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(names)))


def choose(rng: np.random.Generator, shares: tuple[float, ...]) -> int:
    """One of `len(shares)` things, drawn in proportion to these shares: the same as `rng.choice`, faster."""
    return bisect_right(_sums(shares), rng.random())


def pick(rng: np.random.Generator, shares: dict[Thing, float]) -> Thing:
    """One key of `shares`, drawn in proportion to its value."""
    return tuple(shares)[choose(rng, tuple(shares.values()))]


@lru_cache(maxsize=64)
def _sums(shares: tuple[float, ...]) -> list[float]:
    sums = np.cumsum(shares)
    return (sums / sums[-1]).tolist()


class Pool(Generic[Entry]):
    """Costly things that neighbouring pictures share, each made when first used and the farthest forgotten.

    Entry i is always the same, so pictures can be drawn in any order. A picture at `index` draws from a window of
    `width` entries that moves on by one every `pace` pictures.
    """

    def __init__(self, make: Callable[[int], Entry], width: int, pace: int, kept: int) -> None:
        self._make, self._width, self._pace, self._kept = make, width, pace, kept
        self._entries: dict[int, Entry] = {}

    def __getitem__(self, entry: int) -> Entry:
        if entry not in self._entries:
            self._entries[entry] = self._make(entry)
            if len(self._entries) > self._kept:
                del self._entries[max(self._entries, key=lambda other: abs(other - entry))]
        return self._entries[entry]

    def draw(self, index: int, rng: np.random.Generator) -> Entry:
        """One entry of the window of the picture at `index`."""
        return self[index // self._pace + int(rng.integers(self._width))]
