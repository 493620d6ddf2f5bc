# What a page tells the relay of what it gets and sends: transport-cc feedback many times a second, and once a second a
# sender report of each stream with report blocks of those it hears (RFC 3550 §6.4). Included by ``flows.pyx``.

cdef enum:
    FEEDBACK_MAX = 256  # packets that one feedback tells of
    TICK_NS = 250000
    REPORT_NS = 1000000000
    SAMPLE_RATE_VIDEO = 90000
    SAMPLE_RATE_AUDIO = 48000
    BLOCKS_MAX = 20
    OWN_MAX = 4  # sender reports in one compound


cdef inline uint32_t _get32(const uint8_t *at) noexcept nogil:
    return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]


cdef inline int _number_of(const uint8_t *packet, int header, int key) noexcept nogil:
    """The transport-wide number in a one-byte header extension (RFC 8285 §4.2) that ends at ``header``; −1: none."""
    cdef int at = 12 + 4 * (packet[0] & 15) + 4, size
    if not packet[0] & 16 or packet[at - 4] != 0xBE or packet[at - 3] != 0xDE:
        return -1
    while at < header:
        if not packet[at]:
            at += 1
            continue
        size = (packet[at] & 15) + 1
        if packet[at] >> 4 == key and size >= 2 and at + 1 + size <= header:
            return packet[at + 1] << 8 | packet[at + 2]
        at += 1 + size
    return -1


cdef void _note_arrival(Told *told, int number, int64_t now) noexcept nogil:
    """A packet with this transport-wide number is here."""
    cdef int64_t extended, skipped
    if told.newest < 0:
        told.first = told.newest = 65536 + number
    extended = told.newest + <int16_t>(<uint16_t>(number - <uint16_t>told.newest))
    if extended <= told.newest - ARRIVALS:
        return
    if extended - told.newest >= ARRIVALS:
        memset(told.arrivals, 0, ARRIVALS * sizeof(int64_t))
        told.first = extended
    else:
        for skipped in range(told.newest + 1, extended):
            told.arrivals[skipped & (ARRIVALS - 1)] = 0
    told.newest = max(told.newest, extended)
    told.first = max(told.first, told.newest - ARRIVALS + 1)
    told.arrivals[extended & (ARRIVALS - 1)] = now


