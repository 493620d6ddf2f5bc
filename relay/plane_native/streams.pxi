# The receiving half: per stream what came, what is missing, and the numbering. See relay.plane_streams for the why.

cdef int64_t SEQUENCE_JUMP_MAX = rtp.SEQUENCE_JUMP_MAX
cdef int KEY_TEST_BYTES = plane_streams._KEY_TEST_BYTES
cdef int BARE_PICTURES_MIN = codecs.BARE_PICTURES_MIN
cdef int64_t SECOND_NS = 1_000_000_000


cdef inline int64_t ticks_of(int64_t ns, int64_t rate) noexcept nogil:
    """``ns * rate // 10⁹`` without overflow; ``ns`` ≥ 0."""
    return ns // SECOND_NS * rate + ns % SECOND_NS * rate // SECOND_NS


# --- the cache: a ring by number; a packet is overwritten by the one a ring later


cdef void cache_put(Stream *s, const Packet *packet) noexcept nogil:
    """Keep a copy, unless the slot has a newer packet: then it is too late to be asked for."""
    cdef Cached *slot = &s.cache[packet.number & s.cache_mask]
    if slot.place and slot.number > packet.number:
        return
    let_go(slot.place)
    slot[0] = Cached(packet.number, keep(s.shelf, packet))


cdef bint cache_get(const Stream *s, int64_t number, int64_t now_ns, Packet *packet) noexcept nogil:
    """The packet with this number, read again; False: overwritten, never came, or too old."""
    cdef const Cached *slot
    cdef const Kept *kept
    if s.cache == NULL:
        return False
    slot = &s.cache[number & s.cache_mask]
    kept = kept_at(s.shelf, slot.place) if slot.number == number else NULL
    if kept == NULL or now_ns - kept.arrival_ns > AGE_MAX_NS:
        return False
    packet.data = <uint8_t *>(kept + 1)
    packet.length = kept.length
    packet.number = number
    packet.arrival_ns = kept.arrival_ns
    if not read_header(packet):
        return False
    read_elements(packet)
    memset(&packet.layer, 0, sizeof(Layer))
    if kept.layered:
        read_vp8(packet, &packet.layer)
    return True


# --- numbers


cdef void leave_out_numbers(Stream *s, int64_t first_after, int64_t count) noexcept nogil:
    """Numbers from ``first_after`` on move down by ``count`` more."""
    s.shift += count
    s.shift_from[s.shifts] = first_after
    s.shift_totals[s.shifts] = s.shift
    s.shifts += 1
    if s.shifts > SHIFTS_MAX:
        s.oldest = max(s.oldest, s.shift_from[0])
        s.shift_base = s.shift_totals[0]
        s.shifts -= 1
        memmove(s.shift_from, s.shift_from + 1, s.shifts * sizeof(int64_t))
        memmove(s.shift_totals, s.shift_totals + 1, s.shifts * sizeof(int64_t))


cdef int64_t continuous_of(const Stream *s, int64_t number) noexcept nogil:
    """The continuous number of an extended sequence number that is not below ``oldest``."""
    cdef int low = 0, high = s.shifts, middle
    if not high or number >= s.shift_from[high - 1]:
        return number - s.shift
    while low < high:  # how many shifts begin at or before it
        middle = (low + high) // 2
        if s.shift_from[middle] > number:
            high = middle
        else:
            low = middle + 1
    return number - (s.shift_totals[low - 1] if low else s.shift_base)


cdef bint awaits(const Stream *s, int64_t continuous) noexcept nogil:
    """Whether this packet is missing and may yet come."""
    cdef int i
    for i in range(s.missing_count):
        if continuous_of(s, s.missing[i].number) == continuous:
            return True
    return False


cdef void note_hole(Plane *p, Stream *s, int64_t first, int64_t last, int64_t arrival_ns) noexcept nogil:
    if last - first >= SEQUENCE_JUMP_MAX:
        leave_out_numbers(s, last + 1, last - first + 1)
        s.oldest = last + 1
        missing_clear(s)
        p.due_known = False
        s.holes_given_up = True
    elif s.nack:
        if missing_add(s, first, last, arrival_ns):
            due_at(p, s.missing_due_ns)
        else:
            p.due_known = False
            s.holes_given_up = True


