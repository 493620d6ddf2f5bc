"""Planes for the tests: every test of the interface runs on each plane that can be made here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.plane import Plane
from relay.plane_python import PythonPlane
from tests.relay.plane_peer import World

PLANES = {"python": PythonPlane}


@pytest.fixture(params=sorted(PLANES))
def plane(request: pytest.FixtureRequest) -> Iterator[Plane]:
    """A fresh plane."""
    made = PLANES[request.param]()
    yield made
    made.close()


@pytest.fixture
def world(plane: Plane) -> Iterator[World]:
    """A plane with one bound socket and a clock that moves only when told to."""
    made = World(plane)
    yield made
    made.close()
