"""Planes for the tests: every test of the interface runs on each plane that can be made here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.plane import Plane
from relay.plane_choice import PLANES, make_plane
from tests.relay.plane_peer import World


@pytest.fixture(params=sorted(PLANES))
def plane(request: pytest.FixtureRequest) -> Iterator[Plane]:
    """A fresh plane."""
    made = make_plane(request.param)
    yield made
    made.close()


@pytest.fixture
def world(plane: Plane) -> Iterator[World]:
    """A plane with one bound socket and a clock that moves only when told to."""
    made = World(plane)
    yield made
    made.close()
