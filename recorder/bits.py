"""Reading headers bit by bit."""

from __future__ import annotations


class Bits:
    """A reader of big-endian bits. Reading beyond the end raises ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> int:
        """The next ``count`` bits as a number."""
        end = self._at + count
        if end > 8 * len(self._data):
            raise ValueError("the header is cut")
        whole = int.from_bytes(self._data[self._at >> 3 : (end + 7) >> 3], "big")
        self._at = end
        return whole >> (-end & 7) & ((1 << count) - 1)

    def flag(self) -> bool:
        """The next bit."""
        return bool(self.take(1))
