"""Builds the benchmarks' own Cython modules on first use, into ``.make/bench``; they are no part of the product."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
BUILT = HERE.parent / ".make" / "bench"


def load(name: str) -> ModuleType:
    """The compiled ``bench/<name>.pyx``, built anew where its source is newer. Raises what the compiler does."""
    source = HERE / f"{name}.pyx"
    built = next(BUILT.glob(f"{name}.*.so"), None)
    newest = max(part.stat().st_mtime for part in (source, *HERE.glob(f"{name}_*.pxi"), *HERE.glob("*.pxd")))
    if built is None or built.stat().st_mtime < newest:
        built = _build(name, source)
    spec = importlib.util.spec_from_file_location(name, built)
    if spec is None or spec.loader is None:
        raise ImportError(f"{built} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _build(name: str, source: Path) -> Path:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    BUILT.mkdir(parents=True, exist_ok=True)
    print(f"compiling {source.name}", file=sys.stderr)
    extension = Extension(name, [str(source)], extra_compile_args=["-O2"])
    modules = cythonize([extension], build_dir=str(BUILT), quiet=True)
    distribution = Distribution({"name": name, "ext_modules": modules})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(BUILT), str(BUILT)  # type: ignore[union-attr]
    command.ensure_finalized()
    command.run()
    return next(BUILT.glob(f"{name}.*.so"))
