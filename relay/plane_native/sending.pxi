# The last stretch: waiting for its time, numbering, encrypting, and one system call for many datagrams.

cdef int UDP_OVERHEAD_BYTES = send_history.UDP_OVERHEAD_BYTES

# --- what was sent to a transport, by number: relay.send_history


cdef int sent_note(Transport *t, int length, int64_t now_ns, int cluster) noexcept nogil:
    """A packet leaves now; its 16-bit number. −1: no memory, it goes without."""
    cdef Sent *sent = t.sent
    if sent == NULL:
        sent = t.sent = <Sent *>calloc(1, sizeof(Sent))
        if sent == NULL:
            return -1
        sent.highest = -1
    sent.highest += 1
    sent.packets[sent.highest & (SENT_MAX - 1)] = SentOne(now_ns, length + UDP_OVERHEAD_BYTES, cluster)
    return <int>(sent.highest & 0xFFFF)


# --- handing over to the kernel


cdef void take_back(Plane *p, Route *r, int64_t stream, int64_t octets) noexcept nogil:
    """A datagram did not leave: what ``r``, if any, counted as forwarded when it was queued was not."""
    p.drops[SEND_FAILED] += 1
    if r != NULL:
        r.totals.packets -= 1
        r.totals.octets -= octets
        gate_take_back(r.gate, stream)


