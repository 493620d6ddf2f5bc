# What a load is made of: senders, clients, what they heard, and when it is whose turn. Included by ``flows.pyx``.

cdef enum:
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
    CATCH_UP_NS = 50000000  # so late a burst is still sent

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
