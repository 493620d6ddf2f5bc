"""The native plane: the same promises as ``relay.plane_python``, with everything per packet in C, without the GIL.

It is the Python plane once more, written in Cython over plain structures and in the same order, so that the two can be
read side by side; a differential test drives both with the same traffic and compares every byte and counter. Which one
runs is decided in ``relay.plane_choice``.

In file order: ``system`` (what the kernel gives), ``types`` and ``state`` (all that is held), ``rtp`` (packets in
place), ``tables`` (whose address, whose SSRC), ``memory`` (of packets kept), ``feedback`` (NACKs, transport-cc),
``streams`` (what came), ``gates`` (what went through them), ``routes`` (what goes), ``pacing`` (when), ``sending``
(encrypted, many datagrams to a system call), ``packets`` (the way of one packet), ``timers``, ``udp`` (in, in batches),
``lifetimes``, ``agreement`` (with the Python plane's constants), ``specs``, ``native`` and ``native_routes`` (the
handles). ``_plane.pyx`` makes one extension of them.

A ``drain`` lets go of the GIL, takes up to 64 messages with one ``recvmmsg`` (each a burst of one sender where the
kernel coalesces them, UDP_GRO), decrypts each datagram where it lies, copies it once into its stream's cache and once
per subscriber into a buffer in which it is encrypted, and sends what has gathered with one ``sendmmsg``, in which runs
of equal size to one destination are one message (UDP_SEGMENT). What is no media is kept for Python, which gets it when
the batch is done; so do the sinks of taps and spools, and TCP connections, which stay in Python.

Bounds: nothing is read or written before its offset was compared with the length of what it lies in; every array has
its size as a constant beside its type. Memory that cannot be had costs the packet, not the process.
"""

from __future__ import annotations

from relay.plane import Plane

try:
    from relay.plane_native._plane import NativePlane
except ImportError as error:
    WHY_NOT: str | None = (
        "none was built, for want of a C compiler" if error.name == f"{__name__}._plane" else str(error)
    )
    """Why there is no native plane; None: there is one."""
else:
    WHY_NOT = None


def make_native_plane() -> Plane:
    """A native plane; ``RuntimeError`` says why there is none."""
    if WHY_NOT is not None:
        raise RuntimeError(WHY_NOT)
    return NativePlane()
