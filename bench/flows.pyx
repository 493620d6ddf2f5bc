# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Cheap media for loads: thousands of SRTP packets a second, sent on time and checked when they come back.

A ``Flows`` has clients (a UDP socket each, with SRTP sessions that somebody has keyed) and senders on them. ``run``
leaves Python behind for a while: each sender encrypts and sends its bursts when they are due, each socket that becomes
readable is emptied, and every packet that arrives is decrypted and held against what was sent: the payload carries the
sender's index, a running number and the moment of sending, on the clock that both ends share. What is not RTP (STUN,
DTLS, RTCP) is handed to the caller, who keeps connections alive. A client can also report what it gets and sends, as
pages do (``tell``).

Nobody is in step with the others, as real people are not: bursts are spread evenly over their interval, and so are
feedback and reports, also after a pause or when this process was held up. A burst that is up to 50 ms late is sent, one
of each sender at a time, until all are; what is later is not: it counts as ``missed``.

Video looks like VP8 of two temporal layers in frames of one burst each, so that a relay has pictures to count and key
frames to find; audio like Opus.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EINTR, errno
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from bench.kernel cimport (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    CMSG_DATA,
    CMSG_FIRSTHDR,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLLIN,
    MSG_DONTWAIT,
    PACKET_BYTES,
    SO_TIMESTAMPNS,
    SOL_SOCKET,
    TIMER_ABSTIME,
    clock_gettime,
    clock_nanosleep,
    close,
    cmsghdr,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    iovec,
    mmsghdr,
    msghdr,
    recvmmsg,
    sendmmsg,
    sendto,
    sockaddr,
    sockaddr_in,
    timespec,
)

import socket as _socket

from pylibsrtp._binding import ffi as _ffi
from pylibsrtp._binding import lib as _lib

ctypedef int (*srtp_function)(void *, void *, int *) noexcept nogil

cdef srtp_function _protect = <srtp_function><size_t>int(_ffi.cast("uintptr_t", _ffi.addressof(_lib, "srtp_protect")))
cdef srtp_function _unprotect = <srtp_function><size_t>int(
    _ffi.cast("uintptr_t", _ffi.addressof(_lib, "srtp_unprotect")))
cdef srtp_function _protect_rtcp = <srtp_function><size_t>int(
    _ffi.cast("uintptr_t", _ffi.addressof(_lib, "srtp_protect_rtcp")))
cdef srtp_function _unprotect_rtcp = <srtp_function><size_t>int(
    _ffi.cast("uintptr_t", _ffi.addressof(_lib, "srtp_unprotect_rtcp")))


cdef class Flows

include "flows_state.pxi"
include "flows_send.pxi"
include "flows_reports.pxi"
include "flows_receive.pxi"


cdef void _loop(Flows flows, int64_t until, bint sending) noexcept nogil:
    """Send what is due, take what has come, and again."""
    cdef epoll_event events[EVENTS_MAX]
    cdef int64_t now = _now(), next_ns, tick_ns = now
    cdef timespec real, wake
    cdef int i, count, wait_ms
    while now < until:
        next_ns = until
        if sending:
            for i in range(flows.sender_count):
                if flows.senders[i].resting:
                    continue
                if flows.senders[i].due_ns <= now:
                    _send(flows, &flows.senders[i])
                    flows.senders[i].due_ns += flows.senders[i].interval_ns
                    if flows.senders[i].due_ns < now - CATCH_UP_NS:
                        flows.missed += flows.senders[i].burst * _pass_by(
                            &flows.senders[i].due_ns, flows.senders[i].interval_ns, now - CATCH_UP_NS)
                if flows.senders[i].due_ns < next_ns:
                    next_ns = flows.senders[i].due_ns
        for i in range(flows.client_count):
            if flows.clients[i].told.feedback_interval_ns:
                _report(flows, &flows.clients[i], i, now)
        if flows.tick_ns:
            tick_ns = max(tick_ns + flows.tick_ns, now)
            wake.tv_sec, wake.tv_nsec = tick_ns // 1000000000, tick_ns % 1000000000
            while clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL) == EINTR:
                pass
            clock_gettime(CLOCK_REALTIME, &real)
            flows.clocks_apart_ns = <int64_t>real.tv_sec * 1000000000 + real.tv_nsec - _now()
            wait_ms = 0
        else:
            wait_ms = 1 if next_ns > _now() + 1000000 else 0
        count = EVENTS_MAX
        while count == EVENTS_MAX:
            count = epoll_wait(flows.epoll, events, EVENTS_MAX, wait_ms)
            for i in range(count):
                _receive(flows, &flows.clients[events[i].data.u32], events[i].data.u32)
            wait_ms = 0
        now = _now()


