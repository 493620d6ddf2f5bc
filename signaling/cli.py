"""The command line: ``turnpike COMMAND``. Each role is imported when it is run, so that none pays for the others."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Sequence

import pydantic

from config.embedded import EmbeddedServerError
from config.migrate import MigrationError, migrate
from config.process import EXIT_FAULT, EXIT_USAGE, RoleMain, run_role
from config.settings import Settings
from signaling import info
from signaling.installation import beside, servers


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One word after ``turnpike``."""

    help: str
    run: Callable[[str, Settings, argparse.Namespace], int]
    target: str = ""
    """``module:function`` of a role's ``async def main(settings) -> int``."""


def _load(target: str) -> RoleMain:
    module, _, function = target.partition(":")
    main: RoleMain = getattr(importlib.import_module(module), function)
    return main


def _serve(name: str, settings: Settings, _: argparse.Namespace) -> int:
    from signaling import serve

    return run_role(name, settings, serve.main, stop_max_s=serve.STOP_SERVE_MAX_S)


def _role(name: str, settings: Settings, _: argparse.Namespace) -> int:
    """A role alone: on the configured servers, or on those of a ``serve`` of the same data directory."""
    if settings.database_url is None or settings.redis_url is None:
        if not info.serve_runs(settings):
            sys.stderr.write(
                f"turnpike: {name} needs DATABASE_URL and REDIS_URL, or a running “turnpike serve” "
                f"on the data in {settings.data.resolve()}\n"
            )
            return EXIT_USAGE
        settings = beside(settings)
    return run_role(name, settings, _load(COMMANDS[name].target))


def _with_database(main: RoleMain) -> RoleMain:
    """``main`` with a database: the configured one, that of a running ``serve``, or one started for the purpose."""

    async def run(settings: Settings) -> int:
        try:
            if settings.database_url is None:
                with info.exclusive(info.serve_lock(settings)) as lock:
                    if lock is not None:
                        async with servers(settings, bus=False) as running:
                            await migrate(running.settings.database_owner_url or "")
                            return await main(running.settings)
            return await main(beside(settings))
        except (EmbeddedServerError, MigrationError) as error:
            sys.stderr.write(f"turnpike: {error}\n")
            return EXIT_FAULT

    return run


def _job(name: str, settings: Settings, _: argparse.Namespace) -> int:
    return run_role(name, settings, _with_database(_load(COMMANDS[name].target)))


async def _migrate_main(settings: Settings) -> int:
    applied = await migrate(settings.database_owner_url or "")
    print("\n".join(applied) if applied else "The database is up to date.")
    return 0


def _migrate(name: str, settings: Settings, _: argparse.Namespace) -> int:
    return run_role(name, settings, _with_database(_migrate_main))


def _ledger(name: str, settings: Settings, arguments: argparse.Namespace) -> int:
    from billing import inspect

    what, key, as_json = arguments.what, arguments.id, arguments.json
    if (key is None) != (what in inspect.JOBS):
        sys.stderr.write(f"turnpike: ledger {what} takes {'no id' if key else 'an id'}\n")
        return EXIT_USAGE
    return run_role(name, settings, _with_database(lambda s: inspect.main(s, what, key or "", as_json=as_json)))


def _info(_name: str, settings: Settings, arguments: argparse.Namespace) -> int:
    run = info.read_run_file(settings) if info.serve_runs(settings) else None
    if settings.redis_url is None and run and any(s.embedded and s.name == "valkey" for s in run.servers):
        settings = beside(settings)
    return asyncio.run(info.show(settings, arguments.json))


def _drain(_name: str, settings: Settings, arguments: argparse.Namespace) -> int:
    from signaling import draining

    if settings.redis_url is None:
        if not info.serve_runs(settings):
            sys.stderr.write("turnpike: drain needs REDIS_URL, or a running “turnpike serve” on the data\n")
            return EXIT_USAGE
        settings = beside(settings)
    return asyncio.run(draining.main(settings, arguments.worker, wait_s=0 if arguments.no_wait else arguments.timeout))


def _verify(_name: str, settings: Settings, arguments: argparse.Namespace) -> int:
    from recorder import offline

    return asyncio.run(offline.verify_target(settings, arguments.target, arguments.key))


COMMANDS = {
    "serve": Command("run a whole installation on this machine", _serve),
    "control": Command("run control alone: REST, Socket.IO, sessions, meter", _role, "signaling.control:main"),
    "worker": Command("run one media worker alone", _role, "relay.worker:main"),
    "recorder": Command("run the recorder alone", _role, "recorder.service:main"),
    "migrate": Command("bring the database up to date", _migrate),
    "reconcile": Command("check the ledger against the evidence", _job, "billing.reconcile:main"),
    "drain": Command("have a media worker take no more rooms, and its rooms moved to others", _drain),
    "verify": Command("check recordings, or an export of one, against their signatures", _verify),
    "ledger": Command("look at an account, a session or a transfer; checkpoint, verify, archive", _ledger),
    "info": Command("tell what runs and where its data lies", _info),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="turnpike", description="A server for paid calls. Settings come from the environment: TURNPIKE_…."
    )
    parser.add_argument("--version", action="version", version=f"turnpike {info.version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        sub.add_argument("--data", metavar="DIR", help="where everything lies (default: TURNPIKE_DATA, else ./var)")
        if name == "ledger":
            sub.add_argument("what", choices=["account", "session", "transfer", "checkpoint", "verify", "archive"])
            sub.add_argument("id", nargs="?", help="a user, account number, session, transfer, charge or reversal")
        if name in ("info", "ledger"):
            sub.add_argument("--json", action="store_true", help="for programs")
        if name == "verify":
            sub.add_argument(
                "target", metavar="TARGET", help="a bundle, a folder, s3://bucket/prefix, or a prefix here"
            )
            sub.add_argument("--key", metavar="KEY", help="the public key to trust, in hexadecimal, or a file of it")
        if name == "drain":
            sub.add_argument("worker", metavar="WORKER", help="its id as “turnpike info” shows it, or how that begins")
            sub.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="wait at most so long")
            sub.add_argument("--no-wait", action="store_true", help="do not wait until its rooms are gone")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status (2: it was asked for wrongly)."""
    arguments = _parser().parse_args(argv)
    if arguments.data:
        os.environ["TURNPIKE_DATA"] = arguments.data
    try:
        settings = Settings()
    except pydantic.ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            sys.stderr.write(f"turnpike: setting {'.'.join(str(part) for part in item['loc'])}: {item['msg']}\n")
        return EXIT_USAGE
    return COMMANDS[arguments.command].run(arguments.command, settings, arguments)


if __name__ == "__main__":
    sys.exit(main())