cdef void refused(Plane *p, const iovec *vector) noexcept nogil:
    """The kernel would not take a datagram."""
    cdef Out *out = &p.outs[(<uint8_t *>vector.iov_base - p.out) // BUFFER_BYTES]
    take_back(p, out.route, out.stream, out.octets)


cdef void all_refused(Plane *p, const mmsghdr *message) noexcept nogil:
    cdef size_t i
    for i in range(message.msg_hdr.msg_iovlen):
        refused(p, message.msg_hdr.msg_iov + i)


cdef void send_apart(Plane *p, int descriptor, mmsghdr *message) noexcept nogil:
    """Send the datagrams of one message without the kernel's segmenting."""
    cdef msghdr single = message.msg_hdr
    cdef size_t i
    single.msg_control = NULL
    single.msg_controllen = 0
    single.msg_iovlen = 1
    for i in range(message.msg_hdr.msg_iovlen):
        single.msg_iov = message.msg_hdr.msg_iov + i
        if sendmsg(descriptor, &single, MSG_DONTWAIT) < 0:
            refused(p, single.msg_iov)


cdef void send_messages(Plane *p, const Socket *socket, int count) noexcept nogil:
    """Send the first ``count`` messages. What the kernel will not take now is of no use later."""
    cdef int done = 0, taken, failure
    if p.discard:
        return
    while done < count:
        taken = sendmmsg(socket.descriptor, p.out_messages + done, count - done, MSG_DONTWAIT)
        if taken > 0:
            done += taken
            continue
        failure = errno
        if p.out_messages[done].msg_hdr.msg_controllen and failure != EAGAIN and failure != ENOBUFS:
            if failure == EIO:
                p.segments = False  # no such offload on this route
            send_apart(p, socket.descriptor, p.out_messages + done)
            done += 1
        elif failure == EAGAIN or failure == ENOBUFS:
            while done < count:  # the socket is full, whoever they are for
                all_refused(p, p.out_messages + done)
                done += 1
        else:
            all_refused(p, p.out_messages + done)
            done += 1


cdef int gather(Plane *p, Transport *t, int *waiting, int vectors, mmsghdr *message, uint8_t *control) noexcept nogil:
    """Make one message of what waits for a transport: one datagram, or several of a size, of which the last may be
    shorter. ``waiting`` moves on; the vectors used."""
    cdef int i = waiting[0], first = vectors
    cdef int size = p.outs[i].length, total = 0, last
    cdef cmsghdr *ancillary
    while True:
        last = p.outs[i].length
        p.out_vectors[vectors] = iovec(p.out + i * BUFFER_BYTES, last)
        vectors += 1
        total += last
        i = p.outs[i].next
        if not p.segments or i < 0 or last < size or p.outs[i].length > size:
            break
        if total + p.outs[i].length > GSO_BYTES_MAX or vectors - first >= GSO_SEGMENTS_MAX:
            break
    memset(message, 0, sizeof(mmsghdr))
    message.msg_hdr.msg_name = &t.remote
    message.msg_hdr.msg_namelen = t.remote_length
    message.msg_hdr.msg_iov = p.out_vectors + first
    message.msg_hdr.msg_iovlen = vectors - first
    if vectors - first > 1:
        message.msg_hdr.msg_control = control
        message.msg_hdr.msg_controllen = CMSG_SPACE(2)
        ancillary = CMSG_FIRSTHDR(&message.msg_hdr)
        ancillary.cmsg_level = SOL_UDP
        ancillary.cmsg_type = UDP_SEGMENT
        ancillary.cmsg_len = CMSG_LEN(2)
        (<uint16_t *>CMSG_DATA(ancillary))[0] = size
    waiting[0] = i
    return vectors


cdef void leave_frame(Plane *p, const Transport *t, int i) noexcept nogil:
    """Leave one datagram to Python, with what is to be taken back if its connection does not take it."""
    cdef Out *out = &p.outs[i]
    cdef Record *frame = bytes_add(&p.frames, t.handle, out.stream, 0, p.out + i * BUFFER_BYTES, out.length)
    if frame == NULL:
        take_back(p, out.route, out.stream, out.octets)
    elif out.route != NULL:
        frame.route = out.route.handle
        frame.octets = out.octets


cdef void flush(Plane *p) noexcept nogil:
    """Send what waits, each transport's datagrams in their order. Those for TCP are left to Python."""
    cdef int k, i, messages = 0, vectors = 0
    cdef Transport *t
    cdef Socket *socket = NULL
    for k in range(p.touched_count):
        t = p.touched[k]
        i = t.out_first
        t.out_first = t.out_last = -1
        if t.socket.tcp:
            while i >= 0:
                leave_frame(p, t, i)
                i = p.outs[i].next
            continue
        if messages and t.socket != socket:
            send_messages(p, socket, messages)
            messages = vectors = 0
        socket = t.socket
        while i >= 0:
            vectors = gather(p, t, &i, vectors, &p.out_messages[messages], p.out_control[messages])
            messages += 1
    if messages:
        send_messages(p, socket, messages)
    p.outs_count = p.touched_count = 0


cdef inline uint8_t *out_slot(Plane *p) noexcept nogil:
    """Where the next datagram is written, ``BUFFER_BYTES`` long; it is free again unless ``enqueue`` is called."""
    if p.outs_count == OUT_MAX:
        flush(p)
    return p.out + p.outs_count * BUFFER_BYTES


cdef inline void enqueue(Plane *p, Transport *t, int length) noexcept nogil:
    """What is in ``out_slot`` leaves with the next ``flush``."""
    cdef int i = p.outs_count
    p.outs[i] = Out(t, length, -1, NULL, 0, 0)
    if t.out_last < 0:
        t.out_first = i
        p.touched[p.touched_count] = t
        p.touched_count += 1
    else:
        p.outs[t.out_last].next = i
    t.out_last = i
    p.outs_count += 1


cdef inline bint ready(Plane *p, const Transport *t) noexcept nogil:
    if t.send == NULL:
        p.drops[NO_KEYS] += 1
    elif not t.has_remote:
        p.drops[NO_REMOTE_ADDRESS] += 1
    else:
        return True
    return False


cdef bint send_out(Plane *p, Transport *t, int length, int number) noexcept nogil:
    """Encrypt what is in ``out_slot`` and send it, if the transport is ready; whether it goes. ``number``: the
    transport-wide one that it had when it was sent before; −1: it gets the next one."""
    cdef uint8_t *data = out_slot(p)
    cdef int at
    cdef bint numbered = False
    if not ready(p, t):
        return False
    if t.cc_id and data[0] & 0x10:  # routes put our transport-wide number first, so that it is found here
        at = 17 if data[12] == 0xBE else 18
        if data[16] == (t.cc_id << 4 | 1 if at == 17 else t.cc_id):
            if number < 0:
                number = sent_note(t, length, p.now_ns, t.pacer.probe.cluster if t.pacer.probe.active else 0)
                numbered = number >= 0
            p.number = number
            put16(data + at, number)
    if p.protect(t.send, data, &length) != 0:
        p.drops[PROTECT_FAILED] += 1
        return False
    if numbered:
        t.sent.packets[t.sent.highest & (SENT_MAX - 1)].size = length + UDP_OVERHEAD_BYTES
    spend(&t.pacer, length, p.now_ns)
    if t.is_pacing:
        p.due_known = False
    enqueue(p, t, length)
    return True


cdef void send_report(Plane *p, Transport *t, const uint8_t *compound, int length) noexcept nogil:
    """Protect and send one RTCP packet."""
    cdef uint8_t *data = out_slot(p)
    if not ready(p, t):
        return
    if length > PACKET_BYTES_MAX:
        p.drops[TOO_LARGE] += 1
        return
    memcpy(data, compound, length)
    if p.protect_rtcp(t.send, data, &length) != 0:
        p.drops[PROTECT_FAILED] += 1
    else:
        enqueue(p, t, length)


# --- timed sends: a heap by time, then by order


cdef inline bint sooner(const Timed *a, const Timed *b) noexcept nogil:
    return a.at_ns < b.at_ns or (a.at_ns == b.at_ns and a.order < b.order)


cdef void timed_push(Plane *p, const Timed *timed) noexcept nogil:
    """There is room for ``TIMED_MAX`` and one."""
    cdef int i = p.timed_count, up
    due_at(p, timed.at_ns)
    p.timed_count += 1
    while i > 0:
        up = (i - 1) // 2
        if not sooner(timed, &p.timed[up]):
            break
        p.timed[i] = p.timed[up]
        i = up
    p.timed[i] = timed[0]


cdef Timed timed_pop(Plane *p) noexcept nogil:
    cdef Timed first = p.timed[0]
    cdef Timed last
    cdef int i = 0, down
    p.due_known = False
    p.timed_count -= 1
    last = p.timed[p.timed_count]
    while 2 * i + 1 < p.timed_count:
        down = 2 * i + 1
        if down + 1 < p.timed_count and sooner(&p.timed[down + 1], &p.timed[down]):
            down += 1
        if not sooner(&p.timed[down], &last):
            break
        p.timed[i] = p.timed[down]
        i = down
    p.timed[i] = last
    return first


cdef void send_timed(Plane *p) noexcept nogil:
    cdef Timed timed = timed_pop(p)
    if timed.route == NULL or not timed.route.gate.open:
        p.drops[GATE_CLOSED] += 1
    elif timed.length > PACKET_BYTES_MAX:
        p.drops[TOO_LARGE] += 1
    else:
        memcpy(out_slot(p), timed.data, timed.length)
        send_out(p, timed.route.transport, timed.length, -1)
    free(timed.data)


# --- pacing


cdef inline void pace_from_now_on(Plane *p, Transport *t) noexcept nogil:
    """Something waits: timers look after the transport."""
    p.due_known = False
    if not t.is_pacing:
        t.is_pacing = list_add(&p.pacing, t)


cdef void send_paced(Plane *p, Transport *t, int64_t now_ns) noexcept nogil:
    """Let leave what may: what waits, then the probe's share."""
    cdef Pacer *pace = &t.pacer
    cdef Probe *probe = &pace.probe
    cdef Paced *paced = pacer_release(pace, now_ns)
    cdef int i, length
    cdef Route *r
    while paced != NULL:
        r = paced.route
        if r == NULL or not r.gate.open:
            p.drops[GATE_CLOSED] += 1
        else:
            memcpy(out_slot(p), paced.data, paced.length)
            r.highest_sent = max(r.highest_sent, paced.output)
            send_out(p, t, paced.length, -1)
        paced_free(paced)
        paced = pacer_release(pace, now_ns)
    for i in range(PROBE_PACKETS_MAX):
        if not probe.active or probe_due_ns(probe) > now_ns:
            break
        r = probe.route
        length = 0
        if r != NULL and r.gate.open:
            length = render_probe(r, probe.next_output, out_slot(p), now_ns)
        probe.next_output -= 1
        if probe.sent_bytes >= probe.size_bytes or length <= 0 or not send_out(p, t, length, -1):
            probe.active = False