cdef int _render_feedback(Told *told, uint8_t *packet, uint32_t about) noexcept nogil:
    """The feedback on what came since the last (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1); 0: nothing.

    ``packet``: PACKET_BYTES. What is missing at the end is left for the next.
    """
    cdef uint8_t symbols[FEEDBACK_MAX]
    cdef int16_t deltas[FEEDBACK_MAX]
    cdef int64_t number, arrival, ticks, previous = 0, delta, reference = 0
    cdef int count = 0, known = 0, i, k, at = 20, plain = 1, padding
    number = told.first
    while number <= told.newest and count < FEEDBACK_MAX:
        arrival = told.arrivals[number & (ARRIVALS - 1)]
        symbols[count] = 0
        if arrival:
            ticks = arrival // TICK_NS
            if not known:
                reference = ticks >> 8
                previous = reference << 8
            delta = ticks - previous
            if not -32768 <= delta <= 32767:
                break
            symbols[count] = 1 if 0 <= delta <= 255 else 2
            deltas[count] = <int16_t>delta
            previous = ticks
            known = count + 1
        count += 1
        number += 1
    if not known:
        told.first = number  # nothing of so many came
        return 0
    count = known
    for i in range(count):
        plain &= symbols[i] == 1
    if plain:
        _put16(packet + at, <uint16_t>(0x2000 | count))
        at += 2
    else:
        for i in range(0, count, 7):
            number = 0xC000
            for k in range(min(7, count - i)):
                number |= symbols[i + k] << (12 - 2 * k)
            _put16(packet + at, <uint16_t>number)
            at += 2
    for i in range(count):
        if symbols[i] == 1:
            packet[at] = <uint8_t>deltas[i]
            at += 1
        elif symbols[i] == 2:
            _put16(packet + at, <uint16_t>deltas[i])
            at += 2
    padding = -at & 3
    for i in range(padding):
        packet[at + i] = <uint8_t>padding if i == padding - 1 else 0
    at += padding
    packet[0], packet[1] = 0x8F | (0x20 if padding else 0), 205
    _put16(packet + 2, <uint16_t>(at // 4 - 1))
    _put32(packet + 4, told.ssrc)
    _put32(packet + 8, about)
    _put16(packet + 12, <uint16_t>told.first)
    _put16(packet + 14, <uint16_t>count)
    _put32(packet + 16, <uint32_t>(reference & 0xFFFFFF) << 8 | told.feedbacks)
    told.feedbacks += 1
    told.first += count
    return at


cdef void _note_heard(Heard *heard, const uint8_t *packet, int64_t now) noexcept nogil:
    """For report blocks: numbers and jitter of a stream (RFC 3550 §A.1, §A.8)."""
    cdef uint16_t sequence = <uint16_t>(packet[2] << 8 | packet[3])
    cdef uint32_t rate = SAMPLE_RATE_VIDEO if heard.video else SAMPLE_RATE_AUDIO
    cdef int64_t extended, difference
    cdef uint32_t transit = <uint32_t>((now // 1000) * rate // 1000000) - _get32(packet + 4)
    if not heard.ssrc:
        heard.ssrc = _get32(packet + 8)
        heard.first_sequence = heard.last_sequence = sequence
        heard.transit = transit
    extended = heard.last_sequence + <int16_t>(<uint16_t>(sequence - <uint16_t>heard.last_sequence))
    heard.last_sequence = max(heard.last_sequence, extended)
    difference = <int32_t>(transit - heard.transit)
    heard.transit = transit
    heard.jitter += ((difference if difference >= 0 else -difference) - heard.jitter) / 16.0
    heard.ever += 1


cdef void _render_block(Heard *heard, uint8_t *at, int64_t now) noexcept nogil:
    cdef int64_t expected = heard.last_sequence - heard.first_sequence + 1
    cdef int64_t lost = expected - <int64_t>heard.ever
    cdef int64_t new = expected - heard.told_expected
    cdef int64_t new_lost = lost - heard.told_lost
    heard.told_expected, heard.told_lost = expected, lost
    _put32(at, heard.ssrc)
    _put32(at + 4, <uint32_t>(lost & 0xFFFFFF))
    at[4] = <uint8_t>min(255, new_lost * 256 // new) if new > 0 and new_lost > 0 else 0
    _put32(at + 8, <uint32_t>heard.last_sequence)
    _put32(at + 12, <uint32_t>heard.jitter)
    _put32(at + 16, heard.last_sr)
    _put32(at + 20, <uint32_t>((now - heard.last_sr_ns) * 65536 // 1000000000) if heard.last_sr else 0)


cdef void _note_sender_report(Client *client, const uint8_t *compound, int length, int64_t now) noexcept nogil:
    """Remember when sender reports came (RFC 3550 §6.4.1, LSR): from them the relay knows the round trip."""
    cdef int at = 0, size, i
    while at + 8 <= length:
        size = 4 + 4 * (compound[at + 2] << 8 | compound[at + 3])
        if compound[at + 1] == 200 and at + 16 <= length:
            for i in range(client.heard_count):
                if client.heard[i].ssrc == _get32(compound + at + 4):
                    client.heard[i].last_sr = _get32(compound + at + 10)
                    client.heard[i].last_sr_ns = now
        at += size


cdef bint _says_more(const uint8_t *compound, int length) noexcept nogil:
    """Whether there is more in it than reports, descriptions, feedback and requests for packets."""
    cdef int at = 0
    while at + 4 <= length:
        if compound[at + 1] not in (200, 201, 202, 205):
            return True
        at += 4 + 4 * (compound[at + 2] << 8 | compound[at + 3])
    return False


cdef void _report(Flows flows, Client *client, int index, int64_t now) noexcept nogil:
    """What a client has to tell by now."""
    cdef Told *told = &client.told
    cdef int i, length = 0, blocks = 0, own = 0
    if now >= told.feedback_due_ns:
        _pass_by(&told.feedback_due_ns, told.feedback_interval_ns, now)
        if told.newest >= told.first:
            length = _render_feedback(told, flows.out, client.heard[0].ssrc if client.heard_count else 0)
            if length:
                flows.feedbacks += 1
                _send_rtcp(flows, client, length)
    if now < told.report_due_ns:
        return
    _pass_by(&told.report_due_ns, REPORT_NS, now)
    length = 0
    for i in range(flows.sender_count):
        if flows.senders[i].client == index and flows.senders[i].sent and own < OWN_MAX:
            if not own:
                blocks = min(client.heard_count, BLOCKS_MAX)
            length = _render_sender_report(flows, client, &flows.senders[i], length, 0 if own else blocks, now)
            own += 1
    if length:
        _send_rtcp(flows, client, length)


cdef int _render_sender_report(Flows flows, Client *client, Sender *sender, int at, int blocks,
                               int64_t now) noexcept nogil:
    """A sender report with ``blocks`` report blocks, ``at`` in the buffer; returns where it ends."""
    cdef uint8_t *packet = flows.out + at
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


cdef void _send_rtcp(Flows flows, Client *client, int length) noexcept nogil:
    """Encrypt and send what is at the beginning of the buffer."""
    if _protect_rtcp(client.protect, flows.out, &length):
        flows.bad += 1
    elif sendto(client.fd, flows.out, length, MSG_DONTWAIT, <sockaddr *>&client.remote, sizeof(sockaddr_in)) < 0:
        flows.send_failed += 1
