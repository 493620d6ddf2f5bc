# Making and unmaking what the plane holds. Whoever frees something takes it out of everything that points there first.


cdef Plane *plane_new() noexcept:
    cdef Plane *p = <Plane *>calloc(1, sizeof(Plane))
    if p == NULL:
        return NULL
    p.received = <uint8_t *>malloc(<size_t>CHUNK * RECEIVE_STRIDE)
    p.out = <uint8_t *>calloc(OUT_MAX, BUFFER_BYTES)
    p.timed = <Timed *>malloc((TIMED_MAX + 1) * sizeof(Timed))
    p.tapped.out_first = p.tapped.out_last = -1
    p.ungated.open = True
    p.shelf.oldest = 1
    if p.received == NULL or p.out == NULL or p.timed == NULL or not owners_grow(p, 64):
        plane_free(p)
        return NULL
    prepare(p)
    return p


cdef void plane_free(Plane *p) noexcept:
    """With all that is left in it. Python's objects may be gone already."""
    cdef int i
    while p.routes.count:
        route_free(p, <Route *>p.routes.items[0])
    while p.transports.count:
        transport_free(p, <Transport *>p.transports.items[0])
    while p.gates.count:
        gate_free(p, <Gate *>p.gates.items[0])
    for i in range(p.spare_streams.count):
        free(p.spare_streams.items[i])
    for i in range(p.upcalls_count):
        free(p.upcalls[i].data)
    for i in range(p.timed_count):
        free(p.timed[i].data)
    list_free(&p.spare_streams)
    list_free(&p.nacking)
    list_free(&p.telling)
    list_free(&p.pacing)
    list_free(&p.announced)
    list_free(&p.transports)
    list_free(&p.routes)
    list_free(&p.gates)
    list_free(&p.ungated.routes)
    shelf_free(&p.shelf)
    free(p.ungated.counts)
    free(p.upcalls)
    free(p.timed)
    free(p.taps.data)
    free(p.frames.data)
    free(p.keys)
    free(p.owners)
    free(p.received)
    free(p.out)
    free(p)


# --- transports


cdef Transport *transport_new(Plane *p, int64_t handle) noexcept:
    cdef Transport *t = <Transport *>calloc(1, sizeof(Transport))
    if t == NULL:
        return NULL
    t.handle = handle
    t.round_trip_ns = plane_streams.ROUND_TRIP_NS
    t.out_first = t.out_last = -1
    t.ssrcs_capacity = 16
    t.ssrcs = <Ssrc *>calloc(t.ssrcs_capacity, sizeof(Ssrc))
    if t.ssrcs == NULL or not list_add(&p.transports, t):
        free(t.ssrcs)
        free(t)
        return NULL
    return t


cdef void transport_free(Plane *p, Transport *t) noexcept:
    """With its streams; its routes are gone already."""
    cdef int i
    while t.streams.count:
        stream_free(p, <Stream *>t.streams.items[0])
    list_remove(&p.transports, t)
    p.due_known = False
    list_remove(&p.telling, t)
    list_remove(&p.pacing, t)
    list_remove(&p.announced, t)
    if t.addresses:
        owners_forget_all(p, t, NULL)
    for i in range(t.held_count):
        free(t.held[i].data)
    pacer_clear(&t.pacer)
    list_free(&t.streams)
    list_free(&t.routes)
    free(t.ssrcs)
    free(t.arrivals)
    free(t.sent)
    free(t)


# --- streams