def session_pointer(session):
    """The address of a pylibsrtp ``Session``'s own state; the session must outlive its use here."""
    return int(_ffi.cast("uintptr_t", session._srtp[0]))


def crypto_cost_ns(protect, unprotect, int payload_bytes, int packets):
    """Nanoseconds of one unprotect and one protect of a packet, and nothing else: what no relay can avoid.

    ``protect``: a session pointer to encrypt with; ``unprotect``: one keyed alike, to decrypt what it made.
    """
    cdef uint8_t packet[PACKET_BYTES]
    cdef void *sealing = <void *><size_t>int(protect)
    cdef void *opening = <void *><size_t>int(unprotect)
    cdef int i, length, failed = 0
    cdef int64_t began
    if payload_bytes > PAYLOAD_BYTES_MAX:
        raise ValueError("too large")
    memset(packet, 0, PACKET_BYTES)
    packet[0] = 0x80
    packet[1] = 96
    _put32(packet + 8, 77)
    with nogil:
        began = _now()
        for i in range(packets):
            _put16(packet + 2, <uint16_t>i)
            length = 12 + payload_bytes
            failed |= _protect(sealing, packet, &length)
            failed |= _unprotect(opening, packet, &length)
        began = _now() - began
    if failed:
        raise RuntimeError("a packet could not be encrypted or decrypted")
    return began / packets


