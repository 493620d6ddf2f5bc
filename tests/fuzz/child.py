"""One target in a process of its own: ``python -m tests.fuzz.child NAME --seconds 10 --findings DIR``.

Inputs come from atheris, guided by what code they reach, where it is installed and ``--engine`` does not say otherwise;
else from ``mutate``. What an input sets off is written to a file beside the input, once per place it comes from, and
the next input follows. After each second the state so far is written to ``--stats``, so that it outlives a crash of the
process itself.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEMORY_MAX = 1_500 * 1024 * 1024
"""Address space for data; a target that wants more ends with MemoryError, which is a finding."""
FINDINGS_MAX = 20
_KINDS = {"crashes": "crash", "hangs": "hang"}
SETTLED_SHARE = 0.3
"""Of the time, after which memory should not grow any more."""


def rss_mb() -> float:
    """What this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024 / 1024


class Feeder:
    """Feeds a target, notes what it does."""

    def __init__(self, target: Any, findings: Path, stats: Path, seconds: float) -> None:
        self._target, self._findings, self._stats = target, findings, stats
        self._run = target.make()
        self._begun = time.monotonic()
        self._settles = self._begun + SETTLED_SHARE * seconds
        self._told = self._begun
        self._settled_mb: float | None = None
        self._places: set[str] = set()
        self.figures = {"executions": 0, "crashes": 0, "hangs": 0, "growth_mb": 0.0}

    def feed(self, data: bytes) -> None:
        """One input."""
        self.figures["executions"] += 1
        if self._target.renew and self.figures["executions"] % self._target.renew == 0:
            self._run = self._target.make()
        current = self._findings / "current"
        before = time.thread_time()
        try:
            self._run(data)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            self._found("crashes", data, _place(error), "".join(traceback.format_exception(error)))
            self._run = self._target.make()
        took = time.thread_time() - before
        if took > self._target.cpu_max_s:
            self._found("hangs", data, "slow", f"{took:.2f} s of processor time\n")
        now = time.monotonic()
        if now - self._told >= 1:
            self._told = now
            self._note(now)
            current.write_bytes(data)

    def _found(self, what: str, data: bytes, place: str, text: str) -> None:
        if place in self._places or len(self._places) >= FINDINGS_MAX:
            return
        self._places.add(place)
        self.figures[what] += 1
        kind = _KINDS[what]
        path = self._findings / f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        path.with_suffix(".txt").write_text(text)
        print(f"{self._target.name}: {kind} in {place}, kept as {path}", file=sys.stderr, flush=True)
        self._note(time.monotonic())

    def _note(self, now: float) -> None:
        if now >= self._settles:
            if self._settled_mb is None:
                gc.collect()
                self._settled_mb = rss_mb()
            self.figures["growth_mb"] = round(max(0.0, rss_mb() - self._settled_mb), 1)
        temporary = self._stats.with_suffix(".new")
        temporary.write_text(json.dumps(self.figures))
        temporary.rename(self._stats)

    def finish(self) -> None:
        """The last word on memory is said after a collection."""
        gc.collect()
        self._note(time.monotonic())


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {Path(frame.filename).name}:{frame.lineno}"


def mutate_for(feed: Callable[[bytes], None], target: Any, corpus: list[bytes], seconds: float, seed: str) -> None:
    """Feed mutations for so long."""
    from tests.fuzz.mutate import Mutator

    mutator = Mutator(seed, corpus, target.max_bytes, target.words)
    until = time.monotonic() + seconds
    for data in corpus:
        feed(data)
    while time.monotonic() < until:
        for _ in range(16):
            feed(mutator.next())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--engine", choices=["auto", "atheris", "own"], default="auto")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--findings", type=Path, required=True)
    parser.add_argument("--stats", type=Path, required=True)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MAX, MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    atheris = _atheris() if options.engine != "own" else None
    packages = ["relay", "recorder", "billing", "signaling", "config"]
    with atheris.instrument_imports(include=packages) if atheris is not None else contextlib.nullcontext():
        from tests.fuzz.table import load

        target = load(options.target)
    feeder = Feeder(target, options.findings, options.stats, options.seconds)
    for seed in target.seeds():
        (options.corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    if atheris is None:
        corpus = [path.read_bytes() for path in sorted(options.corpus.iterdir())]
        mutate_for(feeder.feed, target, corpus, options.seconds, options.seed)
        feeder.finish()
        return
    flags = [
        *(f"-max_total_time={max(1, int(options.seconds))}", f"-max_len={target.max_bytes}", "-timeout=20"),
        *("-rss_limit_mb=1500", "-verbosity=0", f"-artifact_prefix={options.findings}/"),
    ]
    if target.words:
        words = options.findings / "words"
        quoted = ("".join(f"\\x{byte:02x}" for byte in word[:64]) for word in target.words)
        words.write_text("".join(f'"{word}"\n' for word in quoted))
        flags.append(f"-dict={words}")
    atheris.Setup([sys.argv[0], *flags, str(options.corpus)], feeder.feed)
    atheris.Fuzz()


def _atheris() -> Any:
    try:
        import atheris
    except ImportError:
        return None
    return atheris


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
