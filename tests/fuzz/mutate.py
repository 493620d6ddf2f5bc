"""Inputs by small changes to good ones: for machines without atheris, and for measuring whether memory grows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

EDGES: Final = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 191, 192, 223, 224, 254, 255)
CORPUS_MAX: Final = 512


class Mutator:
    """The nth input of a seed is always the same."""

    def __init__(self, seed: str, corpus: Sequence[bytes], max_bytes: int, words: Sequence[bytes] = ()) -> None:
        self._luck = random.Random(seed)
        self._corpus = list(corpus)[:CORPUS_MAX] or [b""]
        self._max_bytes = max_bytes
        self._words = list(words)
        self._ways = [self._flip, self._edge, self._insert, self._delete, self._double, self._splice, self._size]
        if self._words:
            self._ways += [self._word, self._word]

    def next(self) -> bytes:
        """Another input."""
        data = bytearray(self._luck.choice(self._corpus))
        for _ in range(1 + int(self._luck.expovariate(0.5))):
            self._luck.choice(self._ways)(data)
        return bytes(data[: self._max_bytes])

    def _at(self, data: bytearray) -> int:
        # The first bytes are the headers.
        return self._luck.randrange(min(len(data), 32) if self._luck.random() < 0.5 else len(data)) if data else 0

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._at(data)] ^= 1 << self._luck.randrange(8)

    def _edge(self, data: bytearray) -> None:
        if data:
            data[self._at(data)] = self._luck.choice(EDGES)

    def _size(self, data: bytearray) -> None:
        if len(data) >= 2:
            at = min(self._at(data), len(data) - 2)
            data[at : at + 2] = self._luck.choice((0, 1, 255, 256, 4095, 8191, 32767, 32768, 65535)).to_bytes(2, "big")

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self._luck.randbytes(self._luck.randrange(1, 9))

    def _delete(self, data: bytearray) -> None:
        at = self._at(data)
        del data[at : at + self._luck.choice((1, 1, 2, 4, 16, 1_000))]

    def _double(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = data[at : at + self._luck.choice((1, 4, 16, 64, 256))] * self._luck.choice((1, 1, 2, 16))

    def _splice(self, data: bytearray) -> None:
        other = self._luck.choice(self._corpus)
        data[self._at(data) :] = other[self._luck.randrange(len(other) + 1) :]

    def _word(self, data: bytearray) -> None:
        at = self._at(data)
        word = self._luck.choice(self._words)
        data[at : at + (len(word) if self._luck.random() < 0.5 else 0)] = word
