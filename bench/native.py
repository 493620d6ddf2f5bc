"""Builds the benchmarks' own Cython modules on first use, into ``.make/bench``; they are no part of the product."""

from __future__ import annotations

import fcntl
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
BUILT = HERE.parent / ".make" / "bench"


def load(name: str) -> ModuleType:
    """The compiled ``bench/<name>.pyx``, built anew where a source of it is newer. Raises what the compiler does."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a relay and its load ask at once, and so do tests
        built = fresh(name) or _build(name)
    spec = importlib.util.spec_from_file_location(name, built)
    if spec is None or spec.loader is None:
        raise ImportError(f"{built} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def sources(name: str) -> list[Path]:
    """What a module is made from: its .pyx first, the parts that are its own (.pxi) and what all share (.pxd)."""
    return [HERE / f"{name}.pyx", *sorted(HERE.glob(f"{name}_*.pxi")), *sorted(HERE.glob("*.pxd"))]


def fresh(name: str) -> Path | None:
    """What was built from the sources as they are now, None: nothing was."""
    built = next(BUILT.glob(f"{name}.*.so"), None)
    newest = max(part.stat().st_mtime for part in sources(name))
    return None if built is None or built.stat().st_mtime < newest else built


def _build(name: str) -> Path:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    source = sources(name)[0]
    print(f"compiling {source.name}", file=sys.stderr)
    extension = Extension(name, [str(source)], extra_compile_args=["-O2"])
    modules = cythonize([extension], build_dir=str(BUILT), force=True, quiet=True)  # type: ignore[no-untyped-call]
    distribution = Distribution({"name": name, "ext_modules": modules})
    command: Any = distribution.get_command_obj("build_ext")
    command.force = True
    command.build_lib, command.build_temp = str(BUILT), str(BUILT)
    command.ensure_finalized()
    command.run()
    return next(BUILT.glob(f"{name}.*.so"))
