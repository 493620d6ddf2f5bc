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

import socket as _socket

from pylibsrtp._binding import ffi as _ffi
from pylibsrtp._binding import lib as _lib


cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int CLOCK_REALTIME
    int TIMER_ABSTIME
    int clock_gettime(int, timespec *)
    int clock_nanosleep(int, int, timespec *, timespec *)

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        pass
    struct sockaddr_storage:
        pass
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    int MSG_DONTWAIT
    int SOL_SOCKET
    int SO_TIMESTAMPNS
    cmsghdr *CMSG_FIRSTHDR(msghdr *)
    unsigned char *CMSG_DATA(cmsghdr *)
    ssize_t sendto(int, const void *, size_t, int, const sockaddr *, unsigned int)
    int sendmmsg(int, mmsghdr *, unsigned int, int)
    int recvmmsg(int, mmsghdr *, unsigned int, int, timespec *)

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint32_t u32
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLLIN
    int EPOLL_CTL_ADD
    int EPOLL_CTL_DEL
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)

cdef extern from "<unistd.h>" nogil:
    int close(int)

ctypedef int (*srtp_function)(void *, void *, int *) noexcept nogil

cdef srtp_function _protect = <srtp_function><size_t>int(_ffi.cast("uintptr_t", _ffi.addressof(_lib, "srtp_protect")))
cdef srtp_function _unprotect = <srtp_function><size_t>int(
    _ffi.cast("uintptr_t", _ffi.addressof(_lib, "srtp_unprotect")))
cdef srtp_function _protect_rtcp = <srtp_function><size_t>int(
    _ffi.cast("uintptr_t", _ffi.addressof(_lib, "srtp_protect_rtcp")))
cdef srtp_function _unprotect_rtcp = <srtp_function><size_t>int(
    _ffi.cast("uintptr_t", _ffi.addressof(_lib, "srtp_unprotect_rtcp")))

cdef enum:
    PACKET_BYTES = 1536
    RECEIVE_BATCH = 64
    BURST_MAX = 32
    EVENTS_MAX = 256
    CONTROL_MAX = 4096  # datagrams kept for the caller in one slice; more are counted and dropped
    HEARD_MAX = 64  # senders that one client can hear
    DELAY_BUCKETS = 20000  # of 10 microseconds each
    STAMP_OFFSET = 32  # of the stamp in the payload
    STAMP_BYTES = 28
    EXTENSION_BYTES_MAX = 60
    ARRIVALS = 1024  # packets whose arrival is remembered until told; a power of two
    KERNEL_STAMP_BYTES = 64

cdef int64_t CATCH_UP_NS = 50000000  # so late a burst is still sent
cdef double GOLDEN = 0.6180339887498949
cdef int64_t NTP_EPOCH_S = 2208988800  # 1970 in NTP's seconds, which count from 1900
PAYLOAD_BYTES_MIN = STAMP_OFFSET + STAMP_BYTES
PAYLOAD_BYTES_MAX = 1300

cdef struct Sender:
    int client
    int video
    uint8_t payload_type
    uint32_t ssrc
    uint16_t sequence
    uint32_t timestamp
    uint32_t timestamp_step
    int64_t sent_ns  # when the newest frame was sent
    uint64_t sent
    uint64_t frames
    int burst
    int payload_bytes
    int64_t interval_ns
    int64_t due_ns
    int key_wanted
    int resting
    int extension_bytes
    int transport_cc_at
    uint8_t extension[EXTENSION_BYTES_MAX]

cdef struct Heard:
    int sender
    uint64_t received
    uint64_t highest
    uint64_t late
    # For report blocks; these go on when what is above is reset.
    int video
    uint32_t ssrc, transit, last_sr
    int64_t first_sequence, last_sequence, told_expected, told_lost, last_sr_ns
    uint64_t ever
    double jitter

