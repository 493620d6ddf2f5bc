"""Every target for its share of the minutes (``make fuzz MINUTES=5``), each in processes of its own.

For most of a target's time its inputs are guided by coverage (where atheris is installed), the rest they are
mutations of what that found, in a process without instruments whose memory is watched. Progress goes to stderr; the
last line is JSON. What is found is kept in a directory that is named, with the traceback beside it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fuzz.table import names as all_names

GUIDED_SHARE = 0.6
"""Of a target's time. Instruments take some seconds to be put in, which are not counted."""
LEAST_S = 2.0
PATIENCE_S = 60
"""A process that has not ended so long after its time hangs."""
GROWTH_MAX_MB = 16.0
"""What a target may hold more at the end than after its start: caches that fill up."""


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


class Fuzzing:
    """One run over some targets."""

    def __init__(self, root: Path, seed: str, guided: bool) -> None:
        self._root, self._seed, self._guided = root, seed, guided

    def target(self, name: str, seconds: float) -> dict[str, Any]:
        """Both halves of a target's time; its figures."""
        folder = self._root / name.replace("/", "-")
        for part in ("corpus", "findings"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        total: dict[str, Any] = {"executions": 0, "crashes": 0, "hangs": 0, "growth_mb": 0.0}
        until = time.monotonic() + seconds
        for engine in ("atheris", "own") if self._guided else ("own",):
            left = until - time.monotonic()
            figures = self._child(
                name, engine, max(LEAST_S, left * (GUIDED_SHARE if engine == "atheris" else 1)), folder
            )
            for key in ("executions", "crashes", "hangs"):
                total[key] += figures[key]
            if engine == "own":
                total["growth_mb"] = figures["growth_mb"]
        say(f"{name}: {json.dumps(total)}")
        return total

    def _child(self, name: str, engine: str, seconds: float, folder: Path) -> dict[str, Any]:
        stats = folder / f"{engine}.json"
        command = [sys.executable, "-m", "tests.fuzz.child", name, "--engine", engine, "--seconds", str(seconds)]
        command += ["--seed", self._seed, "--stats", str(stats)]
        command += ["--corpus", str(folder / "corpus"), "--findings", str(folder / "findings")]
        figures: dict[str, Any] = {"executions": 0, "crashes": 0, "hangs": 0, "growth_mb": 0.0}
        hung, status = False, 0
        with (folder / f"{engine}.log").open("wb") as log:
            try:
                status = subprocess.run(command, stdout=log, stderr=log, timeout=seconds + PATIENCE_S).returncode
            except subprocess.TimeoutExpired:
                hung = True
        if stats.exists():
            figures = json.loads(stats.read_text())
        if hung:
            figures["hangs"] += 1
        elif status not in (0, -2):
            figures["crashes"] += 1
            say(f"{name}: the process ended with status {status}; see {folder / engine}.log")
        return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    known = all_names()
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(known)}; none: all")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--keep", type=Path, help="where corpora and findings go; default: a new directory")
    options = parser.parse_args()
    names = options.targets or known
    unknown = set(names) - set(known)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    guided = importlib.util.find_spec("atheris") is not None
    root = options.keep or Path(tempfile.mkdtemp(prefix="tp-fuzz-"))
    say(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
    say(f"python -m tests.fuzz {' '.join(sys.argv[1:])}: {'atheris' if guided else 'own mutations'}, kept in {root}")
    seconds = options.minutes * 60 * options.jobs / len(names)
    run, begun = Fuzzing(root, options.seed, guided), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        all_figures = list(pool.map(lambda name: run.target(name, seconds), names))
    say(f"{time.monotonic() - begun:.0f} s")
    result = {
        "targets": len(names),
        "executions": sum(figures["executions"] for figures in all_figures),
        "crashes": sum(figures["crashes"] for figures in all_figures),
        "hangs": sum(figures["hangs"] for figures in all_figures),
        "growth_mb": round(max(figures["growth_mb"] for figures in all_figures), 1),
    }
    print(json.dumps(result))
    return int(bool(result["crashes"] or result["hangs"]) or result["growth_mb"] > GROWTH_MAX_MB)


if __name__ == "__main__":
    sys.exit(main())
