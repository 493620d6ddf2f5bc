"""Become another program that dies with its parent: ``python -I -S launch.py SIGNAL PARENT IDENTITY -- argv…``.

Run by path, with nothing but the standard library: it is what stands between the supervisor and a server that is
not ours (PostgreSQL, Valkey), and it ends in ``execv``. IDENTITY is one of

- ``same``: the identity of the caller;
- ``namespace``: a user namespace in which root is uid 1000, because PostgreSQL refuses to run as root. Files stay
  root's on disk, so nothing has to be chowned;
- ``nobody``: the user nobody, where the kernel or a container forbids namespaces.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
NAMESPACE_UID = 1000
EXIT_CANNOT = 126
"""The exit status when the identity cannot be taken on, or the program cannot be executed."""


def die_with_parent(sig: int, parent: int | None = None) -> None:
    """Have the kernel send ``sig`` to this process when its parent thread ends (Linux; nothing elsewhere).

    A parent that died before this call would never be noticed, so ``parent``, the pid that the parent told, is
    compared: when it is no longer ours the process ends at once.
    """
    if not sys.platform.startswith("linux"):
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(sig), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), sig)


def _enter_namespace() -> None:
    """Be uid 1000 in a new user namespace, which outside is still the uid of the caller (user_namespaces(7))."""
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    for name, text in (
        ("setgroups", "deny"),
        ("gid_map", f"{NAMESPACE_UID} {gid} 1"),
        ("uid_map", f"{NAMESPACE_UID} {uid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _become_nobody() -> None:
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)


def _stay() -> None:
    """Keep the caller's identity."""


IDENTITIES = {"same": _stay, "namespace": _enter_namespace, "nobody": _become_nobody}


def main(argv: list[str]) -> None:
    """Take on the identity, then tie the process to its parent (a change of identity unties it), then exec."""
    sig, parent, identity, dashes, *command = argv
    if dashes != "--" or not command:
        raise SystemExit("usage: launch.py SIGNAL PARENT IDENTITY -- command…")
    try:
        IDENTITIES[identity]()
        die_with_parent(signal.Signals[sig], int(parent))
        os.execv(command[0], command)  # noqa: S606 - the purpose of this program
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]} as {identity}: {error}\n")
        raise SystemExit(EXIT_CANNOT) from None


if __name__ == "__main__":
    main(sys.argv[1:])
