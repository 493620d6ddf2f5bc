# The way of one packet: classify, decrypt, accept, forward; and the feedback that follows from it.

cdef int64_t KEY_FRAME_INTERVAL_NS = plane_packets.KEY_FRAME_INTERVAL_NS

# --- what Python is told


cdef void call_up(
    Plane *p, int kind, int64_t transport, int64_t stream, Socket *socket, const Key *address, const uint8_t *data,
    int length, int64_t arrival_ns
) noexcept nogil:
    cdef Upcalled *grown
    cdef Upcalled *made
    cdef int capacity
    if p.upcalls_count >= (UPCALLS_MAX if transport else STRANGERS_MAX):
        p.drops[UPCALL_QUEUE_FULL] += 1
        return
    if p.upcalls_count == p.upcalls_capacity:
        capacity = 2 * p.upcalls_capacity if p.upcalls_capacity else 64
        grown = <Upcalled *>realloc(p.upcalls, capacity * sizeof(Upcalled))
        if grown == NULL:
            p.drops[UPCALL_QUEUE_FULL] += 1
            return
        p.upcalls = grown
        p.upcalls_capacity = capacity
    made = &p.upcalls[p.upcalls_count]
    made.kind = kind
    made.transport = transport
    made.stream = stream
    made.arrival_ns = arrival_ns
    made.socket = socket
    made.length = length
    made.data = NULL
    if length:
        made.data = <uint8_t *>malloc(length)
        if made.data == NULL:
            p.drops[UPCALL_QUEUE_FULL] += 1
            return
        memcpy(made.data, data, length)
    if address != NULL:
        made.address = address[0]
    p.upcalls_count += 1


cdef void want_key_frame(Plane *p, Stream *s) noexcept nogil:
    """Ask Python for a key frame, at most once per ``KEY_FRAME_INTERVAL_NS`` and stream."""
    if not s.is_video or p.now_ns - s.key_asked_ns < KEY_FRAME_INTERVAL_NS:
        return
    s.key_asked_ns = p.now_ns
    call_up(p, UP_KEY_FRAME_WANTED, s.transport.handle, s.handle, NULL, NULL, NULL, 0, p.now_ns)


# --- out


cdef bint wait(Plane *p, Route *r, Stream *s, const uint8_t *data, int length) noexcept nogil:
    """Let the rendered packet wait in the pacer; False: too much waits, and all of the route's is dropped."""
    cdef Transport *t = r.transport
    if pacer_push(&t.pacer, r, data, length, r.rendered):
        pace_from_now_on(p, t)
        return True
    p.due_known = False
    p.drops[PACER_FULL] += pacer_drop(&t.pacer, r) + 1
    rewind(r)
    route_stop(r, True)
    want_key_frame(p, s)
    return False


cdef void fill(Plane *p, Route *r, const Packet *packet, int64_t place) noexcept nogil:
    """An empty packet in the place of one that is left out after later ones went out."""
    cdef int payload_type = r.payload_types[packet.payload_type]
    cdef int length
    if not over_rtx(r, payload_type) and not note_filled(r, place):
        return
    length = write_padding(r, out_slot(p), payload_type, r.ssrc, place, 1)
    send_out(p, r.transport, length, -1)


cdef inline void queued_for(Plane *p, Route *r, int64_t stream, int octets) noexcept nogil:
    """What was queued last is a packet that the route has counted."""
    cdef Out *out = &p.outs[p.outs_count - 1]
    out.route = r
    out.stream = stream
    out.octets = octets


cdef void forward(Plane *p, Route *r, Stream *s, const Packet *packet) noexcept nogil:
    cdef Transport *t = r.transport
    cdef int64_t place
    cdef uint8_t *to
    cdef int length
    if not r.gate.open:
        p.drops[GATE_CLOSED] += 1
        return
    if r.paused:
        p.drops[ROUTE_PAUSED] += 1
        return
    if not r.is_tap and not ready(p, t):
        return
    if r.payload_types[packet.payload_type] < 0:
        p.drops[PAYLOAD_TYPE_UNMAPPED] += 1
        return
    if r.running and s == r.stream:
        if packet.number < r.first_number:  # reordered from before the run
            p.drops[WAITING_FOR_KEY_FRAME] += 1
            return
        if r.filters and not keeps(r, packet):
            p.drops[LAYER_LEFT_OUT] += 1
            place = leave_out(r, packet)
            if place >= 0 and not r.is_tap and not pacer_waits(&t.pacer):
                fill(p, r, packet, place)
            return
    elif packet.begins_key_frame or (s == r.stream and not r.needs_key_frame):
        begin_run(r, s, packet)
    else:
        p.drops[WAITING_FOR_KEY_FRAME] += 1
        want_key_frame(p, s)
        return
    to = out_slot(p)
    length = render(r, packet, to)
    if length < 0:
        p.drops[TOO_LARGE] += 1
    elif r.is_tap:
        if bytes_add(&p.taps, r.handle, s.handle, packet.arrival_ns, to, length) == NULL:
            p.drops[SPOOL_FULL] += 1
        count(r, packet, s.handle)
    elif s.is_video and not may_pass(&t.pacer, p.now_ns):
        if wait(p, r, s, to, length):
            count(r, packet, s.handle)
    else:
        r.highest_sent = r.highest_output
        if send_out(p, t, length, -1):
            if r.repeats:
                r.numbers[r.rendered & (NUMBERS - 1)] = r.rendered << 16 | p.number
            count(r, packet, s.handle)
            queued_for(p, r, s.handle, packet.payload_end - packet.payload_start)


