# The other half of the plane's handles: routes, gates, and what they need.


cdef int64_t ORIGIN_MAX_NS = 1 << 61


cdef class NativePlane(_Incoming):
    """Implements ``relay.plane.Plane``; its docstrings hold here."""

    name = "native"

    # --- routes

    cdef _Route _new_route(self, handle, Stream *s, Transport *t, Gate *gate, spec, bint tap):
        cdef _Route made = _Route()
        cdef Route *r = <Route *>calloc(1, sizeof(Route))
        if r == NULL:
            raise MemoryError
        r.handle = handle
        r.stream, r.transport, r.gate = s, t, gate
        r.is_tap = tap
        r.needs_key_frame = spec.wait_for_key_frame
        r.highest_output = r.highest_sent = <int64_t>random.getrandbits(15) + 0x10000
        r.timestamp_offset = random.getrandbits(32)
        r.left_picture = -1
        r.temporal = r.temporal_max = ALL_TEMPORAL
        r.rtx_sequence = random.getrandbits(15)
        r.again_bytes = AGAIN_BYTES_FIRST
        gate.users += 1
        try:
            set_route_spec(r, spec)
            if not (list_add(&self.p.routes, r) and list_add(&s.routes, r) and list_add(&gate.routes, r)):
                raise MemoryError
            if not tap and not list_add(&t.routes, r):
                raise MemoryError
        except BaseException:
            route_free(self.p, r)
            raise
        made.c = r
        made.spec = spec
        self._routes[handle] = made
        gate_trim(gate)
        if r.needs_key_frame:
            want_key_frame(self.p, s)
        return made

    def add_route(self, stream, transport, gate, spec):
        cdef _Stream source = self._streams[stream]
        cdef _Owner target = self._transports[transport]
        cdef _Gate through = self._gates[gate]
        handle = next(self._handles)
        self._new_route(handle, source.c, target.c, through.c, spec, False)
        return handle

    def add_tap(self, stream, spec, sink):
        cdef _Stream source = self._streams[stream]
        cdef _Route made
        handle = next(self._handles)
        made = self._new_route(handle, source.c, &self.p.tapped, &self.p.ungated, spec, True)
        made.sink = sink
        return handle

    def update_route(self, route, spec):
        cdef _Route updated = self._routes[route]
        if spec != updated.spec:  # the same again must not cost what could still be sent again
            set_route_spec(updated.c, spec)
            updated.spec = spec

    def switch_route(self, route, stream, timestamp_shift=None):
        cdef Route *r = (<_Route>self._routes[route]).c
        cdef Stream *s = (<_Stream>self._streams[stream]).c
        r.has_next_shift = timestamp_shift is not None
        r.next_shift = timestamp_shift or 0
        if r.next_stream == s:
            return
        if r.next_stream != NULL:
            list_remove(&r.next_stream.routes, r)
            r.next_stream = NULL
        if s == r.stream:
            return
        if not list_add(&s.routes, r):
            raise MemoryError
        if r.totals.packets or r.running:  # begun, though nothing of it may have gone out
            r.next_stream = s
        else:
            if r.stream != NULL:
                list_remove(&r.stream.routes, r)
            r.stream = s
        want_key_frame(self.p, s)

    def route_stream(self, route):
        cdef Stream *s = (<_Route>self._routes[route]).c.stream
        return None if s == NULL else s.handle

    def set_route_layers(self, route, temporal_max):
        cdef Route *r = (<_Route>self._routes[route]).c
        r.temporal_max = max(0, min(temporal_max, ALL_TEMPORAL))
        r.filters = r.filters or r.temporal_max < ALL_TEMPORAL
        if not r.running:
            r.temporal = r.temporal_max

    def remove_route(self, route):
        cdef _Route gone
        if route in self._routes:
            gone = self._routes.pop(route)
            route_free(self.p, gone.c)
            gone.c = NULL

    def pause_route(self, route, *, bint paused):
        cdef Route *r = (<_Route>self._routes[route]).c
        cdef Stream *s = r.next_stream if r.next_stream != NULL else r.stream
        if r.paused == paused:
            return
        r.paused = paused
        self.p.due_known = False
        if paused:
            pacer_drop(&r.transport.pacer, r)
            rewind(r)
        route_stop(r, (s != NULL and s.is_video) or r.needs_key_frame)
        if not paused and s != NULL:
            want_key_frame(self.p, s)

    def route_counters(self, route):
        cdef RouteTotals *t = &(<_Route>self._routes[route]).c.totals
        return RouteCounters(
            t.packets, t.octets, t.retransmitted, t.not_in_cache, t.last_timestamp, t.last_sent_ns, t.sequence
        )

    def map_timestamp(self, route, timestamp):
        return (timestamp + (<_Route>self._routes[route]).c.timestamp_offset) & 0xFFFFFFFF

    def resend(self, route, sequences, int64_t now_ns):
        cdef Route *r = (<_Route>self._routes[route]).c
        if not r.gate.open:
            self.p.drops[GATE_CLOSED] += len(sequences)
            return []
        lost = [sequence for sequence in sequences if not resend(self.p, r, sequence & 0xFFFF, now_ns)]
        self._finish()
        return lost

    # --- gates

    def add_gate(self, *, bint open):
        cdef _Gate made = _Gate()
        handle = next(self._handles)
        made.c = <Gate *>calloc(1, sizeof(Gate))
        if made.c == NULL or not list_add(&self.p.gates, made.c):
            free(made.c)
            raise MemoryError
        made.c.handle = handle
        made.c.open = open
        self._gates[handle] = made
        return handle

    def set_gate(self, gate, *, bint open):
        cdef Gate *changed = (<_Gate>self._gates[gate]).c
        cdef Route *r
        cdef int i
        if changed.open == open:
            return
        changed.open = open
        self.p.due_known = False
        for i in range(changed.routes.count):
            r = <Route *>changed.routes.items[i]
            if pacer_drop(&r.transport.pacer, r):
                rewind(r)
            route_stop(r, (r.stream != NULL and r.stream.is_video) or r.needs_key_frame)
            if open and r.stream != NULL:
                want_key_frame(self.p, r.stream)

    def gate_counters(self, gate):
        cdef Gate *asked = (<_Gate>self._gates[gate]).c
        cdef int i
        return {asked.counts[i].stream: asked.counts[i].packets for i in range(asked.counted)}

    def remove_gate(self, gate):
        cdef _Gate gone
        if gate not in self._gates:
            return
        gone = self._gates.pop(gate)
        gone.c.open = False
        gone.c.removed = True
        if gone.c.users == 0:
            gate_free(self.p, gone.c)
        gone.c = NULL

    # --- congestion control

    def sent_packets(self, transport, base_sequence, count):
        cdef Transport *t = (<_Owner>self._transports[transport]).c
        cdef int64_t number
        cdef SentOne *one
        cdef int i
        cdef uint32_t sequence = base_sequence & 0xFFFF
        if t.sent == NULL:
            return [None] * count
        found = []
        for i in range(count):
            number = t.sent.highest - ((t.sent.highest - <int64_t>(sequence + i)) & 0xFFFF)
            if number < 0 or t.sent.highest - number >= SENT_MAX:
                found.append(None)
            else:
                one = &t.sent.packets[number & (SENT_MAX - 1)]
                found.append(SentPacket(number, one.size, one.sent_ns, one.cluster))
        return found

    def sent_run(self, transport, base_sequence, origin_ns, deltas, int64_t unit_ns):
        cdef Transport *t = (<_Owner>self._transports[transport]).c
        cdef uint32_t sequence = base_sequence & 0xFFFF
        cdef int64_t number = -1, at_ns = 0, size_bytes = 0, last_sent_ns = 0, last_arrival_ns = 0
        cdef int64_t delay_ns = 0, least_ns = 0, most_ns = 0
        cdef const SentOne *one
        cdef int count = 0
        if t.sent == NULL or abs(origin_ns) > ORIGIN_MAX_NS:  # a page's clock may run off
            return None
        at_ns = origin_ns
        for delta in deltas:
            number = t.sent.highest - ((t.sent.highest - <int64_t>(sequence + count)) & 0xFFFF)
            if delta is None or number < 0 or t.sent.highest - number >= SENT_MAX:
                return None
            one = &t.sent.packets[number & (SENT_MAX - 1)]
            if one.cluster:
                return None
            at_ns += <int64_t>delta * unit_ns
            delay_ns = at_ns - one.sent_ns
            if not count or delay_ns < least_ns:
                least_ns = delay_ns
            if not count or delay_ns > most_ns:
                most_ns = delay_ns
            if not count or at_ns > last_arrival_ns:
                last_arrival_ns = at_ns
            if not count or one.sent_ns > last_sent_ns:
                last_sent_ns = one.sent_ns
            size_bytes += one.size
            count += 1
        if not count:
            return None
        return SentRun(
            number - count + 1, count, size_bytes, last_sent_ns, last_arrival_ns, least_ns, most_ns, delay_ns
        )

    def probe(self, route, int64_t rate_bps, int64_t size_bytes, int cluster, int64_t now_ns):
        cdef Route *r = (<_Route>self._routes[route]).c
        if not r.has_rtx or r.transport_cc_id < 0:
            return 0
        if rate_bps <= 0:
            raise ValueError("a probe needs a rate")
        self.p.now_ns = max(self.p.now_ns, now_ns)
        r.transport.pacer.probe = Probe(True, r, rate_bps, size_bytes, 0, self.p.now_ns, r.highest_output, cluster)
        pace_from_now_on(self.p, r.transport)
        return size_bytes

    def set_pace(self, transport, rate_bps):
        cdef Pacer *pace = &(<_Owner>self._transports[transport]).c.pacer
        if rate_bps is not None and rate_bps <= 0:
            raise ValueError("a pace is more than nothing")
        self.p.due_known = False
        pace.paced = rate_bps is not None
        pace.rate_bps = rate_bps or 0

    def send_at(self, route, bytes packet, int64_t at_ns):
        cdef Timed timed
        timed.route = (<_Route>self._routes[route]).c
        timed.length = <int>min(len(packet), PACKET_BYTES_MAX + 1)
        timed.at_ns = at_ns
        timed.data = <uint8_t *>malloc(max(timed.length, 1))
        if timed.data == NULL:
            raise MemoryError
        memcpy(timed.data, <const uint8_t *>packet, timed.length)
        self.p.timed_order += 1
        timed.order = self.p.timed_order
        timed_push(self.p, &timed)
        if self.p.timed_count > TIMED_MAX:
            send_timed(self.p)
            self._finish()

    # --- observation

    def drops(self):
        cdef int i
        return {_DROPS[i]: self.p.drops[i] for i in range(DROP_REASONS)}

    def close(self):
        for transport in list(self._transports):
            self.remove_transport(transport)
        for socket in list(self._native):
            self._call_off(self._native.pop(socket))
            self._sockets.pop(socket).close()