cdef struct Told:
    # What a client reports. ``arrivals`` by transport-wide number modulo ARRIVALS, 0: it did not come.
    int transport_cc_id
    uint32_t ssrc
    int64_t feedback_interval_ns  # 0: it reports nothing
    int64_t feedback_due_ns, report_due_ns
    int64_t *arrivals
    int64_t first, newest  # what the next feedback is about, extended numbers; newest < 0: none came so far
    uint8_t feedbacks

cdef struct Client:
    int fd
    void *protect
    void *unprotect
    sockaddr_in remote
    uint16_t transport_cc
    int heard_count
    Heard heard[HEARD_MAX]
    Told told


cdef inline int64_t _now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef inline void _put16(uint8_t *at, uint16_t value) noexcept nogil:
    at[0] = <uint8_t>(value >> 8)
    at[1] = <uint8_t>(value & 0xFF)


cdef inline void _put32(uint8_t *at, uint32_t value) noexcept nogil:
    _put16(at, <uint16_t>(value >> 16))
    _put16(at + 2, <uint16_t>(value & 0xFFFF))


cdef inline int64_t _pass_by(int64_t *due_ns, int64_t interval_ns, int64_t now) noexcept nogil:
    """Move what was due up to ``now`` to its next turn after it, in its own rhythm; returns by how many intervals.

    Whoever began anew at ``now`` would from then on be in step with all others that were held up with it.
    """
    cdef int64_t turns = 0 if due_ns[0] > now else (now - due_ns[0]) // interval_ns + 1
    due_ns[0] += turns * interval_ns
    return turns


cdef inline int64_t _in_turn(int64_t index, int64_t interval_ns) noexcept nogil:
    """The next turn of this one of many: their turns are spread evenly over the interval, however many there are."""
    cdef double share = index * GOLDEN - <int64_t>(index * GOLDEN)
    cdef int64_t due_ns = <int64_t>(share * interval_ns)
    _pass_by(&due_ns, interval_ns, _now())
    return due_ns


