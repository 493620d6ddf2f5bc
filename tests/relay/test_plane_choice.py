"""Which plane runs, and what is said about it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from relay import plane_choice, plane_native
from relay.codecs import KEY_FRAME_TESTS
from relay.plane_choice import PLANES, choose_plane, make_plane

NATIVE_CODECS = {"opus", "vp8", "h264"}
"""Those whose key frames ``specs.pxi`` and ``streams.pxi`` know; ``opus`` as one that may begin anywhere."""


def test_each_plane_says_its_name() -> None:
    for name in PLANES:
        plane = make_plane(name)
        assert plane.name == name
        plane.close()


def test_the_native_plane_runs_where_it_was_built() -> None:
    plane, why = choose_plane()
    assert plane.name == ("native" if "native" in PLANES else "python")
    assert why
    plane.close()


def test_without_a_native_plane_the_python_one_runs_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane_choice, "WHY_NOT", "none was built")
    plane, why = choose_plane()
    assert (plane.name, why) == ("python", "none was built")


def test_a_plane_that_was_asked_for_is_that_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    plane, why = choose_plane("python")
    assert (plane.name, why) == ("python", "as TURNPIKE_PLANE says")
    monkeypatch.setattr(plane_native, "WHY_NOT", "none was built")
    with pytest.raises(RuntimeError, match="none was built"):
        choose_plane("native")


def test_no_codec_is_known_to_one_plane_alone() -> None:
    assert set(KEY_FRAME_TESTS) == NATIVE_CODECS


def test_an_extension_that_cannot_be_loaded_is_said_in_one_line() -> None:
    """As on a machine without a compiler; and a worker there runs all the same."""
    code = (
        "import sys; sys.modules['relay.plane_native._plane'] = None\n"
        "from relay.plane_choice import choose_plane\n"
        "plane, why = choose_plane()\n"
        "print(plane.name, why)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("python ")
    assert len(run.stdout.splitlines()) == 1
