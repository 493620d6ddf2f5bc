"""Is a recording what was signed? Root, manifests, chains, and every stored object, without a database or a key.

Each problem names the segment, the manifest or the root that it is about. Whatever bytes are read, a check ends with
findings and never with a fault.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import Any, Final

from recorder.files import Files
from recorder.manifest import FORMAT, FORMAT_VERSION, canonical, chain_next, chain_start
from recorder.segments import PRODUCT_EPOCH, recording_prefix
from recorder.signed import ROOT_FORMAT, Signed, Unsigned, opened

PROBLEMS_MAX: Final = 1000
_ROOT: Final = re.compile(r"root-(\d{3})\.json")
_NUMBERED: Final = re.compile(r"manifest-(\d{5,9})\.json")
MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)
"""What reading a document of somebody else's making may raise."""


@dataclasses.dataclass(slots=True)
class Findings:
    """What a verification found."""

    problems: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    """Nothing wrong, but worth knowing."""
    recordings: int = 0
    objects: int = 0
    """Objects or files that are exactly what was signed."""
    signers: set[str] = dataclasses.field(default_factory=set)
    """Ids of the keys that signed."""

    def problem(self, text: str) -> None:
        """Note what is wrong; beyond ``PROBLEMS_MAX`` only that there is more."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)
        elif len(self.problems) == PROBLEMS_MAX:
            self.problems.append("there are more problems than are listed")


def trust(found: Signed, trusted: bytes | None, what: str, findings: Findings) -> None:
    """Note who signed; a problem if it is not who should have."""
    findings.signers.add(found.key_id)
    if trusted is not None and found.public_key != trusted:
        findings.problem(f"{what} is signed by another key: {found.key_id}")


async def check_recording(files: Files, base: str, names: list[str], trusted: bytes | None, out: Findings) -> None:
    """Check the recording whose roots lie in the folder ``base`` (empty, or ending in a slash)."""
    from recorder.check_products import check_products

    out.recordings += 1
    newest = await _check_roots(files, base, names, trusted, out)
    if newest is None:
        return
    try:
        prefix = recording_prefix(int(newest["tenant"]), str(newest["recording"]))
        seen = {base + name for name in names if name.startswith("root-")}
        if newest["story"] is not None:
            seen.add(await _check_object(files, base, prefix, newest["story"]["key"], newest["story"]["sha256"], out))
        for part in newest["parts"]:
            seen |= await _check_part(files, base, prefix, newest, part, names, out)
        seen |= await check_products(files, base, prefix, newest, names, trusted, out)
        signed = {str(part["epoch"]) for part in newest["parts"]} | {str(PRODUCT_EPOCH)}
        following = f"root-{int(newest['number']) + 1:03d}.json"
    except MALFORMED as error:
        out.problem(f"{base}: the root cannot be understood: {type(error).__name__}")
        return
    for epoch in sorted({name.split("/")[0] for name in names if "/" in name} - signed):
        out.problem(f"{base}{epoch}/ is a part that no root signs: {following} is missing")
    for name in names:
        if base + name not in seen:
            out.notes.append(f"{base}{name} is not part of the recording (left by a recorder that was killed)")


async def _check_roots(
    files: Files, base: str, names: list[str], trusted: bytes | None, out: Findings
) -> dict[str, Any] | None:
    """The newest root's statement, after all roots were checked."""
    newest: dict[str, Any] | None = None
    before: bytes | None = None
    for number, name in enumerate(name for name in names if _ROOT.fullmatch(name)):
        data = await files.read(base + name) or b""
        try:
            found = opened(data, ROOT_FORMAT)
        except Unsigned as error:
            out.problem(f"{base}{name} {error}")
            before = hashlib.sha256(data).digest()
            continue
        trust(found, trusted, base + name, out)
        statement = found.statement
        if statement.get("number") != number or name != f"root-{number:03d}.json":
            out.problem(f"{base}: a root before {name} is missing")
        elif statement.get("previous_sha256") != (None if before is None else before.hex()):
            out.problem(f"{base}{name} does not follow the root before it")
        folder = base.rstrip("/").rsplit("/", 1)[-1]
        if folder.startswith("rec_") and folder != statement.get("recording"):
            out.problem(f"{base}{name} is the root of another recording")
        newest, before = statement, hashlib.sha256(data).digest()
        out.objects += 1
    if newest is None:
        out.problem(f"{base or 'the folder'}: there is no root whose signature holds: the recording is not signed")
    return newest


