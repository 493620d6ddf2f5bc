# How fast packets leave towards one transport: relay.pacer, with the same answers.

cdef int64_t SLICE_NS = pacer.SLICE_NS
cdef int64_t QUEUED_MAX_NS = pacer.QUEUED_MAX_NS


cdef Paced *make_paced(Route *r, const uint8_t *data, int length, int64_t output) noexcept nogil:
    """A copy of a rendered packet; NULL: no memory."""
    cdef Paced *made = <Paced *>malloc(sizeof(Paced))
    if made == NULL:
        return NULL
    made.next = NULL
    made.route = r
    made.output = output
    made.length = length
    made.data = <uint8_t *>malloc(length)
    if made.data == NULL:
        free(made)
        return NULL
    memcpy(made.data, data, length)
    return made


cdef void paced_free(Paced *paced) noexcept nogil:
    free(paced.data)
    free(paced)


cdef void queue_push(Queue *q, Paced *paced) noexcept nogil:
    if q.last == NULL:
        q.first = paced
    else:
        q.last.next = paced
    q.last = paced
    q.count += 1


cdef Paced *queue_pop(Queue *q) noexcept nogil:
    """NULL: empty. The caller frees what it gets."""
    cdef Paced *paced = q.first
    if paced != NULL:
        q.first = paced.next
        if q.first == NULL:
            q.last = NULL
        q.count -= 1
    return paced


cdef int queue_drop(Queue *q, const Route *r, int64_t *bytes_left) noexcept nogil:
    """Forget what waits of a route; how many packets that were."""
    cdef Paced *paced = q.first
    cdef Paced *next_one
    cdef int before = q.count
    q.first = q.last = NULL
    q.count = 0
    bytes_left[0] = 0
    while paced != NULL:
        next_one = paced.next
        paced.next = NULL
        if paced.route == r:
            paced_free(paced)
        else:
            bytes_left[0] += paced.length
            queue_push(q, paced)
        paced = next_one
    return before - q.count


cdef void queue_disown(Queue *q, const Route *r) noexcept nogil:
    """The route is gone: what waits of it will not be sent, but is counted when its time comes."""
    cdef Paced *paced = q.first
    while paced != NULL:
        if paced.route == r:
            paced.route = NULL
        paced = paced.next


cdef void queue_clear(Queue *q) noexcept nogil:
    cdef Paced *paced = queue_pop(q)
    while paced != NULL:
        paced_free(paced)
        paced = queue_pop(q)


cdef inline int64_t probe_due_ns(const Probe *probe) noexcept nogil:
    return probe.began_ns + probe.sent_bytes * 8 * SECOND_NS // probe.rate_bps


cdef inline bint pacer_waits(const Pacer *pace) noexcept nogil:
    return pace.queue.count > 0 or pace.again.count > 0


cdef bint pacer_due(const Pacer *pace, int64_t *due_ns) noexcept nogil:
    """When something may leave; False: nothing waits."""
    cdef bint waits = pacer_waits(pace)
    if waits:
        due_ns[0] = pace.free_ns
    if pace.probe.active and (not waits or probe_due_ns(&pace.probe) < due_ns[0]):
        due_ns[0] = probe_due_ns(&pace.probe)
    return waits or pace.probe.active


cdef inline bint pacer_allows(const Pacer *pace, int64_t now_ns) noexcept nogil:
    return not pace.paced or pace.free_ns <= now_ns + SLICE_NS


cdef inline bint may_pass(const Pacer *pace, int64_t now_ns) noexcept nogil:
    """Whether a packet that comes now may leave at once."""
    return not pacer_waits(pace) and pacer_allows(pace, now_ns)


cdef inline void spend(Pacer *pace, int size, int64_t now_ns) noexcept nogil:
    """A packet left."""
    if pace.probe.active:
        pace.probe.sent_bytes += size
    if pace.paced:
        pace.free_ns = max(pace.free_ns, now_ns - SLICE_NS) + size * 8 * SECOND_NS // pace.rate_bps


cdef bint pacer_push(Pacer *pace, Route *r, const uint8_t *data, int length, int64_t output) noexcept nogil:
    """Let a packet wait. False: too many wait already; the packet is not taken."""
    cdef Paced *paced
    if pace.queue.count >= QUEUED_MAX or (
        pace.paced and pace.queued_bytes * 8 * SECOND_NS // pace.rate_bps > QUEUED_MAX_NS
    ):
        return False
    paced = make_paced(r, data, length, output)
    if paced == NULL:
        return False
    queue_push(&pace.queue, paced)
    pace.queued_bytes += length
    return True


cdef void pacer_push_again(Pacer *pace, Route *r, const uint8_t *data, int length) noexcept nogil:
    """Let a packet that is sent again wait, before what is sent for the first time."""
    cdef Paced *paced = make_paced(r, data, length, 0)
    if paced == NULL:
        return
    if pace.again.count >= AGAIN_MAX:
        paced_free(queue_pop(&pace.again))
    queue_push(&pace.again, paced)


cdef Paced *pacer_release(Pacer *pace, int64_t now_ns) noexcept nogil:
    """What may leave now, one by one: ``spend`` is called in between. NULL: no more. The caller frees it."""
    cdef Paced *paced
    if not pacer_waits(pace) or not pacer_allows(pace, now_ns):
        return NULL
    paced = queue_pop(&pace.again)
    if paced == NULL:
        paced = queue_pop(&pace.queue)
        pace.queued_bytes -= paced.length
    return paced


cdef int pacer_drop(Pacer *pace, const Route *r) noexcept nogil:
    """Forget what waits of a route; how many packets that were."""
    cdef int64_t ignored
    cdef int dropped = queue_drop(&pace.queue, r, &pace.queued_bytes)
    queue_drop(&pace.again, r, &ignored)
    if pace.probe.active and pace.probe.route == r:
        pace.probe.active = False
    return dropped


cdef void pacer_disown(Pacer *pace, const Route *r) noexcept nogil:
    queue_disown(&pace.queue, r)
    queue_disown(&pace.again, r)
    if pace.probe.route == r:
        pace.probe.route = NULL


cdef void pacer_clear(Pacer *pace) noexcept nogil:
    queue_clear(&pace.queue)
    queue_clear(&pace.again)
    memset(pace, 0, sizeof(Pacer))
