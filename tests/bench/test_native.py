"""The benchmarks' own compiled modules are built anew when any of their sources changes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bench import native

MODULES = sorted(path.stem for path in native.HERE.glob("*.pyx"))
PARTS = re.compile(r'^include "(.+)"|^from bench\.(\w+) cimport', re.MULTILINE)
LINES_MAX = 450


@pytest.mark.parametrize("name", MODULES)
def test_all_that_a_module_is_made_from_is_known(name: str) -> None:
    known = native.sources(name)
    said = [match for part in known for match in PARTS.findall(part.read_text())]
    assert said
    assert {native.HERE / (included or f"{shared}.pxd") for included, shared in said} <= set(known)


@pytest.mark.parametrize("path", sorted(native.HERE.glob("*.p[yx][xdi]")), ids=lambda path: path.name)
def test_sources_can_be_read_in_one_go(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


@pytest.mark.parametrize("changed", ["made.pyx", "made_part.pxi", "shared.pxd"])
def test_what_was_built_before_a_source_changed_is_not_used(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "HERE", tmp_path)
    monkeypatch.setattr(native, "BUILT", tmp_path / "built")
    native.BUILT.mkdir()
    for name in ("made.pyx", "made_part.pxi", "shared.pxd", "other_part.pxi"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1_000, 1_000))
    assert native.fresh("made") is None
    built = native.BUILT / "made.cpython-311.so"
    built.touch()
    os.utime(built, (2_000, 2_000))
    os.utime(tmp_path / "other_part.pxi", (3_000, 3_000))
    assert native.fresh("made") == built
    os.utime(tmp_path / changed, (3_000, 3_000))
    assert native.fresh("made") is None
