# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What the kernel asks for forwarding, and nothing more: datagrams in, the same datagrams out to those who subscribe.

No decryption, no rewriting, no copy, no counters: batches in (recvmmsg, with who sent each datagram and when it came,
which no relay can do without), batches out (sendmmsg, runs to one destination as one message with UDP_SEGMENT), in the
same sizes as the native plane. A relay on the same machine can come near this.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from bench.kernel cimport (
    CMSG_DATA,
    CMSG_FIRSTHDR,
    CMSG_LEN,
    MSG_DONTWAIT,
    PACKET_BYTES,
    cmsghdr,
    iovec,
    mmsghdr,
    recvmmsg,
    sendmmsg,
    sockaddr_in,
    sockaddr_storage,
)

import socket as _socket

cdef enum:
    BATCH = 64
    DRAIN_MAX = 256
    ANCILLARY_BYTES = 128
    OUT_BATCH = 512
    FAN_MAX = 256
    RUN_MAX = 40  # packets in one message; 65,507 bytes is the kernel's bound
    CONTROL_BYTES = 32
    SOL_UDP = 17
    UDP_SEGMENT = 103

cdef struct Stream:
    uint32_t ssrc
    int fan
    sockaddr_in to[FAN_MAX]


cdef class Floor:
    """Forwards by SSRC; SSRCs are those from ``first_ssrc`` on without a gap."""

    cdef Stream *streams
    cdef int count, fd
    cdef uint32_t first_ssrc
    cdef uint8_t *packets
    cdef bint gso
    cdef public uint64_t forwarded, failed

    def __cinit__(self, sock, int first_ssrc, streams, bint gso=True):
        cdef int i, k
        cdef bytes host
        self.fd, self.first_ssrc, self.count, self.gso = sock.fileno(), first_ssrc, len(streams), gso
        self.streams = <Stream *>calloc(self.count, sizeof(Stream))
        self.packets = <uint8_t *>calloc(BATCH, PACKET_BYTES)
        if not self.streams or not self.packets:
            raise MemoryError
        for i, addresses in enumerate(streams):
            if len(addresses) > FAN_MAX:
                raise ValueError("too many subscribers")
            self.streams[i].fan = len(addresses)
            for k, (name, port) in enumerate(addresses):
                host = _socket.inet_aton(name)
                self.streams[i].to[k].sin_family = _socket.AF_INET
                self.streams[i].to[k].sin_port = _socket.htons(port)
                memcpy(&self.streams[i].to[k].sin_addr, <char *>host, 4)

    def __dealloc__(self):
        free(self.streams)
        free(self.packets)

    def drain(self):
        """Take what waits, up to 256 datagrams, and send it on."""
        cdef int left = DRAIN_MAX
        with nogil:
            while left > 0 and self._drain() == BATCH:
                left -= BATCH

    cdef int _drain(self) noexcept nogil:
        """At most ``BATCH`` datagrams; how many there were."""
        cdef mmsghdr taken[BATCH]
        cdef iovec parts[BATCH]
        cdef sockaddr_storage senders[BATCH]
        cdef uint8_t ancillary[BATCH][ANCILLARY_BYTES]
        cdef mmsghdr out[OUT_BATCH]
        cdef uint8_t control[OUT_BATCH][CONTROL_BYTES]
        cdef int i, k, count, end, queued = 0, run
        cdef uint32_t ssrc
        cdef Stream *stream
        cdef cmsghdr *head
        memset(taken, 0, sizeof(taken))
        for i in range(BATCH):
            parts[i].iov_base = self.packets + i * PACKET_BYTES
            parts[i].iov_len = PACKET_BYTES
            taken[i].msg_hdr.msg_iov = &parts[i]
            taken[i].msg_hdr.msg_iovlen = 1
            taken[i].msg_hdr.msg_name = &senders[i]
            taken[i].msg_hdr.msg_namelen = sizeof(sockaddr_storage)
            taken[i].msg_hdr.msg_control = ancillary[i]
            taken[i].msg_hdr.msg_controllen = ANCILLARY_BYTES
        count = recvmmsg(self.fd, taken, BATCH, MSG_DONTWAIT, NULL)
        i = 0
        while i < count:
            ssrc = self._ssrc(i) - self.first_ssrc
            parts[i].iov_len = taken[i].msg_len
            if ssrc >= <uint32_t>self.count:
                i += 1
                continue
            end = i + 1
            while self.gso and end < count and end - i < RUN_MAX and self._ssrc(end) - self.first_ssrc == ssrc and (
                    taken[end].msg_len == taken[i].msg_len):
                parts[end].iov_len = taken[end].msg_len
                end += 1
            run = end - i
            stream = &self.streams[ssrc]
            for k in range(stream.fan):
                if queued == OUT_BATCH:
                    self._flush(out, queued)
                    queued = 0
                memset(&out[queued], 0, sizeof(mmsghdr))
                out[queued].msg_hdr.msg_name = &stream.to[k]
                out[queued].msg_hdr.msg_namelen = sizeof(sockaddr_in)
                out[queued].msg_hdr.msg_iov = &parts[i]
                out[queued].msg_hdr.msg_iovlen = run
                if run > 1:
                    out[queued].msg_hdr.msg_control = control[queued]
                    out[queued].msg_hdr.msg_controllen = 24  # CMSG_SPACE of two bytes
                    head = CMSG_FIRSTHDR(&out[queued].msg_hdr)
                    head.cmsg_level, head.cmsg_type, head.cmsg_len = SOL_UDP, UDP_SEGMENT, CMSG_LEN(2)
                    (<uint16_t *>CMSG_DATA(head))[0] = <uint16_t>taken[i].msg_len
                queued += 1
            self.forwarded += run * stream.fan
            i = end
        self._flush(out, queued)
        return count

    cdef uint32_t _ssrc(self, int i) noexcept nogil:
        cdef uint8_t *at = self.packets + i * PACKET_BYTES + 8
        return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]

    cdef void _flush(self, mmsghdr *out, int count) noexcept nogil:
        cdef int done = 0, sent
        while done < count:
            sent = sendmmsg(self.fd, out + done, count - done, MSG_DONTWAIT)
            if sent <= 0:
                if errno == EINTR:
                    continue
                self.failed += 1
                done += 1
            else:
                done += sent