cdef void note_time(Stream *s, uint32_t timestamp, int64_t arrival_ns) noexcept nogil:
    """Interarrival jitter over packets of different timestamps (RFC 3550 A.8)."""
    cdef StreamTotals *totals = &s.totals
    cdef int64_t transit, difference
    if timestamp == totals.last_timestamp and totals.unique_packets > 1:
        return
    transit = ticks_of(arrival_ns, s.clock_rate) - timestamp
    if totals.unique_packets > 1:
        difference = <int32_t>(transit - s.last_transit)  # modulo 2³², as timestamps are
        totals.jitter += (<double>(difference if difference >= 0 else -difference) - totals.jitter) / 16
    s.last_transit = transit
    totals.last_timestamp = timestamp


# --- accepting


cdef bint h264_begins(Stream *s, const uint8_t *payload, int length, uint32_t timestamp) noexcept nogil:
    """relay.codecs.BarePictures: with an SPS, or with an IDR picture where none comes with one."""
    if h264_holds(payload, length, 7):
        s.parameters_at = timestamp
        s.bare_pictures = 0
        return True
    if timestamp == s.parameters_at or timestamp == s.picture_at or not h264_holds(payload, length, 5):
        return False
    s.picture_at = timestamp
    s.bare_pictures = min(s.bare_pictures + 1, BARE_PICTURES_MIN)
    return s.bare_pictures == BARE_PICTURES_MIN


cdef void look_at_frame(Stream *s, Packet *packet) noexcept nogil:
    """Whether a receiver can begin with a video packet, and its place among the layers; counts both."""
    cdef StreamTotals *totals = &s.totals
    cdef int codec = s.codecs[packet.payload_type]
    cdef int length = packet.payload_end - packet.payload_start
    cdef int temporal = 0
    packet.begins_key_frame = False
    if codec == VP8:
        read_vp8(packet, &packet.layer)
        packet.begins_key_frame = packet.layer.begins_key_frame
        temporal = packet.layer.temporal
        totals.temporal_bytes[temporal] += packet.length
        if packet.layer.begins_frame and packet.layer.present:
            totals.temporal_frames[temporal] += 1
    else:
        if codec == H264:
            packet.begins_key_frame = h264_begins(
                s, packet.data + packet.payload_start, min(length, KEY_TEST_BYTES), packet.timestamp
            )
        elif codec == ANY_CODEC:
            packet.begins_key_frame = length > 0
        totals.temporal_bytes[0] += packet.length
        totals.temporal_frames[0] += packet.marker
    if packet.begins_key_frame and packet.timestamp != s.last_key_timestamp:
        s.last_key_timestamp = packet.timestamp
        totals.key_frames += 1
        if packet.layer.present:
            vp8_size(packet, &totals.width, &totals.height)


cdef void spool(Plane *p, Stream *s, const Packet *packet) noexcept nogil:
    if s.spooled and bytes_add(&p.taps, s.handle, s.handle, packet.arrival_ns, packet.data, packet.length) == NULL:
        p.drops[SPOOL_FULL] += 1


cdef int accept(Plane *p, Stream *s, Packet *packet, bint repaired) noexcept nogil:
    """Take one packet into the cache and the spool: ``ACCEPTED``, or why it goes no further."""
    cdef StreamTotals *totals = &s.totals
    cdef int64_t number, delta = 1, highest = s.highest
    cdef bint first = not s.begun
    cdef int slot
    memset(&packet.layer, 0, sizeof(Layer))
    if first:
        number = packet.sequence
        totals.first_sequence = totals.highest_sequence = number
    else:
        delta = ((packet.sequence - highest + 0x8000) & 0xFFFF) - 0x8000
        number = highest + delta
    if not repaired:
        totals.packets += 1
        totals.bytes += packet.length
    totals.last_arrival_ns = packet.arrival_ns
    slot = <int>(number & (SEEN - 1))
    if s.seen[slot] == <uint32_t>number or delta <= -SEEN or number < s.oldest:
        return DUPLICATE
    s.seen[slot] = <uint32_t>number
    totals.unique_packets += 1
    if repaired:
        totals.repaired += 1
    if delta > 0:
        if delta > 1 and not first:
            note_hole(p, s, highest + 1, number - 1, packet.arrival_ns)
        s.begun = True
        s.highest = totals.highest_sequence = number
        if not repaired:
            note_time(s, packet.timestamp, packet.arrival_ns)
    else:
        missing_arrived(s, number)
        if not s.missing_count:
            p.due_known = False
    if packet.payload_end == packet.payload_start and delta > 0:
        leave_out_numbers(s, number + 1, 1)
        spool(p, s, packet)
        return PADDING_ONLY
    packet.number = continuous_of(s, number)
    if s.is_video:
        look_at_frame(s, packet)
    else:
        packet.begins_key_frame = True
    cache_put(s, packet)
    totals.last_media_ns = packet.arrival_ns
    spool(p, s, packet)
    return ACCEPTED
