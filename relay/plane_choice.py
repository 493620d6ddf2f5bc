"""Which plane runs: the native one where it was built, else the one in Python.

Both keep the promises of ``relay.plane``; ``turnpike info`` tells which runs, and why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from relay.plane import Plane
from relay.plane_native import WHY_NOT, make_native_plane
from relay.plane_python import PythonPlane

Wanted = Literal["auto", "python", "native"]

PLANES: Final[dict[str, Callable[[], Plane]]] = (
    {"python": PythonPlane} if WHY_NOT is not None else {"native": make_native_plane, "python": PythonPlane}
)
"""Name → how to make one; those that can be made here."""


def make_plane(name: str) -> Plane:
    """A fresh plane by name; ``RuntimeError`` where it cannot be made here."""
    if name == "native":
        return make_native_plane()
    return PLANES[name]()


def choose_plane(wanted: Wanted = "auto") -> tuple[Plane, str]:
    """The plane to run on, and why it is this one. ``RuntimeError``: ``native`` was asked for and is not there."""
    if wanted == "python":
        return PythonPlane(), "as TURNPIKE_PLANE says"
    if wanted == "native":
        return make_native_plane(), "as TURNPIKE_PLANE says"
    if WHY_NOT is None:
        return make_native_plane(), "it was built here"
    return PythonPlane(), WHY_NOT
