"""The audit log offline: an extract row by row, and the signed anchors of its head.

An extract has the rows about one recording in full and of the others only the hash of their text: that is enough to
follow the chain, ``hash = sha256(hash before || sha256(text))``, and tells nothing of what others did.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from recorder.check import MALFORMED, Findings, trust
from recorder.files import Files
from recorder.signed import ANCHOR_FORMAT, Unsigned, opened


def check_extract(extract: dict[str, Any], heads: list[dict[str, Any]], out: Findings) -> None:
    """Check an extract's rows, and that it passes through the ``heads`` ({"n", "hash"}) signed elsewhere."""
    try:
        before, number = str(extract["before"]), int(extract["first"]) - 1
        stated: dict[int, str] = {number: before}
        for row in extract["rows"]:
            number += 1
            if row["n"] != number:
                out.problem(f"audit row {number} is missing")
                number = int(row["n"])
            if "text" in row:
                text_sha256 = hashlib.sha256(str(row["text"]).encode()).hexdigest()
            else:
                text_sha256 = str(row["text_sha256"])
            digest = hashlib.sha256(bytes.fromhex(before) + bytes.fromhex(text_sha256)).hexdigest()
            if digest != row["hash"]:
                out.problem(f"audit row {number} was altered")
            else:
                out.objects += 1
            before = stated[number] = str(row["hash"])
        for head in heads:
            known = stated.get(int(head["n"]))
            if known is not None and known != head["hash"]:
                out.problem(f"the audit log was written anew: row {head['n']} is not the one that was signed")
            elif known is None and int(head["n"]) > number:
                out.problem(f"the audit extract ends before row {head['n']}, which was signed")
    except MALFORMED as error:
        out.problem(f"audit.json cannot be understood: {type(error).__name__}")


async def check_anchors(files: Files, names: list[str], trusted: bytes | None, out: Findings) -> list[dict[str, Any]]:
    """The heads that the anchors hold; problems where one is not signed, or goes back."""
    heads: list[dict[str, Any]] = []
    newest: dict[str, int] = {}
    for name in names:
        try:
            found = opened(await files.read(name) or b"", ANCHOR_FORMAT)
            trust(found, trusted, name, out)
            folder, n = name.rsplit("/", 1)[0], int(found.statement["n"])
            if n < newest.get(folder, 0):
                out.problem(f"{name}: the audit log was shorter than before")
            newest[folder] = n
            heads.append({"n": n, "hash": str(found.statement["hash"])})
            out.objects += 1
        except Unsigned as error:
            out.problem(f"{name} {error}")
        except MALFORMED as error:
            out.problem(f"{name} cannot be understood: {type(error).__name__}")
    return heads


def parse(data: bytes) -> dict[str, Any] | None:
    """A JSON object, or None for anything else."""
    try:
        read = json.loads(data)
    except MALFORMED:
        return None
    return read if isinstance(read, dict) else None
