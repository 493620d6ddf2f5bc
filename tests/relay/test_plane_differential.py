"""Both planes leave the same trace of the same traffic: bytes, upcalls, counters and timers."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.plane_choice import PLANES
from relay.plane_native import WHY_NOT
from tests.relay.plane_capture import CAPTURES, replay
from tests.relay.plane_traffic import difference

pytestmark = pytest.mark.skipif("native" not in PLANES, reason=f"no native plane: {WHY_NOT}")


@pytest.mark.parametrize("seed", range(16))
def test_both_planes_do_the_same(seed: int) -> None:
    assert difference(seed, steps=80) is None


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.json.gz")), ids=lambda path: path.name.partition(".")[0])
def test_both_planes_do_the_same_in_a_real_call(path: Path) -> None:
    expected, found = replay("python", path), replay("native", path)
    different = next((i for i, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]), None)
    assert different is None or expected[different] == found[different]
    assert len(expected) == len(found)
    assert sum(type(seen) is tuple and type(seen[1]) is bytes for seen in expected) > 1_000, "media was forwarded"
