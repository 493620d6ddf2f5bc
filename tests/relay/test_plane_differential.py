"""Both planes leave the same trace of the same traffic: bytes, upcalls, counters and timers."""

from __future__ import annotations

import pytest

from relay.plane_choice import PLANES
from relay.plane_native import WHY_NOT
from tests.relay.plane_traffic import difference

pytestmark = pytest.mark.skipif("native" not in PLANES, reason=f"no native plane: {WHY_NOT}")


@pytest.mark.parametrize("seed", range(16))
def test_both_planes_do_the_same(seed: int) -> None:
    assert difference(seed, steps=80) is None
