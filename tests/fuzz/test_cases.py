"""What fuzzing found once stays mended, and every target holds for what it begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.mutate import Mutator
from tests.fuzz.table import PLANE, load, names

CASES = Path(__file__).with_name("cases")
TRIED = 40


@pytest.mark.parametrize("name", names())
def test_seeds_cases_and_a_few_mutations_are_taken(name: str) -> None:
    target = load(name)
    run, seeds = target.make(), [seed[: target.max_bytes] for seed in target.seeds()]
    assert seeds, "a target begins with something"
    folder = CASES / (f"{PLANE}input" if name.startswith(PLANE) else name)  # one plane's finding is tried on each
    cases = [path.read_bytes() for path in sorted(folder.glob("*"))] if folder.exists() else []
    mutator = Mutator(name, seeds, target.max_bytes, target.words)
    for data in [b"", b"\0", b"\xff" * 64, *seeds, *cases, *(mutator.next() for _ in range(TRIED))]:
        run(data)
