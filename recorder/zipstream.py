"""A ZIP archive whose every byte is known before it is sent: stored members in order, sizes and CRCs given.

So an archive of any size has a length, can be resumed at any byte, and is never on a disk (APPNOTE.TXT 6.3.9; every
member and the directory in the Zip64 form, so that there is one form for all sizes).
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from typing import Final

_LOCAL: Final = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL: Final = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END64: Final = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR: Final = struct.Struct("<4sIQI")
_END: Final = struct.Struct("<4sHHHHIIH")
_VERSION: Final = 45
_UTF8: Final = 0x800
_DATE: Final = (2026 - 1980) << 9 | 1 << 5 | 1
_MANY: Final = 0xFFFF_FFFF
_UNIX_0644: Final = 0o100644 << 16


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One file of the archive."""

    name: str
    size: int
    crc32: int


@dataclasses.dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive bytes of the archive: given ones, or those of a member."""

    start: int
    size: int
    data: bytes | None
    member: int = -1


def layout(members: Sequence[Member]) -> list[Stretch]:
    """The whole archive, stretch by stretch."""
    out: list[Stretch] = []
    directory, at = b"", 0

    def add(data: bytes | None, size: int, member: int = -1) -> None:
        nonlocal at
        out.append(Stretch(at, size, data, member))
        at += size

    for number, member in enumerate(members):
        name = member.name.encode()
        offset = at
        sizes = struct.pack("<HHQQ", 1, 16, member.size, member.size)
        head = _LOCAL.pack(b"PK\3\4", _VERSION, _UTF8, 0, 0, _DATE, member.crc32, _MANY, _MANY, len(name), len(sizes))
        add(head + name + sizes, len(head) + len(name) + len(sizes))
        add(None, member.size, number)
        extra = struct.pack("<HHQQQ", 1, 24, member.size, member.size, offset)
        directory += _CENTRAL.pack(
            *(b"PK\1\2", 3 << 8 | _VERSION, _VERSION, _UTF8, 0, 0, _DATE, member.crc32, _MANY, _MANY),
            *(len(name), len(extra), 0, 0, 0, _UNIX_0644, _MANY),
        )
        directory += name + extra
    count = len(members)
    end = _END64.pack(b"PK\6\6", 44, 3 << 8 | _VERSION, _VERSION, 0, 0, count, count, len(directory), at)
    end += _LOCATOR.pack(b"PK\6\7", 0, at + len(directory), 1)
    end += _END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, _MANY, _MANY, 0)
    add(directory + end, len(directory) + len(end))
    return out


def length(members: Sequence[Member]) -> int:
    """Bytes of the whole archive."""
    last = layout(members)[-1]
    return last.start + last.size
