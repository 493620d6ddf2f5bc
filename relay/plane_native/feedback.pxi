# What senders are told: relay.feedback and relay.rtcp_transport_cc, with the same answers.

cdef int64_t NACK_DELAY_NS = feedback.NACK_DELAY_NS
cdef int64_t NACK_INTERVAL_MIN_NS = feedback.NACK_INTERVAL_MIN_NS
cdef int64_t NACK_INTERVAL_MAX_NS = feedback.NACK_INTERVAL_MAX_NS
cdef int NACK_TRIES_MAX = feedback.NACK_TRIES_MAX
cdef int64_t FEEDBACK_INTERVAL_NS = feedback.FEEDBACK_INTERVAL_NS
cdef int64_t FEEDBACK_EARLY_NS = feedback.FEEDBACK_EARLY_NS
cdef int RETOLD = feedback._RETOLD
cdef int64_t TICK_NS = rtcp_transport_cc.TICK_NS

cdef enum:
    LOST = 0
    SMALL = 1
    LARGE = 2

# --- what is missing of a stream: an ascending array of extended numbers


cdef void missing_clear(Stream *s) noexcept nogil:
    s.missing_count = 0
    s.missing_due = False


cdef bint missing_add(Stream *s, int64_t first, int64_t last, int64_t now_ns) noexcept nogil:
    """``first`` … ``last`` have not come, though later ones have. False: too many, all given up."""
    cdef int64_t number
    if s.missing == NULL:
        s.missing = <Missing *>malloc(MISSING_MAX * sizeof(Missing))
    if s.missing == NULL or s.missing_count + last - first + 1 > MISSING_MAX:
        missing_clear(s)
        return False
    for number in range(first, last + 1):
        s.missing[s.missing_count] = Missing(number, now_ns + NACK_DELAY_NS, 0)
        s.missing_count += 1
    if not s.missing_due or now_ns + NACK_DELAY_NS < s.missing_due_ns:
        s.missing_due = True
        s.missing_due_ns = now_ns + NACK_DELAY_NS
    return True


cdef void missing_arrived(Stream *s, int64_t number) noexcept nogil:
    cdef int i
    for i in range(s.missing_count):
        if s.missing[i].number == number:
            s.missing_count -= 1
            memmove(s.missing + i, s.missing + i + 1, (s.missing_count - i) * sizeof(Missing))
            return
        if s.missing[i].number > number:
            return


cdef int missing_ask(Stream *s, int64_t now_ns, uint16_t *asked, int *given_up) noexcept nogil:
    """Numbers to ask for now, ascending, at most ``MISSING_MAX``; how many, and how many were given up."""
    cdef int64_t interval_ns = min(max(s.transport.round_trip_ns, NACK_INTERVAL_MIN_NS), NACK_INTERVAL_MAX_NS)
    cdef int i, kept = 0, count = 0
    given_up[0] = 0
    s.missing_due = False
    for i in range(s.missing_count):
        if s.missing[i].next_ns <= now_ns:
            if s.missing[i].tries >= NACK_TRIES_MAX:
                given_up[0] += 1
                continue
            s.missing[i].tries += 1
            s.missing[i].next_ns = now_ns + interval_ns
            asked[count] = s.missing[i].number & 0xFFFF
            count += 1
        if not s.missing_due or s.missing[i].next_ns < s.missing_due_ns:
            s.missing_due = True
            s.missing_due_ns = s.missing[i].next_ns
        s.missing[kept] = s.missing[i]
        kept += 1
    s.missing_count = kept
    return count


