# Memory of packets that are kept for a while: written one after another, whoever they are from, into large pages; the
# oldest page is written over when nothing in it is young enough to be asked for. Each on a place of its own, far from
# the last one's, costs as much as encrypting it: the processor has to find every place again.

cdef int64_t AGE_MAX_NS = packet_cache.AGE_MAX_NS

cdef enum:
    MADV_HUGEPAGE = 14


cdef void segment_begin(Shelf *shelf, int64_t now_ns) noexcept nogil:
    """Go on in another segment: the oldest one where all in it is too old, or where there are ``SEGMENTS_MAX``."""
    cdef int64_t count = shelf.current - shelf.oldest + 1
    cdef int slot = <int>(shelf.oldest & (SEGMENTS_MAX - 1))
    cdef uint8_t *segment = NULL
    if count < SEGMENTS_MAX and not (count > 1 and now_ns - shelf.newest_ns[slot] > AGE_MAX_NS):
        segment = <uint8_t *>aligned_alloc(SEGMENT_BYTES, SEGMENT_BYTES)
        if segment != NULL:
            madvise(segment, SEGMENT_BYTES, MADV_HUGEPAGE)  # in vain where large pages are switched off
    if segment == NULL:
        if not count:
            return
        segment = shelf.segments[slot]
        shelf.oldest += 1
    shelf.current += 1
    slot = <int>(shelf.current & (SEGMENTS_MAX - 1))
    shelf.segments[slot] = segment
    shelf.newest_ns[slot] = now_ns
    shelf.used = 0


cdef int64_t keep(Shelf *shelf, const Packet *packet) noexcept nogil:
    """Keep a copy of a packet of at most ``BUFFER_BYTES``; its place, 0: no memory."""
    cdef Kept head = Kept(packet.arrival_ns, packet.length, packet.layer.present, 0)
    cdef int size = (<int>sizeof(Kept) + packet.length + 63) & ~63
    cdef int64_t place
    cdef int slot
    cdef uint8_t *alone
    if EXACT_BLOCKS:
        alone = <uint8_t *>malloc(sizeof(Kept) + packet.length)
        if alone != NULL:
            memcpy(alone, &head, sizeof(Kept))
            memcpy(alone + sizeof(Kept), packet.data, packet.length)
        return <int64_t><uintptr_t>alone
    if shelf.used + size > SEGMENT_BYTES or not shelf.current:
        segment_begin(shelf, packet.arrival_ns)
        if shelf.used + size > SEGMENT_BYTES or not shelf.current:
            return 0
    slot = <int>(shelf.current & (SEGMENTS_MAX - 1))
    shelf.newest_ns[slot] = max(shelf.newest_ns[slot], packet.arrival_ns)
    place = shelf.current * SEGMENT_BYTES + shelf.used
    copy_aside(shelf.segments[slot] + shelf.used, &head, packet.data, packet.length)
    shelf.used += size
    return place


cdef inline const Kept *kept_at(const Shelf *shelf, int64_t place) noexcept nogil:
    """What was kept there, its bytes behind it; NULL: written over, or nothing."""
    if EXACT_BLOCKS:
        return <const Kept *><uintptr_t>place
    if not place or place // SEGMENT_BYTES < shelf.oldest:
        return NULL
    return <const Kept *>(shelf.segments[place // SEGMENT_BYTES & (SEGMENTS_MAX - 1)] + place % SEGMENT_BYTES)


cdef inline void let_go(int64_t place) noexcept nogil:
    """The copy is not needed any more; its memory is used again in its turn."""
    if EXACT_BLOCKS:
        free(<void *><uintptr_t>place)


cdef void shelf_free(Shelf *shelf) noexcept:
    while shelf.oldest <= shelf.current:
        free(shelf.segments[shelf.oldest & (SEGMENTS_MAX - 1)])
        shelf.oldest += 1