include "flows_reports.pxi"


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
        for i in range(self.sender_count):
            if self.senders[i].due_ns < began - CATCH_UP_NS:  # after a rest: spread evenly, not all at once
                self.senders[i].due_ns = began + self.senders[i].interval_ns * i // max(1, self.sender_count)
        for i in range(self.client_count):  # what a page would have told meanwhile
            if self.clients[i].told.feedback_interval_ns:
                _pass_by(&self.clients[i].told.feedback_due_ns, self.clients[i].told.feedback_interval_ns, began)
                _pass_by(&self.clients[i].told.report_due_ns, REPORT_NS, began)
        with nogil:
            self._loop(until, sending)
        return self.take_control()

    cdef void _loop(self, int64_t until, bint sending) noexcept nogil:
        cdef epoll_event events[EVENTS_MAX]
        cdef int64_t now = _now(), next_ns, tick_ns = now
        cdef timespec real, wake
        cdef int i, count, wait_ms
        while now < until:
            next_ns = until
            if sending:
                for i in range(self.sender_count):
                    if self.senders[i].resting:
                        continue
                    if self.senders[i].due_ns <= now:
                        self._send(&self.senders[i])
                        self.senders[i].due_ns += self.senders[i].interval_ns
                        if self.senders[i].due_ns < now - CATCH_UP_NS:
                            self.missed += self.senders[i].burst * _pass_by(
                                &self.senders[i].due_ns, self.senders[i].interval_ns, now - CATCH_UP_NS)
                    if self.senders[i].due_ns < next_ns:
                        next_ns = self.senders[i].due_ns
            for i in range(self.client_count):
                if self.clients[i].told.feedback_interval_ns:
                    self._report(&self.clients[i], i, now)
            if self.tick_ns:
                tick_ns = max(tick_ns + self.tick_ns, now)
                wake.tv_sec, wake.tv_nsec = tick_ns // 1000000000, tick_ns % 1000000000
                while clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL) == EINTR:
                    pass
                clock_gettime(CLOCK_REALTIME, &real)
                self.clocks_apart_ns = <int64_t>real.tv_sec * 1000000000 + real.tv_nsec - _now()
                wait_ms = 0
            else:
                wait_ms = 1 if next_ns > _now() + 1000000 else 0
            count = EVENTS_MAX
            while count == EVENTS_MAX:
                count = epoll_wait(self.epoll, events, EVENTS_MAX, wait_ms)
                for i in range(count):
                    self._receive(&self.clients[events[i].data.u32], events[i].data.u32)
                wait_ms = 0
            now = _now()

    cdef void _report(self, Client *client, int index, int64_t now) noexcept nogil:
        """What a client has to tell by now."""
        cdef Told *told = &client.told
        cdef int i, length = 0, blocks = 0, own = 0
        if now >= told.feedback_due_ns:
            _pass_by(&told.feedback_due_ns, told.feedback_interval_ns, now)
            if told.newest >= told.first:
                length = _render_feedback(told, self.out, client.heard[0].ssrc if client.heard_count else 0)
                if length:
                    self.feedbacks += 1
                    self._send_rtcp(client, length)
        if now < told.report_due_ns:
            return
        _pass_by(&told.report_due_ns, REPORT_NS, now)
        length = 0
        for i in range(self.sender_count):
            if self.senders[i].client == index and self.senders[i].sent and own < OWN_MAX:
                if not own:
                    blocks = min(client.heard_count, BLOCKS_MAX)
                length = self._render_sender_report(client, &self.senders[i], length, 0 if own else blocks, now)
                own += 1
        if length:
            self._send_rtcp(client, length)

    cdef int _render_sender_report(self, Client *client, Sender *sender, int at, int blocks,
                                   int64_t now) noexcept nogil:
        """A sender report with ``blocks`` report blocks, ``at`` in the buffer; returns where it ends."""
        cdef uint8_t *packet = self.out + at
        cdef uint32_t rate = SAMPLE_RATE_VIDEO if sender.video else SAMPLE_RATE_AUDIO, elapsed
        cdef timespec real
        cdef int i
        clock_gettime(CLOCK_REALTIME, &real)
        packet[0], packet[1] = <uint8_t>(0x80 | blocks), 200
        _put16(packet + 2, <uint16_t>(6 + 6 * blocks))
        _put32(packet + 4, sender.ssrc)
        _put32(packet + 8, <uint32_t>(<int64_t>real.tv_sec + NTP_EPOCH_S))
        _put32(packet + 12, <uint32_t>((<uint64_t>real.tv_nsec << 32) // 1000000000))
        elapsed = <uint32_t>((now - sender.sent_ns) * rate // 1000000000)
        _put32(packet + 16, sender.timestamp - sender.timestamp_step + elapsed)
        _put32(packet + 20, <uint32_t>sender.sent)
        _put32(packet + 24, <uint32_t>(sender.sent * sender.payload_bytes))
        for i in range(blocks):
            _render_block(&client.heard[i], packet + 28 + 24 * i, now)
        return at + 28 + 24 * blocks

    cdef void _send_rtcp(self, Client *client, int length) noexcept nogil:
        """Encrypt and send what is at the beginning of the buffer."""
        if _protect_rtcp(client.protect, self.out, &length):
            self.bad += 1
        elif sendto(client.fd, self.out, length, MSG_DONTWAIT, <sockaddr *>&client.remote, sizeof(sockaddr_in)) < 0:
            self.send_failed += 1

    cdef void _send(self, Sender *sender) noexcept nogil:
        cdef mmsghdr messages[BURST_MAX]
        cdef iovec parts[BURST_MAX]
        cdef Client *client = &self.clients[sender.client]
        cdef int i, length, sent, done = 0
        memset(messages, 0, sizeof(messages))
        for i in range(sender.burst):
            length = self._render(sender, client, self.out + i * PACKET_BYTES, i)
            if _protect(client.protect, self.out + i * PACKET_BYTES, &length):
                self.bad += 1
                return
            parts[i].iov_base = self.out + i * PACKET_BYTES
            parts[i].iov_len = length
            messages[i].msg_hdr.msg_name = &client.remote
            messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_in)
            messages[i].msg_hdr.msg_iov = &parts[i]
            messages[i].msg_hdr.msg_iovlen = 1
        sender.frames += 1
        sender.sent_ns = _now()
        sender.key_wanted = 0
        sender.timestamp += sender.timestamp_step
        while done < sender.burst:
            sent = sendmmsg(client.fd, messages + done, sender.burst - done, MSG_DONTWAIT)
            if sent <= 0:
                if errno == EINTR:
                    continue
                self.send_failed += 1  # as if the network had lost it: a full buffer, a closed port
                done += 1
            else:
                done += sent

    cdef int _render(self, Sender *sender, Client *client, uint8_t *packet, int part) noexcept nogil:
        """One RTP packet in the clear; returns its length."""
        cdef int at = 12
        cdef uint8_t *payload
        cdef uint16_t picture
        cdef int64_t now
        packet[0] = 0x90 if sender.extension_bytes else 0x80
        packet[1] = sender.payload_type | (0x80 if sender.video and part == sender.burst - 1 else 0)
        _put16(packet + 2, sender.sequence)
        _put32(packet + 4, sender.timestamp)
        _put32(packet + 8, sender.ssrc)
        if sender.extension_bytes:
            memcpy(packet + at, sender.extension, sender.extension_bytes)
            if sender.transport_cc_at >= 0:
                _put16(packet + at + sender.transport_cc_at, client.transport_cc)
                client.transport_cc += 1
            at += sender.extension_bytes
        payload = packet + at
        memset(payload, <int>(sender.sequence & 0xFF), sender.payload_bytes)
        if sender.video:  # RFC 7741: descriptor with picture id, TL0PICIDX and temporal layer; then RFC 6386's header
            picture = <uint16_t>(sender.frames & 0x7FFF)
            payload[0] = 0x80 if part else 0x90
            payload[1] = 0xE0
            _put16(payload + 2, 0x8000 | picture)
            payload[4] = <uint8_t>(sender.frames >> 1)
            payload[5] = 0x20 | <uint8_t>((0 if sender.key_wanted else sender.frames & 1) << 6)
            if part == 0:
                payload[6] = 0x10 if sender.key_wanted else 0x11
                payload[7] = payload[8] = 0
                payload[9], payload[10], payload[11] = 0x9D, 0x01, 0x2A
                payload[12], payload[13], payload[14], payload[15] = 0x80, 0x02, 0xE0, 0x01
        now = _now()
        _put32(payload + STAMP_OFFSET, 0x7475726E)
        _put32(payload + STAMP_OFFSET + 4, <uint32_t>(sender - self.senders))
        memcpy(payload + STAMP_OFFSET + 8, &sender.sent, 8)
        memcpy(payload + STAMP_OFFSET + 16, &now, 8)
        sender.sent += 1
        sender.sequence += 1
        return at + sender.payload_bytes

    cdef void _receive(self, Client *client, int index) noexcept nogil:
        cdef mmsghdr messages[RECEIVE_BATCH]
        cdef iovec parts[RECEIVE_BATCH]
        cdef int i, count, length
        cdef int64_t arrived
        cdef uint8_t *packet
        while True:
            memset(messages, 0, sizeof(messages))
            for i in range(RECEIVE_BATCH):
                parts[i].iov_base = self.into + i * PACKET_BYTES
                parts[i].iov_len = PACKET_BYTES
                messages[i].msg_hdr.msg_iov = &parts[i]
                messages[i].msg_hdr.msg_iovlen = 1
                if self.tick_ns:
                    messages[i].msg_hdr.msg_control = self.stamps + i * KERNEL_STAMP_BYTES
                    messages[i].msg_hdr.msg_controllen = KERNEL_STAMP_BYTES
            count = recvmmsg(client.fd, messages, RECEIVE_BATCH, MSG_DONTWAIT, NULL)
            if count <= 0:
                return
            for i in range(count):
                packet = self.into + i * PACKET_BYTES
                length = messages[i].msg_len
                arrived = self._arrival_of(&messages[i].msg_hdr)
                if length >= 12 and 128 <= packet[0] <= 191 and not 192 <= packet[1] <= 223:
                    self._check(client, packet, length, arrived)
                elif self._wants(client, packet, &length, arrived):
                    with gil:
                        self._keep_control(index, packet, length)
            if count < RECEIVE_BATCH:
                return

    cdef int64_t _arrival_of(self, msghdr *message) noexcept nogil:
        """When a datagram came: the kernel's stamp where there is one, else now."""
        cdef cmsghdr *control = CMSG_FIRSTHDR(message) if self.tick_ns else NULL
        cdef timespec stamp
        if control == NULL or control.cmsg_level != SOL_SOCKET or control.cmsg_type != SO_TIMESTAMPNS:
            return _now()
        memcpy(&stamp, CMSG_DATA(control), sizeof(stamp))
        return <int64_t>stamp.tv_sec * 1000000000 + stamp.tv_nsec - self.clocks_apart_ns

    cdef bint _wants(self, Client *client, uint8_t *packet, int *length, int64_t arrived) noexcept nogil:
        """Whether the caller wants this datagram, which is no RTP. RTCP of clients that report is decrypted here."""
        if not client.told.feedback_interval_ns or length[0] < 12 or not 128 <= packet[0] <= 191:
            return True
        if _unprotect_rtcp(client.unprotect, packet, length):
            self.bad += 1
            return False
        _note_sender_report(client, packet, length[0], arrived)
        return _says_more(packet, length[0])

    cdef void _keep_control(self, int index, uint8_t *packet, int length) noexcept:
        if len(self.control) >= CONTROL_MAX:
            self.control_dropped += 1
        else:
            self.control.append((index, PyBytes_FromStringAndSize(<char *>packet, length)))

    cdef void _check(self, Client *client, uint8_t *packet, int length, int64_t arrived) noexcept nogil:
        """Decrypt one packet and hold it against what its sender sent."""
        cdef int header, i, counted
        cdef uint8_t *whole = packet
        cdef uint64_t number
        cdef int64_t sent_ns, bucket
        cdef Heard *heard = NULL
        cdef uint32_t sender
        if client.unprotect == NULL:
            self.received += 1
            return
        if _unprotect(client.unprotect, packet, &length):
            self.bad += 1
            return
        header = 12 + 4 * (packet[0] & 15)
        if packet[0] & 16:
            if header + 4 > length:
                self.strange += 1
                return
            header += 4 + 4 * (packet[header + 2] << 8 | packet[header + 3])
        if client.told.feedback_interval_ns and header <= length:
            counted = _number_of(packet, header, client.told.transport_cc_id)
            if counted >= 0:
                _note_arrival(&client.told, counted, arrived)
        if header + STAMP_OFFSET + 24 > length:
            self.strange += 1  # a probe, or a padding
            return
        packet += header + STAMP_OFFSET
        if packet[0] != 0x74 or packet[1] != 0x75 or packet[2] != 0x72 or packet[3] != 0x6E:
            self.strange += 1  # sent again over RTX, say
            return
        sender = <uint32_t>packet[4] << 24 | <uint32_t>packet[5] << 16 | <uint32_t>packet[6] << 8 | packet[7]
        memcpy(&number, packet + 8, 8)
        memcpy(&sent_ns, packet + 16, 8)
        for i in range(client.heard_count):
            if client.heard[i].sender == <int>sender:
                heard = &client.heard[i]
                break
        if heard == NULL:
            if client.heard_count == HEARD_MAX:
                self.strange += 1
                return
            heard = &client.heard[client.heard_count]
            client.heard_count += 1
            heard.sender = sender
            heard.video = <int>sender < self.sender_count and self.senders[sender].video
            heard.highest = number
        elif number > heard.highest:
            heard.highest = number
        else:
            heard.late += 1
        heard.received += 1
        self.received += 1
        if client.told.feedback_interval_ns:
            _note_heard(heard, whole, arrived)
        bucket = (arrived - sent_ns) // 10000
        self.delays[bucket if 0 <= bucket < DELAY_BUCKETS else DELAY_BUCKETS] += 1

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
