"""Builds the native plane where there is a C compiler; everything else is in pyproject.toml.

``TURNPIKE_SANITIZE=1`` builds it with address and undefined-behaviour checks, for ``tests.fuzz.plane_native``.
"""

from __future__ import annotations

import os
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SANITIZE = os.environ.get("TURNPIKE_SANITIZE") == "1"
FLAGS = (
    ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
    if SANITIZE
    else ["-O3", "-g0"]
)
SOURCE = "relay/plane_native/_plane.pyx"


class BuildWherePossible(build_ext):
    """A missing compiler, or a system without Linux's socket calls, is said in one line and costs nothing else."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:  # noqa: BLE001 - whatever keeps a compiler from working, the Python plane works
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:100]
            sys.stderr.write(f"The native media plane is not built, and the one in Python is used ({reason}).\n")


setup(
    ext_modules=[
        Extension(
            "relay.plane_native._plane",
            [SOURCE],
            extra_compile_args=[*FLAGS, "-Wno-unused-function"],
            extra_link_args=["-fsanitize=address,undefined"] if SANITIZE else [],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildWherePossible},
)
