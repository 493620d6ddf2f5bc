"""Compositions and the like offline: each has a signed statement that names its pieces with their hashes.

They are not evidence: what has no statement was left over by a recorder that died, and is told as a note. What has one
is what the statement says, or a problem.
"""

from __future__ import annotations

import re
from typing import Any, Final

from recorder.check import MALFORMED, Findings, trust
from recorder.files import Files
from recorder.segments import PRODUCT_EPOCH
from recorder.signed import PRODUCT_FORMAT, Unsigned, opened

_STATEMENT: Final = re.compile(rf"{PRODUCT_EPOCH}/(\d{{2,9}})-product\.json")


async def check_products(
    files: Files, base: str, prefix: str, root: dict[str, Any], names: list[str], trusted: bytes | None, out: Findings
) -> set[str]:
    """Check all products of a recording; the names that belong to them. ``prefix``: of the recording's objects."""
    seen: set[str] = set()
    for name in names:
        match = _STATEMENT.fullmatch(name)
        if match is None:
            continue
        seen.add(base + name)
        try:
            found = opened(await files.read(base + name) or b"", PRODUCT_FORMAT)
        except Unsigned as error:
            out.problem(f"{base}{name} {error}")
            continue
        trust(found, trusted, base + name, out)
        out.objects += 1
        try:
            statement = found.statement
            if (statement["recording"], statement["n"]) != (root["recording"], int(match.group(1))):
                out.problem(f"{base}{name} is about something else")
            for piece in statement["pieces"]:
                key = str(piece["key"])
                local = base + (key[len(prefix) :] if key.startswith(prefix) else f"elsewhere/{key}")
                seen.add(local)
                digest = await files.digest(local)
                if digest is None:
                    out.problem(f"{local} is missing")
                elif digest.sha256.hex() != piece["sha256"]:
                    out.problem(f"{local} was altered")
                else:
                    out.objects += 1
        except MALFORMED as error:
            out.problem(f"{base}{name} cannot be understood: {type(error).__name__}")
    return seen