cdef class Flows:
    """See the module's docstring. For one thread at a time, but for ``take_control`` and ``want_key_frame``.

    ``tick_ms``: look around so often only, which spares a processor that the relay needs too. Packets of up to one tick
    then leave together, and their arrivals are the kernel's own stamps. 0: at once, stamped when they are read.
    """

    cdef Client *clients
    cdef Sender *senders
    cdef int client_count, sender_count, client_max, sender_max
    cdef int epoll
    cdef uint8_t *out
    cdef uint8_t *into
    cdef uint8_t *stamps
    cdef uint64_t *delays
    cdef int64_t tick_ns, clocks_apart_ns
    cdef public uint64_t send_failed, bad, strange, control_dropped, received, feedbacks, missed
    cdef list keep
    cdef list control

    def __cinit__(self, int client_max, int sender_max, *, double tick_ms=0):
        self.tick_ns = <int64_t>(tick_ms * 1e6)
        self.client_max, self.sender_max = client_max, sender_max
        self.clients = <Client *>calloc(client_max, sizeof(Client))
        self.senders = <Sender *>calloc(sender_max, sizeof(Sender))
        self.out = <uint8_t *>calloc(BURST_MAX, PACKET_BYTES)
        self.into = <uint8_t *>calloc(RECEIVE_BATCH, PACKET_BYTES)
        self.stamps = <uint8_t *>calloc(RECEIVE_BATCH, KERNEL_STAMP_BYTES)
        self.delays = <uint64_t *>calloc(DELAY_BUCKETS + 1, sizeof(uint64_t))
        if not (self.stamps and self.clients and self.senders and self.out and self.into and self.delays):
            raise MemoryError
        self.epoll = epoll_create1(0)
        if self.epoll < 0:
            raise OSError(errno, "epoll_create1")
        self.keep, self.control = [], []

    def __dealloc__(self):
        cdef int i
        if self.epoll >= 0:
            close(self.epoll)
        for i in range(self.client_count):
            free(self.clients[i].told.arrivals)
        free(self.stamps)
        free(self.clients)
        free(self.senders)
        free(self.out)
        free(self.into)
        free(self.delays)

    def add_client(self, sock, remote, protect, unprotect):
        """A client on a bound, non-blocking IPv4 UDP socket that sends to ``remote``; returns its index.

        ``protect`` and ``unprotect`` are pylibsrtp sessions; None: it never sends, or does not decrypt.
        """
        cdef int index = self.client_count
        cdef epoll_event event
        if index >= self.client_max:
            raise ValueError("too many clients")
        cdef Client *client = &self.clients[index]
        client.fd = sock.fileno()
        client.protect = <void *><size_t>session_pointer(protect) if protect is not None else NULL
        client.unprotect = <void *><size_t>session_pointer(unprotect) if unprotect is not None else NULL
        cdef bytes host = _socket.inet_aton(remote[0])
        client.remote.sin_family = _socket.AF_INET
        client.remote.sin_port = _socket.htons(remote[1])
        memcpy(&client.remote.sin_addr, <char *>host, 4)
        memset(&event, 0, sizeof(event))
        event.events = EPOLLIN
        event.data.u32 = index
        if self.tick_ns:
            sock.setsockopt(_socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, client.fd, &event) < 0:
            raise OSError(errno, "epoll_ctl")
        self.keep.append((sock, protect, unprotect))
        self.client_count += 1
        return index

    def add_sender(self, int client, *, kind, uint32_t ssrc, int payload_type, int payload_bytes, double packets_per_s,
                   int burst=1, bytes extension=b"", int transport_cc_at=-1):
        """A stream from a client; returns its index. ``extension``: the whole header extension, its profile first;
        ``transport_cc_at``: where in it the transport-wide number goes, −1: nowhere."""
        cdef int index = self.sender_count
        if index >= self.sender_max or not 0 <= client < self.client_count:
            raise ValueError("no such client, or too many senders")
        if not PAYLOAD_BYTES_MIN <= payload_bytes <= PAYLOAD_BYTES_MAX or not 1 <= burst <= BURST_MAX:
            raise ValueError("payload or burst out of bounds")
        if len(extension) > EXTENSION_BYTES_MAX or len(extension) % 4 or packets_per_s <= 0:
            raise ValueError("extension or rate out of bounds")
        if transport_cc_at != -1 and not 0 <= transport_cc_at <= len(extension) - 2:
            raise ValueError("the number does not fit there")
        cdef Sender *sender = &self.senders[index]
        sender.client = client
        sender.video = kind == "video"
        sender.ssrc = ssrc
        sender.payload_type = payload_type
        sender.payload_bytes = payload_bytes
        sender.burst = burst
        sender.timestamp_step = 3000 if sender.video else 960
        sender.sequence = <uint16_t>(index * 7919)
        sender.interval_ns = <int64_t>(burst / packets_per_s * 1e9)
        sender.key_wanted = 1
        sender.extension_bytes = len(extension)
        sender.transport_cc_at = transport_cc_at
        memcpy(sender.extension, <char *>extension, len(extension))
        self.sender_count += 1
        return index

    def tell(self, int client, uint32_t ssrc, int transport_cc_id, double feedback_ms):
        """Let a client report as pages do, in the name of ``ssrc``: transport-cc feedback every ``feedback_ms`` on what
        comes with that header extension, and reports once a second. It then decrypts its RTCP itself, and hands on only
        what asks for something."""
        if not 0 <= client < self.client_count or not 1 <= transport_cc_id <= 14 or feedback_ms < 1:
            raise ValueError("no such client, extension or interval")
        cdef Told *told = &self.clients[client].told
        if told.arrivals == NULL:
            told.arrivals = <int64_t *>calloc(ARRIVALS, sizeof(int64_t))
            if told.arrivals == NULL:
                raise MemoryError
        told.transport_cc_id, told.ssrc, told.newest = transport_cc_id, ssrc, -1
        told.feedback_interval_ns = <int64_t>(feedback_ms * 1e6)
        told.feedback_due_ns = _in_turn(client, told.feedback_interval_ns)
        told.report_due_ns = _in_turn(client, REPORT_NS)

    def rest(self, int client):
        """A client sends nothing more, and its socket can be closed."""
        cdef int i
        for i in range(self.sender_count):
            if self.senders[i].client == client:
                self.senders[i].resting = 1
        self.clients[client].told.feedback_interval_ns = 0
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, self.clients[client].fd, NULL)

    def set_rate(self, double factor):
        """Send ``factor`` times as fast from now on."""
        cdef int i
        for i in range(self.sender_count):
            self.senders[i].interval_ns = <int64_t>(self.senders[i].interval_ns / factor)

    def want_key_frame(self, int sender):
        """Let the sender's next frame be a key frame."""
        if 0 <= sender < self.sender_count:
            self.senders[sender].key_wanted = 1

    def reset(self):
        """Forget what was counted; streams go on."""
        cdef int i, k
        for i in range(self.client_count):
            for k in range(self.clients[i].heard_count):
                self.clients[i].heard[k].received = 0
                self.clients[i].heard[k].late = 0
        memset(self.delays, 0, (DELAY_BUCKETS + 1) * sizeof(uint64_t))
        self.send_failed = self.bad = self.strange = self.control_dropped = self.received = self.feedbacks = 0
        self.missed = 0

    def take_control(self):
        """What ``run`` would return, so far; from another thread while it runs."""
        cdef list taken = self.control
        self.control = []
        return taken

    def run(self, double seconds, *, bint sending=True):
        """Send and receive for a while, without the interpreter; returns [(client, datagram)] of what is not RTP."""
        cdef int64_t until = _now() + <int64_t>(seconds * 1e9)
        cdef int64_t began = _now()
        cdef int i
        self.control = []
        for i in range(self.sender_count if sending else 0):
            if self.senders[i].due_ns < began - CATCH_UP_NS:  # after a rest: spread evenly, not all at once
                self.senders[i].due_ns = began + self.senders[i].interval_ns * i // max(1, self.sender_count)
        for i in range(self.client_count):  # what a page would have told meanwhile
            if self.clients[i].told.feedback_interval_ns:
                _pass_by(&self.clients[i].told.feedback_due_ns, self.clients[i].told.feedback_interval_ns, began)
                _pass_by(&self.clients[i].told.report_due_ns, REPORT_NS, began)
        with nogil:
            _loop(self, until, sending)
        return self.take_control()

    def sent(self):
        """Packets sent so far, per sender."""
        return [self.senders[i].sent for i in range(self.sender_count)]

    def due_ns(self):
        """When each sender's next burst, and each client's next feedback and report are due: two lists."""
        return [self.senders[i].due_ns for i in range(self.sender_count)], [
            (self.clients[i].told.feedback_due_ns, self.clients[i].told.report_due_ns) for i in range(self.client_count)
        ]

    def heard(self):
        """Per client: [(sender, received, late)], ``late``: behind one that was sent after it, or twice."""
        return [
            [(self.clients[i].heard[k].sender, self.clients[i].heard[k].received, self.clients[i].heard[k].late)
             for k in range(self.clients[i].heard_count)]
            for i in range(self.client_count)
        ]

    def delay_us(self, double share):
        """The delay from sending to arrival that ``share`` of the packets stayed under, in microseconds; None: no packets.

        The last bucket holds everything of 200 ms and more.
        """
        cdef uint64_t total = 0, sum_ = 0
        cdef int i
        for i in range(DELAY_BUCKETS + 1):
            total += self.delays[i]
        if not total:
            return None
        for i in range(DELAY_BUCKETS + 1):
            sum_ += self.delays[i]
            if sum_ >= share * total:
                return (i + 1) * 10
        return DELAY_BUCKETS * 10
