# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The native plane with a loop around it that feeds it mutated datagrams without leaving C. See ``plane_native``.

Built from the plane's own sources. Encryption is left out, so that mutations get behind it; every datagram lies in
memory of exactly its size, so that a byte read beyond it is found.
"""

include "_plane.pyx"


cdef enum:
    SEEDS_MAX = 64
    ADDRESSES_FUZZED_MAX = 16
    DATAGRAM_MAX = 2100
    TAG_BYTES = 16


cdef int open_it(void *session, void *packet, int *length) noexcept nogil:
    """Stands for libsrtp: what came is authentic, and shorter by a tag."""
    if length[0] < HEADER_BYTES + TAG_BYTES:
        return 7
    length[0] -= TAG_BYTES
    return 0


cdef int seal_it(void *session, void *packet, int *length) noexcept nogil:
    """Stands for libsrtp: a tag more."""
    memset(<uint8_t *>packet + length[0], 0x5A, TAG_BYTES)
    length[0] += TAG_BYTES
    return 0


cdef inline uint64_t throw(uint64_t *state) noexcept nogil:
    """xorshift64*."""
    state[0] ^= state[0] >> 12
    state[0] ^= state[0] << 25
    state[0] ^= state[0] >> 27
    return (state[0] * 0x2545F4914F6CDD1DULL) >> 16


cdef int mutate(uint8_t *data, int length, uint64_t *dice) noexcept nogil:
    """Change a few bytes, or the length; the new length ≤ ``DATAGRAM_MAX``."""
    cdef int changes = throw(dice) & 3
    cdef int i, at, kind
    for i in range(changes):
        kind = throw(dice) & 15
        if kind == 0:
            length = throw(dice) % (length + 1)
        elif kind == 1:
            at = min(DATAGRAM_MAX, length + <int>(throw(dice) % 64))
            while length < at:
                data[length] = throw(dice) & 0xFF
                length += 1
        if length:
            at = throw(dice) % (min(length, 48) if kind & 4 else length)
            data[at] = (throw(dice) & 0xFF) if kind & 8 else data[at] ^ (1 << (throw(dice) & 7))
    return length


cdef class FuzzedPlane(NativePlane):
    """A plane whose sockets are never asked and never written to."""

    cdef uint8_t seeds[SEEDS_MAX][DATAGRAM_MAX]
    cdef int lengths[SEEDS_MAX]
    cdef int seeds_count
    cdef Key addresses[ADDRESSES_FUZZED_MAX]
    cdef int addresses_count
    cdef uint64_t dice
    cdef uint16_t sequences[SEEDS_MAX]
    cdef uint32_t timestamp
    cdef int64_t number

    def prepare(self, socket, seeds, addresses, dice):
        """What is mutated, and where it seems to come from."""
        cdef bytes seed
        self.p.discard = True
        self.p.protect = self.p.protect_rtcp = seal_it
        self.p.unprotect = self.p.unprotect_rtcp = open_it
        for seed in seeds[:SEEDS_MAX]:
            memcpy(self.seeds[self.seeds_count], <const uint8_t *>seed, min(len(seed), DATAGRAM_MAX))
            self.lengths[self.seeds_count] = min(len(seed), DATAGRAM_MAX)
            self.seeds_count += 1
        for address in addresses[:ADDRESSES_FUZZED_MAX]:
            key_from(address, self._native[socket], &self.addresses[self.addresses_count])
            self.addresses_count += 1
        self.dice = dice | 1

    cdef bint feed(self, Socket *socket) noexcept nogil:
        """One datagram; False: no memory."""
        cdef Plane *p = self.p
        cdef uint64_t *dice = &self.dice
        cdef int which = throw(dice) % self.seeds_count
        cdef Key *address = &self.addresses[throw(dice) % self.addresses_count]
        cdef uint8_t data[DATAGRAM_MAX]
        cdef uint8_t *exact
        cdef int length = self.lengths[which]
        memcpy(data, self.seeds[which], length)
        if length > HEADER_BYTES and 128 <= data[0] < 192:  # numbers go on, so that it gets beyond them
            self.sequences[which] += throw(dice) % 3 if throw(dice) & 31 else throw(dice) & 0xFFFF
            self.timestamp += 960
            put16(data + 2, self.sequences[which])
            put32(data + 4, self.timestamp)
            if length > 20 and data[12] == 0xBE and data[16] == 0x31:
                self.number += throw(dice) % 3 if throw(dice) & 63 else throw(dice) & 0x3FFF
                put16(data + 17, self.number)
        length = mutate(data, length, dice)
        exact = <uint8_t *>malloc(max(length, 1))
        if exact == NULL:
            return False
        memcpy(exact, data, length)
        receive(p, socket, p.owners[owner_slot(p, address)], address, exact, length, p.now_ns)
        free(exact)
        return True

    def run_some(self, socket, int64_t count):
        """Feed ``count`` datagrams; time passes, timers run, subscribers ask again. Nothing is sent or told."""
        cdef _Socket native = self._native[socket]
        cdef Plane *p = self.p
        cdef int64_t n
        cdef int i
        cdef Route *r
        with nogil:
            for n in range(count):
                if not self.feed(&native.c):
                    break
                if n & 31 == 31:
                    flush(p)
                    begin(p, p.now_ns + <int64_t>(throw(&self.dice) % 9_000_000))
                    run_timers(p, p.now_ns)
                    if p.routes.count:
                        r = <Route *>p.routes.items[throw(&self.dice) % <uint64_t>p.routes.count]
                        resend(p, r, <int>((r.highest_output - throw(&self.dice) % 100) & 0xFFFF), p.now_ns)
                    flush(p)
                    p.taps.length = p.frames.length = 0
                    for i in range(p.upcalls_count):
                        free(p.upcalls[i].data)
                        p.upcalls[i].data = NULL
                    p.upcalls_count = 0

    def now_ns(self):
        return self.p.now_ns
