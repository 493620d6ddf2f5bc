"""Is an export bundle what was signed? Every file, and the way from the media to the root."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from recorder.check import MALFORMED, Findings, check_chain, trust
from recorder.check_audit import check_extract, parse
from recorder.files import Files
from recorder.signed import BUNDLE_FORMAT, ROOT_FORMAT, Unsigned, opened

BUNDLE: Final = "bundle.json"


async def check_bundle(files: Files, trusted: bytes | None, out: Findings) -> None:
    """Check all that a bundle holds."""
    out.recordings += 1
    names = await files.names()
    statement: dict[str, Any] | None = None
    try:
        found = opened(await files.read(BUNDLE) or b"", BUNDLE_FORMAT)
        trust(found, trusted, BUNDLE, out)
        statement = found.statement
        out.objects += 1
    except Unsigned as error:
        out.problem(f"{BUNDLE} {error}")
    for name in sorted({name for name in names if names.count(name) > 1}):
        out.problem(f"{name} is in the bundle twice")
    try:
        if statement is not None:
            await _check_files(files, names, statement, out)
        root = await _check_roots(files, names, statement, trusted, out)
        if root is not None:
            await _check_parts(files, root, out)
            audit = parse(await files.read("audit.json") or b"")
            if audit is None:
                out.problem("audit.json is missing or cannot be understood")
            else:
                check_extract(audit, [] if root["audit"] is None else [root["audit"]], out)
    except MALFORMED as error:
        out.problem(f"the bundle cannot be understood: {type(error).__name__}")


async def _check_files(files: Files, names: list[str], statement: dict[str, Any], out: Findings) -> None:
    listed = {str(each["name"]): each for each in statement["files"]}
    for name, each in listed.items():
        found = await files.digest(name)
        if found is None:
            out.problem(f"{name} is missing")
        elif (found.size, found.sha256.hex()) != (each["bytes"], each["sha256"]):
            out.problem(f"{name} was altered")
        else:
            out.objects += 1
    for name in names:
        if name not in listed and name != BUNDLE:
            out.problem(f"{name} is not part of the bundle")


async def _check_roots(
    files: Files, names: list[str], statement: dict[str, Any] | None, trusted: bytes | None, out: Findings
) -> dict[str, Any] | None:
    newest: dict[str, Any] | None = None
    for name in [name for name in names if name.startswith("root-")]:
        try:
            found = opened(await files.read(name) or b"", ROOT_FORMAT)
        except Unsigned as error:
            out.problem(f"{name} {error}")
            continue
        trust(found, trusted, name, out)
        newest = found.statement
        if statement is not None and newest["recording"] != statement["recording"]:
            out.problem(f"{name} is the root of another recording")
    if newest is None:
        out.problem("there is no root whose signature holds: the recording is not signed")
    return newest


async def _check_parts(files: Files, root: dict[str, Any], out: Findings) -> None:
    """The manifests against the root, and the media against the manifests."""
    held = {digest.sha256.hex() for name in await files.names() if (digest := await _media(files, name)) is not None}
    for part in root["parts"]:
        if part["manifest_sha256"] is None:
            out.notes.append(f"part {part['epoch']} of the call is missing: {part['failure'] or part['state']}")
            continue
        name = f"parts/{part['epoch']}/manifest.json"
        data = await files.read(name) or b""
        if hashlib.sha256(data).hexdigest() != part["manifest_sha256"]:
            out.problem(f"{name} is not the manifest that the root signs")
        manifest = parse(data)
        if manifest is None:
            out.problem(f"{name} cannot be understood")
            continue
        if part["state"] == "failed":  # what there is of it is not played; the store has it
            out.notes.append(f"part {part['epoch']} of the call is missing: {part['failure']}")
            continue
        check_chain(manifest, part, name, out)
        for stream in manifest["streams"]:
            made = stream["derivative"]
            if made is not None and not stream["superseded"] and made["file_sha256"] not in held:
                out.problem(f"media of stream {stream['n']} ({stream['source']}) is missing or was altered")


async def _media(files: Files, name: str) -> Any:
    return await files.digest(name) if name.startswith("media/") else None