cdef bint resend(Plane *p, Route *r, int sequence, int64_t now_ns) noexcept nogil:
    """Answer a NACK for one number; False: the cache does not hold it."""
    cdef Transport *t = r.transport
    cdef uint8_t *to = out_slot(p)
    cdef int length
    if r.again_bytes <= 0:
        p.drops[RESEND_OVER_BUDGET] += 1
        return True  # it is not lost, and may be asked for again
    length = render_again(r, sequence & 0xFFFF, to, now_ns)
    if length < 0:
        r.totals.not_in_cache += 1
        return False
    if length > 0:
        r.totals.retransmitted += 1
        r.again_bytes -= length
        if r.repeats:
            send_out(p, t, length, number_of(r, r.rendered))
        elif may_pass(&t.pacer, now_ns):
            send_out(p, t, length, -1)
        else:
            pacer_push_again(&t.pacer, r, to, length)
            pace_from_now_on(p, t)
    return True


# --- in


cdef void note_arrival(Plane *p, Transport *t, const Packet *packet) noexcept nogil:
    cdef const Element *element
    cdef int i
    for i in range(packet.elements_count):
        element = &packet.elements[i]
        if element.key == t.transport_cc_id and element.size >= 2:
            if t.arrivals == NULL:
                t.arrivals = <Arrivals *>calloc(1, sizeof(Arrivals))
                if t.arrivals == NULL:
                    return
                t.arrivals.highest = t.arrivals.base = -1
            if arrivals_note(t.arrivals, get16(packet.data + element.at), packet.arrival_ns):
                due_at(p, t.arrivals.due_ns)
            if not t.is_telling:
                t.is_telling = list_add(&p.telling, t)
            return


cdef void take(Plane *p, Transport *t, const Ssrc *whose, Packet *packet, bint held) noexcept nogil:
    """Accept one decrypted packet of a known stream, or its RTX, and forward it. Its bytes change."""
    cdef Stream *s = whose.stream
    cdef bint repaired = s == NULL
    cdef int i, outcome
    if not read_header(packet):
        p.drops[MALFORMED_RTP] += 1
        return
    read_elements(packet)
    if t.transport_cc_id and not held:
        note_arrival(p, t, packet)
    if repaired:
        s = whose.repair
        i = s.repairs[packet.payload_type]
        if i < 0:
            p.drops[RTX_WITHOUT_STREAM] += 1
            return
        if not unwrap_rtx(packet, i, s.ssrc):
            p.drops[PADDING_ONLY] += 1
            return
    else:
        packet.length = packet.payload_end
        packet.data[0] &= 0xDF
    outcome = accept(p, s, packet, repaired)
    if s.holes_given_up:
        s.holes_given_up = False
        want_key_frame(p, s)
    if s.missing_count and not s.is_nacking:
        s.is_nacking = list_add(&p.nacking, s)
    if outcome != ACCEPTED:
        p.drops[outcome] += 1
        return
    for i in range(s.routes.count):
        forward(p, <Route *>s.routes.items[i], s, packet)


cdef void hold(
    Plane *p, Transport *t, uint32_t ssrc, const uint8_t *data, int length, int64_t arrival_ns
) noexcept nogil:
    """Keep a packet of an SSRC that nobody has announced yet; the oldest goes where there are too many."""
    cdef Held *slot = &t.held[t.held_count]
    slot.data = <uint8_t *>malloc(length)
    if slot.data == NULL:
        p.drops[UNKNOWN_SSRC] += 1
        return
    memcpy(slot.data, data, length)
    slot.ssrc = ssrc
    slot.length = length
    slot.arrival_ns = arrival_ns
    t.held_count += 1
    if t.held_count > HELD_MAX:
        free(t.held[0].data)
        t.held_count -= 1
        memmove(&t.held[0], &t.held[1], t.held_count * sizeof(Held))
        p.drops[UNKNOWN_SSRC] += 1