cdef Stream *stream_new(Plane *p, int64_t handle, Transport *t, bint is_video) noexcept:
    cdef Stream *s
    cdef int i, slots = VIDEO_PACKETS if is_video else AUDIO_PACKETS
    if p.spare_streams.count:
        p.spare_streams.count -= 1
        s = <Stream *>p.spare_streams.items[p.spare_streams.count]
    else:
        s = <Stream *>malloc(sizeof(Stream))
        if s == NULL:
            return NULL
    memset(s, 0, sizeof(Stream))
    s.handle = handle
    s.transport = t
    s.shelf = &p.shelf
    s.is_video = is_video
    s.key_asked_ns = -1_000_000_000
    s.oldest = -0x10000
    s.last_key_timestamp = s.parameters_at = s.picture_at = -1
    s.cache_mask = slots - 1
    s.cache = <Cached *>calloc(slots, sizeof(Cached))
    s.seen = <uint32_t *>malloc(SEEN * sizeof(uint32_t))
    s.shift_from = <int64_t *>malloc((SHIFTS_MAX + 1) * sizeof(int64_t))
    s.shift_totals = <int64_t *>malloc((SHIFTS_MAX + 1) * sizeof(int64_t))
    if (
        s.cache == NULL or s.seen == NULL or s.shift_from == NULL or s.shift_totals == NULL
        or not list_add(&t.streams, s)
    ):
        stream_free(p, s)
        return NULL
    for i in range(SEEN):
        s.seen[i] = i ^ 1  # a number that never falls into this slot
    return s


cdef void stream_free(Plane *p, Stream *s) noexcept:
    """Runs may still name it: the structure stays, with another handle."""
    cdef int i
    cdef Route *r
    for i in range(s.routes.count):
        r = <Route *>s.routes.items[i]
        if r.stream == s:
            r.stream = NULL
            route_stop(r, r.needs_key_frame)
        if r.next_stream == s:
            r.next_stream = NULL
    if s.cache != NULL:
        for i in range(s.cache_mask + 1):
            let_go(s.cache[i].place)
    p.due_known = False
    list_remove(&p.nacking, s)
    list_remove(&s.transport.streams, s)
    list_free(&s.routes)
    free(s.cache)
    free(s.seen)
    free(s.missing)
    free(s.shift_from)
    free(s.shift_totals)
    memset(s, 0, sizeof(Stream))
    if not list_add(&p.spare_streams, s):
        pass  # it stays until the process ends: runs may still name it


# --- routes and gates


cdef void gate_free(Plane *p, Gate *gate) noexcept:
    list_remove(&p.gates, gate)
    list_free(&gate.routes)
    free(gate.counts)
    free(gate)


cdef void fixed_free(Fixed *fixed) noexcept:
    free(fixed.data)
    memset(fixed, 0, sizeof(Fixed))


cdef bint fixed_set(Fixed *fixed, bytes data, bint fits) except False:
    """Take other constants; raises MemoryError."""
    cdef uint8_t *copy = <uint8_t *>malloc(max(len(data), 1))
    if copy == NULL:
        raise MemoryError
    memcpy(copy, <const uint8_t *>data, len(data))
    free(fixed.data)
    fixed.data = copy
    fixed.length = len(data)
    fixed.fits = fits
    return True


cdef void route_disown(Plane *p, Route *r) noexcept:
    """The route is gone: what still waits of it is counted when its time comes."""
    cdef int i
    p.due_known = False
    pacer_disown(&r.transport.pacer, r)
    for i in range(p.timed_count):
        if p.timed[i].route == r:
            p.timed[i].route = NULL


cdef void route_free(Plane *p, Route *r) noexcept:
    route_disown(p, r)
    list_remove(&p.routes, r)
    if r.stream != NULL:
        list_remove(&r.stream.routes, r)
    if r.next_stream != NULL:
        list_remove(&r.next_stream.routes, r)
    list_remove(&r.transport.routes, r)
    list_remove(&r.gate.routes, r)
    r.gate.users -= 1
    if r.gate.removed and r.gate.users == 0:
        gate_free(p, r.gate)
    fixed_free(&r.one_byte)
    fixed_free(&r.two_byte)
    fixed_free(&r.block)
    free(r.runs)
    free(r.resent)
    free(r.numbers)
    free(r)
