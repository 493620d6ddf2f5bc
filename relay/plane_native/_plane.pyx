# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The native plane: ``NativePlane``. The package tells its story, ``relay.plane`` what it promises."""

import itertools
import random
import time
from collections import OrderedDict

from relay import codecs, feedback, pacer, packet_cache, plane_packets, plane_routes, plane_sending, plane_sockets
from relay import plane_streams, rtcp_transport_cc, rtp, send_history, srtp, vp8_rewrite
from relay.plane import ALL_TEMPORAL as _ALL_TEMPORAL
from relay.plane import TEMPORAL_LAYERS as _TEMPORAL_LAYERS
from relay.plane import DropReason, RouteCounters, SentPacket, SentRun, StreamCounters, Upcall, UpcallKind
from relay.plane_sockets import MediaSocket
from relay.plane_tcp import TcpSocket
from relay.srtp import PacketBuffer, SrtpContext

include "system.pxi"
include "types.pxi"
include "state.pxi"
include "rtp.pxi"
include "tables.pxi"
include "memory.pxi"
include "feedback.pxi"
include "streams.pxi"
include "gates.pxi"
include "routes.pxi"
include "pacing.pxi"
include "sending.pxi"
include "packets.pxi"
include "timers.pxi"
include "udp.pxi"
include "lifetimes.pxi"
include "agreement.pxi"
include "specs.pxi"


cdef class _Owner:
    """A transport, and what of it Python keeps."""

    cdef Transport *c
    cdef object receive, send  # SRTP contexts, kept alive here
    cdef object addresses  # (socket, address), the one unused for longest first
    cdef object remote  # (socket, address)


cdef class _Stream:
    cdef Stream *c
    cdef object sink


cdef class _Route:
    cdef Route *c
    cdef object spec, sink


cdef class _Gate:
    cdef Gate *c


cdef class _Socket:
    cdef Socket c
    cdef object python  # the MediaSocket or TcpSocket, which owns the descriptor


include "native.pxi"
include "native_routes.pxi"