cdef void take_held(Plane *p, Transport *t) noexcept nogil:
    """Streams were announced: handle what was held for them."""
    cdef Held held[HELD_MAX + 1]
    cdef int i, count_held = t.held_count
    cdef Ssrc *whose
    cdef Packet packet
    memcpy(held, t.held, sizeof(held))
    t.held_count = 0
    for i in range(count_held):
        whose = ssrc_find(t, held[i].ssrc)
        if whose == NULL or (whose.stream == NULL and whose.repair == NULL):
            t.held[t.held_count] = held[i]
            t.held_count += 1
            continue
        packet.data = held[i].data
        packet.length = held[i].length
        packet.arrival_ns = held[i].arrival_ns
        take(p, t, whose, &packet, True)
        free(held[i].data)


cdef inline int unprotect_drop(int status) noexcept nogil:
    return REPLAYED if status == 9 or status == 10 else UNPROTECT_FAILED  # srtp_err_status_replay_fail, …_old


cdef void receive_rtcp(
    Plane *p, Socket *socket, Transport *t, const Key *address, uint8_t *data, int length, int64_t arrival_ns
) noexcept nogil:
    cdef uint32_t ssrc = get32(data + 4)
    cdef Ssrc *whose = ssrc_find(t, ssrc)
    cdef int status
    if (whose == NULL or not whose.authentic) and t.authentic >= SSRCS_MAX:
        p.drops[STREAMS_FULL] += 1
        return
    status = p.unprotect_rtcp(t.receive, data, &length)
    if status:
        p.drops[unprotect_drop(status)] += 1
        return
    note_authentic(t, whose, ssrc)
    t.last_heard_ns = arrival_ns
    call_up(p, UP_RTCP, t.handle, 0, socket, address, data, length, arrival_ns)


cdef inline Ssrc *note_authentic(Transport *t, Ssrc *whose, uint32_t ssrc) noexcept nogil:
    if whose == NULL:
        whose = ssrc_add(t, ssrc)
    if whose != NULL and not whose.authentic:
        whose.authentic = True
        t.authentic += 1
    return whose


cdef void receive_rtp(
    Plane *p, Socket *socket, Transport *t, const Key *address, uint8_t *data, int length, int64_t arrival_ns
) noexcept nogil:
    cdef uint32_t ssrc = get32(data + 8)
    cdef Ssrc *whose = ssrc_find(t, ssrc)
    cdef bint known = whose != NULL and (whose.stream != NULL or whose.repair != NULL)
    cdef bint heard = whose != NULL and whose.heard
    cdef int status
    cdef Packet packet
    if ((whose == NULL or not whose.authentic) and t.authentic >= SSRCS_MAX) or not (
        known or heard or t.heard + t.streams.count < STREAMS_MAX
    ):
        p.drops[STREAMS_FULL] += 1
        return
    status = p.unprotect(t.receive, data, &length)
    if status:
        p.drops[unprotect_drop(status)] += 1
        return
    whose = note_authentic(t, whose, ssrc)
    t.last_heard_ns = arrival_ns
    packet.data = data
    packet.length = length
    packet.arrival_ns = arrival_ns
    if known:
        take(p, t, whose, &packet, False)
        return
    if whose != NULL and not whose.heard:
        whose.heard = True
        t.heard += 1
    if t.transport_cc_id and read_header(&packet):
        read_elements(&packet)
        note_arrival(p, t, &packet)  # now: if nobody ever announces the stream, its packets must not look lost
    hold(p, t, ssrc, data, length, arrival_ns)
    call_up(p, UP_UNKNOWN_RTP, t.handle, 0, socket, address, data, length, arrival_ns)


cdef void receive(
    Plane *p, Socket *socket, Transport *t, const Key *address, uint8_t *data, int length, int64_t arrival_ns
) noexcept nogil:
    """Take one datagram; what it is shows in the first byte (RFC 7983). ``t``: whose address it came from, or NULL."""
    cdef int first
    if length <= 0 or length > BUFFER_BYTES:
        p.drops[EMPTY if length == 0 else TOO_LARGE] += 1
        return
    first = data[0]
    if 128 <= first < 192:
        if t == NULL:
            p.drops[UNKNOWN_ADDRESS] += 1
        elif t.receive == NULL:
            p.drops[NO_KEYS] += 1
        elif length < HEADER_BYTES:
            p.drops[MALFORMED_RTP] += 1
        elif 192 <= data[1] <= 223:
            receive_rtcp(p, socket, t, address, data, length, arrival_ns)
        else:
            receive_rtp(p, socket, t, address, data, length, arrival_ns)
    elif first < 4 or 20 <= first < 64:
        call_up(
            p,
            UP_STUN if first < 4 else UP_DTLS,
            0 if t == NULL else t.handle,
            0,
            socket,
            address,
            data,
            length,
            arrival_ns,
        )
    else:
        p.drops[UNKNOWN_KIND] += 1
