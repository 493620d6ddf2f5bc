"""What a fuzz target is, and what it may ask of the bytes' reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

Run = Callable[[bytes], object]
"""Feeds one input. Whatever it raises is a finding."""


class Broken(Exception):
    """An invariant of a target does not hold."""


@dataclass(frozen=True)
class Target:
    """A parser, or several that read the same bytes."""

    name: str
    """Its place in the tree: ``relay/rtp``."""
    make: Callable[[], Run]
    """Called once per process, and again every ``renew`` inputs for those that keep state."""
    seeds: Callable[[], Iterable[bytes]]
    """Inputs as they are meant to be: mutations begin here."""
    max_bytes: int = 2_048
    """Longest input tried."""
    renew: int = 0
    """After so many inputs ``make`` is called anew; 0: never."""
    cpu_max_s: float = 1.0
    """One input that takes more processor time than this hangs."""
    words: Sequence[bytes] = ()
    """What this format is made of."""


def broken(why: str) -> NoReturn:
    raise Broken(why)


def expect(holds: bool, why: str) -> None:
    """An invariant."""
    if not holds:
        raise Broken(why)


def framed(datagrams: Iterable[bytes]) -> bytes:
    """Several datagrams as one input, each after its length in two bytes."""
    return b"".join(len(one).to_bytes(2, "big") + one for one in datagrams)


def unframed(data: bytes, most: int = 64) -> Iterator[bytes]:
    """The datagrams in an input; a length beyond the end stands for all that is left."""
    at = 0
    for _ in range(most):
        if at + 2 > len(data):
            return
        length = data[at] << 8 | data[at + 1]
        yield data[at + 2 : at + 2 + length]
        at += 2 + length
