# The sending half: one stream on its way to one subscriber, as a chain of runs. See relay.plane_routes for the why.

cdef int64_t SHIFT_MAX_S = plane_routes.SHIFT_MAX_S
cdef int64_t RESEND_INTERVAL_MIN_NS = plane_routes.RESEND_INTERVAL_MIN_NS
cdef int64_t FILLED_NS = plane_routes.FILLED_NS
cdef int64_t AGAIN_BYTES_MAX = plane_routes.AGAIN_BYTES_MAX
cdef int64_t AGAIN_BYTES_FIRST = plane_routes.AGAIN_BYTES_FIRST
cdef int PICTURE_MASK = vp8_rewrite.PICTURE_MASK

# --- runs, oldest first


cdef inline Run *run_at(const Route *r, int i) noexcept nogil:
    return &r.runs[(r.runs_first + i) & (r.runs_capacity - 1)]


cdef inline Run *last_run(const Route *r) noexcept nogil:
    """NULL: there is none."""
    return run_at(r, r.runs_count - 1) if r.runs_count else NULL


cdef void runs_add(Route *r, const Run *run) noexcept nogil:
    """The newest; the oldest beyond ``RUNS_MAX`` is forgotten."""
    cdef Run *grown
    cdef int i, capacity
    if r.runs_count == r.runs_capacity:
        capacity = 2 * r.runs_capacity if r.runs_capacity else 4
        grown = NULL if capacity > RUNS_MAX else <Run *>malloc(capacity * sizeof(Run))
        if grown != NULL:
            for i in range(r.runs_count):
                grown[i] = run_at(r, i)[0]
            free(r.runs)
            r.runs = grown
            r.runs_capacity = capacity
            r.runs_first = 0
        elif r.runs_capacity == 0:
            return
        else:
            r.runs_first = (r.runs_first + 1) & (r.runs_capacity - 1)
            r.runs_count -= 1
    r.runs_count += 1
    run_at(r, r.runs_count - 1)[0] = run[0]


cdef Run make_run(const Route *r, int64_t first_output, int64_t first_number, int64_t offset, Stream *s) noexcept nogil:
    return Run(
        first_output,
        first_number,
        offset,
        s,
        0 if s == NULL else s.handle,
        r.timestamp_offset,
        r.picture_offset,
        r.tl0_offset,
    )


cdef Run *run_with(const Route *r, int64_t number) noexcept nogil:
    """The run that a continuous number falls into; NULL: none."""
    cdef int i = r.runs_count - 1
    while i >= 0:
        if run_at(r, i).first_number <= number:
            return run_at(r, i)
        i -= 1
    return NULL


cdef Run *run_of_output(const Route *r, int64_t output) noexcept nogil:
    """The run that an output number went out in; NULL: none."""
    cdef int i = r.runs_count - 1
    while i >= 0:
        if run_at(r, i).first_output <= output:
            return run_at(r, i)
        i -= 1
    return NULL


cdef inline Stream *stream_of(const Run *run) noexcept nogil:
    """NULL: it is gone."""
    return run.stream if run.stream != NULL and run.stream.handle == run.stream_handle else NULL


cdef void route_stop(Route *r, bint needs_key_frame) noexcept nogil:
    """End the run; the next one begins with the next packet, or the next key frame."""
    r.running = False
    r.needs_key_frame = needs_key_frame


cdef inline void rewind(Route *r) noexcept nogil:
    """What waited in the pacer will not be sent: its numbers are free again."""
    r.highest_output = r.highest_sent


cdef void align(Route *r, const Stream *s, const Packet *packet) noexcept nogil:
    """Timestamps follow those sent before, as sender reports say, else by the time that passed."""
    cdef int64_t rate = s.clock_rate
    cdef int64_t offset, ahead, elapsed
    if r.has_next_shift:
        offset = <int64_t>r.timestamp_offset - r.skew + r.next_shift
        ahead = <int32_t>(<uint32_t>(packet.timestamp + offset) - r.totals.last_timestamp)
        if (ahead if ahead >= 0 else -ahead) < SHIFT_MAX_S * rate:
            r.skew = max(0, 1 - ahead)
            r.timestamp_offset = <uint32_t>(offset + r.skew)
            return
    elapsed = max(packet.arrival_ns - r.totals.last_sent_ns, 0)
    elapsed = max(ticks_of(elapsed, rate), 1)
    r.skew = 0
    r.timestamp_offset = <uint32_t>(r.totals.last_timestamp + elapsed - packet.timestamp)


