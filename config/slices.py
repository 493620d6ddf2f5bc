"""How long a thread may compute before another gets its turn: short for who must answer at once."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
"""The system call's number by machine; the C library has no function for it."""


class _Scheduling(ctypes.Structure):
    """``struct sched_attr`` of sched_setattr(2), in its first form."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def short_slice(slice_ns: int, niceness: int) -> str | None:
    """Have this thread, and those it starts, run in slices so long; why that cannot be, None: it could.

    ``niceness``: the present one, which the same call sets. Kernels before Linux 6.12 take the wish and forget it.
    """
    number = SCHED_SETATTR.get(os.uname().machine)
    if number is None or not sys.platform.startswith("linux"):
        return "not on this machine"
    wanted = _Scheduling(ctypes.sizeof(_Scheduling), 0, 0, niceness, 0, slice_ns, 0, 0)
    if ctypes.CDLL(None, use_errno=True).syscall(number, 0, ctypes.byref(wanted), 0) != 0:
        return os.strerror(ctypes.get_errno())
    return None
