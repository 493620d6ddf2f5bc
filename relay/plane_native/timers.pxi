# What is done when its time has come: packets held, NACKs, feedback, timed and paced sends.

cdef inline int64_t clock_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * SECOND_NS + now.tv_nsec


cdef void begin(Plane *p, int64_t now_ns) noexcept nogil:
    """Before a batch or a timer: what waited comes first."""
    cdef Transport *t
    p.now_ns = now_ns
    p.ahead_ns = now_ns - clock_ns()
    while p.announced.count:
        p.announced.count -= 1
        t = <Transport *>p.announced.items[p.announced.count]
        t.is_announced = False
        take_held(p, t)


cdef void look_for_due(Plane *p) noexcept nogil:
    """Find out anew when timers want to run."""
    cdef int i
    cdef int64_t at_ns
    cdef Stream *s
    cdef Transport *t
    p.due_known = True
    p.due_any = False
    if p.timed_count:
        due_at(p, p.timed[0].at_ns)
    for i in range(p.nacking.count):
        s = <Stream *>p.nacking.items[i]
        if s.missing_due and s.missing_count:
            due_at(p, s.missing_due_ns)
    for i in range(p.telling.count):
        t = <Transport *>p.telling.items[i]
        if t.arrivals.due:
            due_at(p, t.arrivals.due_ns)
    for i in range(p.pacing.count):
        t = <Transport *>p.pacing.items[i]
        if pacer_due(&t.pacer, &at_ns):
            due_at(p, at_ns)


cdef bint next_timer(Plane *p, int64_t *due_ns) noexcept nogil:
    """When ``run_timers`` has something to do; False: never."""
    if p.upcalls_count or p.announced.count:
        due_ns[0] = p.now_ns
        return True
    if not p.due_known:
        look_for_due(p)
    due_ns[0] = p.due_ns
    return p.due_any


cdef bint send_nacks(Plane *p, Stream *s, int64_t now_ns) noexcept nogil:
    """Whether more may be due later."""
    cdef uint16_t asked[MISSING_MAX]
    cdef uint8_t packet[BUFFER_BYTES]
    cdef int many, given_up, length
    if not s.missing_due or not s.missing_count:
        return False
    if s.missing_due_ns <= now_ns:
        many = missing_ask(s, now_ns, asked, &given_up)
        if many:
            s.totals.nacks_sent += many
            length = pack_nack(packet, p.ssrc, s.ssrc, asked, many)
            send_report(p, s.transport, packet, length)
        if given_up:
            want_key_frame(p, s)
    return True


cdef void send_feedback(Plane *p, Transport *t) noexcept nogil:
    """Everything about arrivals that was not told yet."""
    cdef uint8_t packet[FEEDBACK_BYTES]
    cdef Arrivals *a = t.arrivals
    cdef uint32_t media = (<Stream *>t.streams.items[0]).ssrc if t.streams.count else 0
    cdef int64_t base = max(a.base, a.highest - STATUSES_MAX + 1)
    cdef int length
    a.due = False
    while base <= a.highest and arrival_of(a, a.highest) >= 0:
        length = pack_feedback(a, packet, p.ssrc, media, &base)
        a.feedbacks = (a.feedbacks + 1) & 0xFF
        send_report(p, t, packet, length)
    a.base = base
    while a.count and a.queue[a.first].number < base - RETOLD:
        arrivals_drop_oldest(a)


cdef void tell_arrivals(Plane *p, int64_t now_ns) noexcept nogil:
    """Feedback that is due, and with it what is nearly so: many transports' datagrams leave together."""
    cdef int64_t until_ns = now_ns
    cdef int i
    cdef Transport *t
    for i in range(p.telling.count):
        t = <Transport *>p.telling.items[i]
        if t.arrivals.due and t.arrivals.due_ns <= now_ns:
            until_ns = now_ns + FEEDBACK_EARLY_NS
            break
    i = 0
    while i < p.telling.count:
        t = <Transport *>p.telling.items[i]
        if t.arrivals.due and t.arrivals.due_ns > until_ns:
            i += 1
            continue
        t.is_telling = False
        list_remove(&p.telling, t)
        if t.arrivals.due:
            send_feedback(p, t)


cdef void run_timers(Plane *p, int64_t now_ns) noexcept nogil:
    """Send the feedback and the timed packets that are due."""
    cdef int i
    cdef Transport *t
    cdef Stream *s
    cdef int64_t due_ns
    p.due_known = False
    i = 0
    while i < p.nacking.count:
        s = <Stream *>p.nacking.items[i]
        if send_nacks(p, s, now_ns):
            i += 1
        else:
            s.is_nacking = False
            list_remove(&p.nacking, s)
    tell_arrivals(p, now_ns)
    while p.timed_count and p.timed[0].at_ns <= now_ns:
        send_timed(p)
    i = 0
    while i < p.pacing.count:
        t = <Transport *>p.pacing.items[i]
        send_paced(p, t, now_ns)
        if pacer_due(&t.pacer, &due_ns):
            i += 1
        else:
            t.is_pacing = False
            list_remove(&p.pacing, t)