cdef void begin_run(Route *r, Stream *s, const Packet *packet) noexcept nogil:
    """Begin a run of ``s`` with ``packet``."""
    cdef Run run
    cdef int64_t first_output
    if s != r.stream:
        if r.stream != NULL:
            list_remove(&r.stream.routes, r)
        if r.totals.packets:
            align(r, s, packet)
        r.stream = s
        r.next_stream = NULL
        r.has_next_shift = False
    if packet.begins_key_frame:
        if r.has_newest_layer and packet.layer.present:
            r.picture_offset = (r.newest_picture + 1 - packet.layer.picture) & PICTURE_MASK
            r.tl0_offset = (r.newest_tl0 + 1 - packet.layer.tl0) & 0xFF
        r.temporal = r.temporal_max
        r.filters = r.temporal < ALL_TEMPORAL
    first_output = r.highest_output + 1
    r.began_output = first_output
    r.first_number = packet.number
    run = make_run(r, first_output, packet.number, first_output - packet.number, s)
    runs_add(r, &run)
    r.running = True
    r.needs_key_frame = False


# --- temporal layers


cdef bint keeps(Route *r, const Packet *packet) noexcept nogil:
    """Whether the packet is of a temporal layer that the subscriber takes."""
    cdef const Layer *layer = &packet.layer
    cdef Run *run = last_run(r)
    if not layer.present or run == NULL:
        return True
    if layer.begins_frame and packet.number >= run.first_number and packet.number + run.offset > r.highest_output:
        if packet.begins_key_frame or r.temporal > r.temporal_max:
            r.temporal = r.temporal_max
        elif layer.sync and layer.temporal == r.temporal + 1 and layer.temporal <= r.temporal_max:
            r.temporal += 1
        r.filters = r.temporal < ALL_TEMPORAL or r.temporal_max < ALL_TEMPORAL
    return layer.temporal <= r.temporal


cdef int64_t leave_out(Route *r, const Packet *packet) noexcept nogil:
    """Close the gap that the packet leaves; the output number to fill where that is too late, −1: none."""
    cdef int64_t number = packet.number
    cdef Run *run = last_run(r)
    cdef Run after
    cdef int64_t output, offset
    if run == NULL:
        return -1
    offset = run.offset
    output = number + offset
    if number < run.first_number or output <= r.highest_output:
        run = run_with(r, number)
        if run == NULL:
            return -1
        r.highest_output = max(r.highest_output, number + run.offset)
        return number + run.offset
    if packet.layer.present and packet.layer.picture != r.left_picture:
        r.left_picture = packet.layer.picture
        r.picture_offset = (r.picture_offset - 1) & PICTURE_MASK
    after = make_run(r, output, number + 1, offset - 1, NULL)
    after.stream = run.stream
    after.stream_handle = run.stream_handle
    if number == run.first_number:
        r.runs_count -= 1  # nothing went out in it
    runs_add(r, &after)
    return -1


# --- writing


cdef inline bint fits_one_byte(int key, int size) noexcept nogil:
    return 0 < key < 15 and 0 < size <= 16