cdef int pack_nack(uint8_t *to, uint32_t sender, uint32_t media, const uint16_t *sequences, int count) noexcept nogil:
    """A generic NACK (RFC 4585 §6.2.1) of at most ``MISSING_MAX`` ascending numbers into a packet buffer."""
    cdef int i, behind, first = 0, mask = 0, at = 8
    for i in range(count):
        behind = (sequences[i] - first) & 0xFFFF
        if at > 8 and 0 < behind <= 16:
            mask |= 1 << (behind - 1)
            put16(to + at + 2, mask)
        elif at == 8 or behind:
            at += 4
            first, mask = sequences[i], 0
            put16(to + at, first)
            put16(to + at + 2, 0)
    at += 4
    to[0] = 0x81
    to[1] = 205
    put16(to + 2, at // 4 - 1)
    put32(to + 4, sender)
    put32(to + 8, media)
    return at


# --- when packets of a transport arrived


cdef inline int arrival_place(const Arrivals *a, int64_t number) noexcept nogil:
    """Where in the queue the number is, + 1; 0: it is not."""
    cdef int place = a.index[number & (ARRIVALS_INDEX - 1)]
    while place and a.queue[place - 1].number != number:
        place = a.next[place - 1]
    return place


cdef inline int64_t arrival_of(const Arrivals *a, int64_t number) noexcept nogil:
    """When it arrived; −1: not known to have."""
    cdef int place = arrival_place(a, number)
    return a.queue[place - 1].at_ns if place else -1


cdef void arrivals_drop_oldest(Arrivals *a) noexcept nogil:
    cdef int16_t *link = &a.index[a.queue[a.first].number & (ARRIVALS_INDEX - 1)]
    while link[0] != a.first + 1:
        link = &a.next[link[0] - 1]
    link[0] = a.next[a.first]
    a.first = (a.first + 1) % (ARRIVALS_MAX + 1)
    a.count -= 1


cdef bint arrivals_note(Arrivals *a, int sequence, int64_t at_ns) noexcept nogil:
    """A packet with this transport-wide number (16 bits) arrived; whether that made a feedback due."""
    cdef int64_t number, delta
    cdef int place, home
    if a.highest < 0:
        number = a.highest = a.base = sequence + 0x10000
    else:
        delta = ((sequence - a.highest + 0x8000) & 0xFFFF) - 0x8000
        number = a.highest + delta
        if delta > 0:
            a.highest = number
        elif number < a.base:
            if number < a.base - RETOLD:
                return False
            a.base = number
    place = arrival_place(a, number)
    if place:
        a.queue[place - 1].at_ns = at_ns
    else:
        place = (a.first + a.count) % (ARRIVALS_MAX + 1)
        home = <int>(number & (ARRIVALS_INDEX - 1))
        a.queue[place] = Arrival(number, at_ns)
        a.next[place] = a.index[home]
        a.index[home] = place + 1
        a.count += 1
        if a.count > ARRIVALS_MAX:
            arrivals_drop_oldest(a)
    if a.due:
        return False
    a.due = True
    a.due_ns = at_ns + FEEDBACK_INTERVAL_NS
    return True


cdef int pack_chunks(const uint8_t *symbols, int count, uint8_t *to) noexcept nogil:
    """Status chunks: two bytes for seven symbols or more, but for the last."""
    cdef int at = 0, written = 0, run, i, most, chunk, symbol
    cdef bint large
    while at < count:
        symbol = symbols[at]
        run = at + 1
        while run < count and run - at < 0x1FFF and symbols[run] == symbol:
            run += 1
        if run - at >= 14 or run == count or (symbol == LARGE and run - at >= 7):
            chunk = symbol << 13 | run - at
            at = run
        else:
            most = min(14, count - at)
            large = False
            for i in range(most):
                large = large or symbols[at + i] == LARGE
            if large:
                chunk = 0xC000
                for i in range(min(7, most)):
                    chunk |= symbols[at + i] << 12 - 2 * i
                at += 7
            else:
                chunk = 0x8000
                for i in range(most):
                    chunk |= symbols[at + i] << 13 - i
                at += 14
        put16(to + written, chunk)
        written += 2
    return written


cdef int pack_feedback(Arrivals *a, uint8_t *to, uint32_t sender, uint32_t media, int64_t *base) noexcept nogil:
    """One feedback from ``base`` on into ``FEEDBACK_BYTES``; its length. ``base`` moves to where it stops before.

    20 bytes of header, two for seven of ``STATUSES_MAX`` symbols, two for each of ``RECEIVED_MAX`` deltas: it fits.
    """
    cdef uint8_t symbols[STATUSES_MAX]
    cdef uint8_t deltas[2 * RECEIVED_MAX]
    cdef int count = 0, written = 0, received = 0, at, padding
    cdef int64_t number = base[0], arrival_ns, ticks, delta, reference, previous
    while number < a.highest and arrival_of(a, number) < 0:
        number += 1
    reference = (arrival_of(a, number) // TICK_NS) >> 8
    previous = reference << 8
    for number in range(base[0], a.highest + 1):
        arrival_ns = arrival_of(a, number)
        if count == STATUSES_MAX:
            break
        if arrival_ns < 0:
            symbols[count] = LOST
            count += 1
            continue
        ticks = arrival_ns // TICK_NS
        delta = ticks - previous
        if received == RECEIVED_MAX or delta < -0x8000 or delta > 0x7FFF:
            break
        if 0 <= delta <= 0xFF:
            symbols[count] = SMALL
            deltas[written] = delta & 0xFF
            written += 1
        else:
            symbols[count] = LARGE
            put16(deltas + written, delta)
            written += 2
        count += 1
        previous = ticks
        received += 1
    while count > 1 and symbols[count - 1] == LOST:
        count -= 1
    at = 20 + pack_chunks(symbols, count, to + 20)
    memcpy(to + at, deltas, written)
    at += written
    padding = -at & 3
    if padding:
        memset(to + at, 0, padding)
        at += padding
        to[at - 1] = padding
    to[0] = 0x80 | (0x20 if padding else 0) | 15
    to[1] = 205
    put16(to + 2, at // 4 - 1)
    put32(to + 4, sender)
    put32(to + 8, media)
    put16(to + 12, base[0])
    put16(to + 14, count)
    put32(to + 16, <uint32_t>((reference & 0xFFFFFF) << 8 | a.feedbacks & 0xFF))
    base[0] += count
    return at
