"""What a measurement ran on: each bench tells it before its run, in the same three lines, and keeps it with the rest.

``announce`` is the first thing that a bench does, ``say`` how it tells of its progress.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple


class Machine(NamedTuple):
    """Processor, kernel, versions and command. Kept as ``_asdict()`` under ``where``; ``Machine(**where)`` reads it."""

    cpu: str
    """What the processor calls itself."""
    cpus: int
    kernel: str
    load_average: float
    """Of the minute before the run: whether the machine had other work."""
    versions: Mapping[str, str]
    """Python, and what the bench named; what is not installed is left out."""
    command: str

    @property
    def hardware(self) -> str:
        """The part that is the same for all runs on one machine."""
        return f"{self.cpu}, {self.cpus} CPUs, kernel {self.kernel}"

    @property
    def software(self) -> str:
        return ", ".join(f"{name} {number}" for name, number in self.versions.items())

    def told(self) -> str:
        """For people, before a run."""
        return (
            f"machine: {self.hardware}, load average {self.load_average:.1f}\n"
            f"versions: {self.software}\n"
            f"command: {self.command}"
        )


def machine(*distributions: str, **others: str | None) -> Machine:
    """This machine and this process' command. ``distributions``: Python packages whose versions count; ``others``:
    versions of what is none, None where there is none."""
    versions = {"Python": platform.python_version(), **{name: version(name) for name in distributions}}
    versions |= {name: number for name, number in others.items() if number}
    return Machine(
        cpu_name(), os.cpu_count() or 1, platform.release(), round(os.getloadavg()[0], 2), versions, command(sys.argv)
    )


def announce(*distributions: str, **others: str | None) -> Machine:
    """The same, and tell it on stderr."""
    found = machine(*distributions, **others)
    print(found.told(), file=sys.stderr, flush=True)
    return found


def command(argv: Sequence[str]) -> str:
    """How to run this again."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = [f"-m {spec.name.removesuffix('.__main__')}"] if spec else [shlex.quote(argv[0])]
    return " ".join(["python", *program, *map(shlex.quote, argv[1:])])


def cpu_name(told: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor calls itself, its architecture where it does not say."""
    lines: list[str] = told.read_text().splitlines() if told.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def read(kept: Mapping[str, Any]) -> Machine:
    """Of a kept result."""
    return Machine(**kept["where"])


def say(text: str) -> None:
    """Progress, with the time of day, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
