"""What is told and kept of the machine, alike by every bench."""

from __future__ import annotations

import ast
import json
import os
import platform
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path

import pytest

from bench import machine as told
from bench.machine import Machine, announce, command, cpu_name, machine, read

BENCH = Path(told.__file__).parent
MEASURE_NOTHING = {"chaos_clients", "load_docs", "plots", "relay_aiortc", "relay_docs", "relay_host"}
"""Programs that draw what was kept, or that a bench runs."""
MODULES = {path.stem: ast.parse(path.read_text()) for path in BENCH.glob("*.py")}


def called(tree: ast.Module) -> set[str]:
    names = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {name.id for name in names if isinstance(name, ast.Name)}


def test_every_bench_tells_what_it_runs_on() -> None:
    benches = {name for name, tree in MODULES.items() if "ArgumentParser" in ast.dump(tree)} - MEASURE_NOTHING
    assert {"billing", "call", "load", "relay"} < benches
    assert {name for name in benches if "announce" not in called(MODULES[name])} == set()


def test_nobody_else_asks_what_it_runs_on() -> None:
    imported = {
        name: {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        for name, tree in MODULES.items()
    }
    assert {name for name, modules in imported.items() if "platform" in modules} == {"machine"}


def test_what_is_kept_is_read_again() -> None:
    found = machine("pylibsrtp", janus=None, Chromium="156.0")
    assert read(json.loads(json.dumps({"where": found._asdict(), "calls": 3}))) == found
    assert found.versions == {
        "Python": platform.python_version(),
        "pylibsrtp": version("pylibsrtp"),
        "Chromium": "156.0",
    }
    assert (found.cpus, found.kernel) == (os.cpu_count(), platform.release())


def test_it_is_told_in_three_lines(capsys: pytest.CaptureFixture[str]) -> None:
    found = announce("pylibsrtp")
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["machine", "versions", "command"]
    assert lines[0] == f"machine: {found.hardware}, load average {found.load_average:.1f}"
    assert lines[1] == f"versions: {found.software}"


def test_docs_name_machine_and_software_apart() -> None:
    made = Machine("a CPU", 2, "6.18", 0.25, {"Python": "3.11.7", "av": "18.1.0"}, "python -m bench.call")
    assert made.hardware == "a CPU, 2 CPUs, kernel 6.18"
    assert made.software == "Python 3.11.7, av 18.1.0"


@pytest.mark.parametrize(
    ("module", "argv", "said"),
    [
        ("bench.call", ["/somewhere/call.py", "--duration", "5"], "python -m bench.call --duration 5"),
        ("bench.call", ["/somewhere/call.py"], "python -m bench.call"),
        ("tests.fuzz.__main__", ["/somewhere/__main__.py"], "python -m tests.fuzz"),
        (None, ["a script.py", "--keep", "a b"], "python 'a script.py' --keep 'a b'"),
    ],
)
def test_the_command_can_be_typed_again(
    module: str | None, argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = None if module is None else ModuleSpec(module, None)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec, raising=False)
    assert command(argv) == said


def test_a_processor_without_a_name_is_called_by_its_kind(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    assert cpu_name(info) == platform.machine()
    info.write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert cpu_name(info) == platform.machine()
    info.write_text("processor\t: 0\nmodel name\t: A CPU @ 2: GHz\nmodel name\t: another\n")
    assert cpu_name(info) == "A CPU @ 2: GHz"