async def _check_part(
    files: Files, base: str, prefix: str, root: dict[str, Any], part: dict[str, Any], names: list[str], out: Findings
) -> set[str]:
    """Check one part; the names that belong to it."""
    epoch = int(part["epoch"])
    if part["manifest_key"] is None:
        out.notes.append(f"{base}{epoch}/ is a part without a manifest: {part['failure'] or part['state']}")
        return {base + name for name in names if name.startswith(f"{epoch}/")}
    name = _local(base, prefix, str(part["manifest_key"]))
    seen = {name}
    data = await files.read(name)
    if data is None:
        out.problem(f"{name} is missing")
        return seen
    if hashlib.sha256(data).hexdigest() != part["manifest_sha256"]:
        out.problem(f"{name} was altered")
    else:
        out.objects += 1
    try:
        manifest = json.loads(data)
        if (manifest["format"], manifest["version"]) != (FORMAT, FORMAT_VERSION):
            out.problem(f"{name} has a format that this program does not know")
            return seen
        if (manifest["recording"], manifest["epoch"]) != (root["recording"], epoch):
            out.problem(f"{name} is the manifest of another part")
        numbered, before = await _check_numbered(files, base, epoch, manifest, names, out)
        seen |= numbered
        if part["state"] == "failed" and not manifest["final"]:
            out.notes.append(f"{base}{epoch}/ is a part that is not complete: {part['failure']}")
        else:
            check_chain(manifest, part, name, out)
            before = []  # the last manifest has all that they have
        for entry in [each for one in [*before, manifest] for each in one["chain"]["entries"]]:
            seen.add(await _check_object(files, base, prefix, entry["object_key"], entry["object_sha256"], out))
        for stream in manifest["streams"]:
            made = stream["derivative"]
            if made is not None:
                key, sha256 = made["front_key"], made["front_object_sha256"]
                seen.add(await _check_object(files, base, prefix, key, sha256, out))
    except MALFORMED as error:
        out.problem(f"{name} cannot be understood: {type(error).__name__}")
    return seen


def check_chain(manifest: dict[str, Any], part: dict[str, Any], name: str, out: Findings) -> None:
    """Does the chain of the part's last manifest hold, and is it the one that was signed? Raises ``MALFORMED``."""
    chain = chain_start(str(manifest["recording"]), int(manifest["epoch"]))
    for place, shown in enumerate(manifest["chain"]["entries"], 1):
        fields = {key: value for key, value in shown.items() if key not in ("entry_sha256", "chain")}
        chain = chain_next(chain, hashlib.sha256(canonical(fields)).digest())
        if chain.hex() != shown["chain"]:
            out.problem(f"{name}: its chain breaks at entry {place} ({shown['object_key']})")
            return
    if chain.hex() != part["chain"] or len(manifest["chain"]["entries"]) != part["entries"]:
        out.problem(f"{name}: entries are missing, or were added, since it was signed")


async def _check_object(files: Files, base: str, prefix: str, key: str, sha256: str, out: Findings) -> str:
    name = _local(base, prefix, key)
    found = await files.digest(name)
    if found is None:
        out.problem(f"{name} is missing")
    elif found.sha256.hex() != sha256:
        out.problem(f"{name} was altered")
    else:
        out.objects += 1
    return name


async def _check_numbered(
    files: Files, base: str, epoch: int, final: dict[str, Any], names: list[str], out: Findings
) -> tuple[set[str], list[dict[str, Any]]]:
    """The manifests written before, each of which names the hash of the one before it: names, and contents."""
    found: dict[str, tuple[int, str, bytes]] = {}
    for name in names:
        folder, _, last = name.rpartition("/")
        match = _NUMBERED.fullmatch(last)
        if folder == str(epoch) and match is not None:
            data = await files.read(base + name)
            if data is None:
                out.problem(f"{base}{name} is listed, and cannot be read")
                continue
            found[hashlib.sha256(data).hexdigest()] = (int(match.group(1)), base + name, data)
    seen: set[str] = set()
    read: list[dict[str, Any]] = []
    below, wanted = int(final["number"]) + 1, final["previous_sha256"]
    while wanted is not None:
        held = found.pop(wanted, None)
        if held is None:
            suspects = sorted(each[:2] for each in found.values() if each[0] < below)
            if suspects:
                out.problem(f"{suspects[-1][1]} was altered")
                seen.add(suspects[-1][1])
            else:
                out.problem(f"{base}{epoch}/: a manifest before number {below} is missing")
            break
        below, name, data = held
        seen.add(name)
        out.objects += 1
        read.append(json.loads(data))
        wanted = read[-1]["previous_sha256"]
    return seen, read


def _local(base: str, prefix: str, key: str) -> str:
    """Where an object lies here. An object of elsewhere is looked for where it cannot be."""
    return base + (key[len(prefix) :] if key.startswith(prefix) else f"elsewhere/{key}")


def find_recordings(names: list[str]) -> dict[str, list[str]]:
    """The recordings among the names: folder (empty, or ending in a slash) → names in it."""
    bases = {name[: -len("root-000.json")] for name in names if _ROOT.fullmatch(name.rsplit("/", 1)[-1])}
    for name in names:  # one whose root was taken away is a recording all the same
        match = re.match(r"((?:.*/)?rec_[0-9a-z]{20}/)\d+/", name)
        if match is not None:
            bases.add(match.group(1))
    if not bases and any(re.match(r"\d+/manifest", name) for name in names):
        bases.add("")
    return {base: [name[len(base) :] for name in names if name.startswith(base)] for base in sorted(bases)}


async def check_store(files: Files, trusted: bytes | None, out: Findings) -> None:
    """Check all recordings and audit anchors that the files hold."""
    from recorder.check_audit import check_anchors

    names = await files.names()
    for base, inside in find_recordings(names).items():
        await check_recording(files, base, inside, trusted, out)
    anchors = [name for name in names if re.search(r"(^|/)audit/\d+/\d{4}-\d\d-\d\d\.json$", name)]
    await check_anchors(files, anchors, trusted, out)
    if not out.recordings and not anchors:
        out.problem("there is no recording in it")