cdef int write_extensions(const Route *r, const Packet *packet, uint8_t *to, int room) noexcept nogil:
    """The extension part of a header: the route's constants, then what is mapped; its length, −1: no room."""
    cdef int i, key, at, end, size = 0, mapped = 0
    cdef bint one_byte = r.one_byte.fits
    cdef const Fixed *fixed
    cdef const Element *element
    if r.maps_extensions:
        for i in range(packet.elements_count):
            element = &packet.elements[i]
            key = r.extension_ids[element.key]
            if key:
                mapped += 1
                size += element.size
                one_byte = one_byte and fits_one_byte(key, element.size)
    fixed = &r.block if not mapped else &r.one_byte if one_byte else &r.two_byte
    if not mapped:
        if fixed.length > room:
            return -1
        memcpy(to, fixed.data, fixed.length)
        return fixed.length
    size += fixed.length + (mapped if one_byte else 2 * mapped)
    end = 4 + ((size + 3) & ~3)
    if end > room:
        return -1
    put16(to, 0xBEDE if one_byte else 0x1000)
    put16(to + 2, end // 4 - 1)
    memcpy(to + 4, fixed.data, fixed.length)
    at = 4 + fixed.length
    for i in range(packet.elements_count):
        element = &packet.elements[i]
        key = r.extension_ids[element.key]
        if not key:
            continue
        if one_byte:
            to[at] = key << 4 | element.size - 1
            at += 1
        else:
            to[at] = key
            to[at + 1] = element.size
            at += 2
        memcpy(to + at, packet.data + element.at, element.size)
        at += element.size
    memset(to + at, 0, end - at)
    return end


cdef inline void write_head(
    uint8_t *to, int first, int second, int64_t sequence, uint32_t timestamp, uint32_t ssrc
) noexcept nogil:
    to[0] = first
    to[1] = second
    put16(to + 2, sequence)
    put32(to + 4, timestamp)
    put32(to + 8, ssrc)


cdef int write_packet(
    const Route *r,
    const Packet *packet,
    const Run *run,
    uint8_t *to,
    int second,
    int64_t sequence,
    uint32_t ssrc,
    int original,
) noexcept nogil:
    """Write a packet as the subscriber sees it into ``PACKET_BYTES_MAX``; ``original``: the number that an RTX packet
    repairs, −1: it is none. The length, or −1: too large."""
    cdef int at, size, extensions
    extensions = write_extensions(r, packet, to + HEADER_BYTES, PACKET_BYTES_MAX - HEADER_BYTES)
    if extensions < 0:
        return -1
    at = HEADER_BYTES + extensions
    size = packet.payload_end - packet.payload_start
    if at + size + (2 if original >= 0 else 0) > PACKET_BYTES_MAX:
        return -1
    write_head(to, 0x90 if extensions else 0x80, second, sequence, packet.timestamp + run.timestamp_offset, ssrc)
    if original >= 0:
        put16(to + at, original)
        at += 2
    memcpy(to + at, packet.data + packet.payload_start, size)
    if (run.picture_offset or run.tl0_offset) and packet.layer.present:
        rewrite_vp8(to + at, &packet.layer, run.picture_offset, run.tl0_offset)
    return at + size


cdef int write_padding(
    const Route *r, uint8_t *to, int payload_type, uint32_t ssrc, int64_t sequence, int padding
) noexcept nogil:
    """A packet of padding only (RFC 3550 §5.1), which receivers count and forget; ``padding`` ≤ 255."""
    cdef int at = HEADER_BYTES + r.block.length
    write_head(to, 0xB0 if r.block.length else 0xA0, payload_type, sequence, r.totals.last_timestamp, ssrc)
    memcpy(to + HEADER_BYTES, r.block.data, r.block.length)
    memset(to + at, 0, padding)
    to[at + padding - 1] = padding
    return at + padding


cdef int render(Route *r, const Packet *packet, uint8_t *to) noexcept nogil:
    """Write ``packet`` as the subscriber sees it; the length, or −1: too large. Its payload type is mapped."""
    cdef Run *run = last_run(r)
    cdef int64_t output
    if run == NULL or packet.number < run.first_number:
        run = run_with(r, packet.number)
        if run == NULL:
            return -1
    r.rendered = output = packet.number + run.offset
    if output > r.highest_output:
        r.highest_output = output
        r.has_newest_layer = packet.layer.present
        r.newest_picture = packet.layer.picture + run.picture_offset
        r.newest_tl0 = packet.layer.tl0 + run.tl0_offset
    return write_packet(
        r, packet, run, to, r.payload_types[packet.payload_type] | (0x80 if packet.marker else 0), output, r.ssrc, -1
    )


cdef int number_of(const Route *r, int64_t output) noexcept nogil:
    """The transport-wide number that an output number had; −1: not known, or too long ago."""
    cdef int64_t noted
    if r.numbers == NULL:
        return -1
    noted = r.numbers[output & (NUMBERS - 1)]
    return <int>(noted & 0xFFFF) if noted >> 16 == output else -1


cdef bint has_resent(Route *r) noexcept nogil:
    """Whether there is room to note what was sent again; made where there was none."""
    if r.resent == NULL:
        r.resent = <Resent *>calloc(RESENT, sizeof(Resent))
    return r.resent != NULL


cdef inline bint over_rtx(const Route *r, int payload_type) noexcept nogil:
    """Whether packets sent as this payload type are sent again on a stream of their own."""
    return r.has_rtx and r.rtx_types[payload_type] >= 0


cdef bint note_filled(Route *r, int64_t output) noexcept nogil:
    """Without RTX: a place is filled, and its packet must never be sent. False: no memory."""
    if not has_resent(r):
        return False
    r.resent[output & (RESENT - 1)] = Resent(output, FILLED_NS)
    return True


cdef int render_again(Route *r, int sequence, uint8_t *to, int64_t now_ns) noexcept nogil:
    """Write the packet sent as ``sequence`` once more, as RTX where negotiated.

    The length; 0: sent again less than a round trip ago, or still asked for from its sender and forwarded when it
    comes; −1: the cache does not hold it.
    """
    cdef int64_t output = r.highest_output + (((sequence - r.highest_output + 0x8000) & 0xFFFF) - 0x8000)
    cdef Run *run = run_of_output(r, output)
    cdef Stream *s
    cdef Packet packet
    cdef Resent *slot
    cdef int payload_type, marker
    if run == NULL or output > r.highest_output:
        return -1
    if r.paused or (r.transport.pacer.paced and output < r.began_output):
        return 0  # a key frame comes or came after it, and the path is thin
    if output > r.highest_sent:
        return 0  # it waits in the pacer
    s = stream_of(run)
    if s == NULL:
        return -1
    if not cache_get(s, output - run.offset, now_ns, &packet):
        return 0 if awaits(s, output - run.offset) else -1
    if packet.layer.present and packet.layer.temporal > r.temporal:
        return 0  # left out: its place was filled, or nobody needs it any more
    payload_type = r.payload_types[packet.payload_type]
    if payload_type < 0:
        return -1
    if not has_resent(r):
        return -1
    slot = &r.resent[output & (RESENT - 1)]
    if slot.output == output and slot.at_ns == FILLED_NS:
        return -1  # its place has another packet's bytes: two under one SRTP index break AES-GCM
    if slot.output == output and now_ns - slot.at_ns < max(r.transport.round_trip_ns, RESEND_INTERVAL_MIN_NS):
        return 0
    if not over_rtx(r, payload_type) and output <= r.highest_output - RESENT:
        return -1  # it is forgotten which places were filled
    slot[0] = Resent(output, now_ns)
    marker = 0x80 if packet.marker else 0
    if not over_rtx(r, payload_type):
        if r.transport_cc_id >= 0 and number_of(r, output) < 0:
            return -1  # another number would make other bytes of the same SRTP index, which breaks AES-GCM
        r.rendered = output
        return write_packet(r, &packet, run, to, payload_type | marker, output, r.ssrc, -1)
    r.rtx_sequence += 1
    return write_packet(
        r, &packet, run, to, r.rtx_types[payload_type] | marker, r.rtx_sequence, r.rtx_ssrc, <int>(output & 0xFFFF)
    )


cdef int render_probe(Route *r, int64_t output, uint8_t *to, int64_t now_ns) noexcept nogil:
    """Write an earlier packet once more as RTX, or ``PADDING_BYTES`` of padding; the length, 0: no RTX here."""
    cdef Run *run = run_of_output(r, output)
    cdef Stream *s = NULL if run == NULL else stream_of(run)
    cdef Packet packet
    cdef int payload_type = -1
    if not r.has_rtx:
        return 0
    if s != NULL and cache_get(s, output - run.offset, now_ns, &packet):
        payload_type = r.payload_types[packet.payload_type]
    r.rtx_sequence += 1
    if payload_type < 0 or r.rtx_types[payload_type] < 0:
        return write_padding(r, to, r.first_rtx_type, r.rtx_ssrc, r.rtx_sequence, PADDING_BYTES)
    return write_packet(
        r,
        &packet,
        run,
        to,
        r.rtx_types[payload_type] | (0x80 if packet.marker else 0),
        r.rtx_sequence,
        r.rtx_ssrc,
        <int>(output & 0xFFFF),
    )


# --- counting


cdef void count(Route *r, const Packet *packet, int64_t stream) noexcept nogil:
    """``packet`` of ``stream`` was sent, just rendered."""
    cdef RouteTotals *totals = &r.totals
    gate_count(r.gate, r, stream)
    totals.packets += 1
    totals.octets += packet.payload_end - packet.payload_start
    r.again_bytes = min(r.again_bytes + packet.length, AGAIN_BYTES_MAX)
    totals.last_sent_ns = packet.arrival_ns
    if r.rendered >= r.highest_output:
        totals.sequence = r.rendered
        totals.last_timestamp = packet.timestamp + r.timestamp_offset
