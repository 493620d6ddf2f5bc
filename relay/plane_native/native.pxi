# The plane's handles, and Python's side of it: everything here runs with the GIL, everything above without.

_CHUNK = CHUNK
_NOWHERE = ("", 0)


cdef bint key_from(address, _Socket socket, Key *key):
    """The key of an address as Python spells it; False: it is none."""
    cdef bytes host = address[0].encode()
    cdef uint8_t raw[16]
    key.socket = socket.c.index
    key.port = address[1]
    if socket.c.ipv6:
        if inet_pton(AF_INET6, host, raw) != 1:
            return False
        memcpy(&key.high, raw, 8)
        memcpy(&key.low, raw + 8, 8)
    else:
        if inet_pton(AF_INET, host, raw) != 1:
            return False
        key.high = 0
        key.low = <uint64_t>(<uint32_t *>raw)[0] << 32 | 0xFFFF0000ULL
    return True


cdef object address_from(const Key *key, bint ipv6):
    """The address as Python spells it."""
    cdef char text[64]
    cdef uint8_t raw[16]
    cdef uint32_t short_one = <uint32_t>(key.low >> 32)
    if ipv6:
        memcpy(raw, &key.high, 8)
        memcpy(raw + 8, &key.low, 8)
        inet_ntop(AF_INET6, raw, text, sizeof(text))
    else:
        inet_ntop(AF_INET, &short_one, text, sizeof(text))
    return (<bytes>text).decode("ascii"), <int>key.port


cdef inline bytes bytes_of(const Record *record):
    """What follows a record."""
    return (<const char *>record)[sizeof(Record):sizeof(Record) + record.length]


cdef class _Incoming:
    """Sockets, transports and streams; ``NativePlane`` adds what goes out."""

    cdef Plane *p
    cdef object _handles
    cdef readonly dict _sockets  # by handle, as the Python plane has them
    cdef dict _native, _transports, _streams, _routes, _gates
    cdef list _buffers
    cdef uint32_t _socket_index
    cdef Socket *_polled[SOCKETS_POLLED_MAX]
    cdef int _polled_count
    cdef list _tcp
    cdef object __weakref__

    def __cinit__(self):
        self.p = plane_new()
        if self.p == NULL:
            raise MemoryError

    def __init__(self):
        functions = srtp.native_functions()
        self.p.protect = <srtp_function><uintptr_t>functions["srtp_protect"]
        self.p.unprotect = <srtp_function><uintptr_t>functions["srtp_unprotect"]
        self.p.protect_rtcp = <srtp_function><uintptr_t>functions["srtp_protect_rtcp"]
        self.p.unprotect_rtcp = <srtp_function><uintptr_t>functions["srtp_unprotect_rtcp"]
        self.p.segments = True
        self.p.ssrc = random.getrandbits(31) | 1
        self._handles = itertools.count(1)
        self._sockets = {}
        self._tcp = []
        self._native, self._transports, self._streams, self._routes, self._gates = {}, {}, {}, {}, {}
        self._buffers = [PacketBuffer() for _ in range(CHUNK)]

    def __dealloc__(self):
        if self.p != NULL:
            plane_free(self.p)
            self.p = NULL

    # --- sockets

    cdef _keep(self, handle, python, bint tcp):
        cdef _Socket kept = _Socket()
        cdef int on = 1
        self._socket_index += 1
        kept.python = python
        kept.c = Socket(handle, self._socket_index, python.fileno(), ":" in python.address[0], tcp, False, 0)
        if not tcp:
            setsockopt(kept.c.descriptor, SOL_UDP, UDP_GRO, &on, sizeof(on))  # older kernels have none: one by one then
        self._sockets[handle] = python
        self._native[handle] = kept
        self._index_sockets()
        return handle, python.address

    cdef _index_sockets(self):
        """What ``drain`` looks at."""
        cdef _Socket kept
        self._polled_count = 0
        for kept in self._native.values():
            self._polled[self._polled_count] = &kept.c
            self._polled_count += 1
        self._tcp = [one for one in self._native.values() if (<_Socket>one).c.tcp]

    cdef _check_room(self):
        if len(self._native) >= SOCKETS_POLLED_MAX:
            raise OSError(f"a plane has {SOCKETS_POLLED_MAX} sockets at most")

    def bind(self, address):
        self._check_room()
        handle = next(self._handles)
        return self._keep(handle, MediaSocket(handle, address), False)

    def bind_tcp(self, address):
        self._check_room()
        handle = next(self._handles)
        return self._keep(handle, TcpSocket(handle, address), True)

    def unbind(self, socket):
        cdef _Socket gone = self._native.pop(socket)
        cdef _Owner owner
        self._call_off(gone)
        for owner in self._transports.values():
            if owner.c.socket == &gone.c:
                owner.c.socket = NULL
                owner.c.has_remote = False
        self._sockets.pop(socket).close()

    cdef _call_off(self, _Socket gone):
        """Nothing points to the socket any more: addresses and upcalls not yet taken go with it."""
        cdef int i, kept = 0
        self._index_sockets()
        owners_forget_all(self.p, NULL, &gone.c)
        for i in range(self.p.upcalls_count):
            if self.p.upcalls[i].socket == &gone.c:
                free(self.p.upcalls[i].data)
            else:
                self.p.upcalls[kept] = self.p.upcalls[i]
                kept += 1
        self.p.upcalls_count = kept

    def fileno(self, socket):
        return self._sockets[socket].fileno()

    def drain(self, int64_t now_ns, *, int batch_max=256):
        cdef Plane *p = self.p
        cdef _Socket socket
        cdef int64_t to_monotonic_ns = now_ns - <int64_t>time.time_ns()
        p.age_max_ns = plane_sockets._AGE_MAX_NS
        with nogil:
            begin(p, now_ns)
            flush(p)
            drain_ready(p, self._polled, self._polled_count, batch_max, to_monotonic_ns)
        if self._tcp:
            for socket in self._tcp:
                if socket.c.wants or now_ns - socket.c.served_ns >= SECOND_NS:
                    socket.c.served_ns = now_ns
                    self._drain_tcp(socket, now_ns, batch_max)
        if p.taps.length or p.frames.length:
            self._deliver()
        return self._take_upcalls() if p.upcalls_count else []

    cdef _drain_tcp(self, _Socket socket, int64_t now_ns, int left):
        """Frames of TCP connections come one by one, in Python's buffers."""
        cdef Key key
        cdef Transport *t
        cdef uint8_t *data
        cdef int length
        cdef const uint8_t[:] view
        while left > 0:
            chunk = min(left, CHUNK)
            batch = socket.python.receive(self._buffers[:chunk], now_ns)
            for buffer, length, address, arrival_ns in batch:
                owner = socket.python.by_address.get(address)
                t = NULL if owner is None else (<_Owner>owner).c
                if length > BUFFER_BYTES or not key_from(address, socket, &key):
                    continue
                view = buffer.view
                if length > 0:
                    memcpy(self.p.received, &view[0], length)
                receive(self.p, &socket.c, t, &key, self.p.received, length, arrival_ns)
            flush(self.p)
            if len(batch) < chunk:
                break
            left -= chunk

    cdef _deliver(self):
        """Hand over what taps and the spool get, and what leaves over TCP."""
        cdef Bytes taps = self.p.taps, frames = self.p.frames
        cdef Record *record
        cdef size_t at = 0
        memset(&self.p.taps, 0, sizeof(Bytes))
        memset(&self.p.frames, 0, sizeof(Bytes))
        try:
            while at < frames.length:
                record = <Record *>(frames.data + at)
                at += sizeof(Record) + ((record.length + 7) & ~7)
                self._send_frame(record)
            at = 0
            while at < taps.length:
                record = <Record *>(taps.data + at)
                at += sizeof(Record) + ((record.length + 7) & ~7)
                holder = self._streams.get(record.owner)
                sink = (<_Stream>holder).sink if holder is not None else None
                if holder is None:
                    holder = self._routes.get(record.owner)
                    sink = (<_Route>holder).sink if holder is not None else None
                if sink is not None:
                    sink(record.stream, record.at_ns, bytes_of(record))
        finally:
            give_back(&self.p.taps, &taps)
            give_back(&self.p.frames, &frames)

    cdef _send_frame(self, const Record *record):
        owner = self._transports.get(record.owner)
        if owner is not None and (<_Owner>owner).remote is not None:
            socket, address = (<_Owner>owner).remote
            if socket in self._sockets and self._sockets[socket].send(bytes_of(record), address):
                return
        route = self._routes.get(record.route)
        take_back(self.p, NULL if route is None else (<_Route>route).c, record.stream, record.octets)

    cdef list _take_upcalls(self):
        """What came up since the last time."""
        cdef list taken = []
        cdef Upcalled *one
        cdef int i
        try:
            for i in range(self.p.upcalls_count):
                one = &self.p.upcalls[i]
                if one.socket == NULL:
                    handle, address = 0, _NOWHERE
                else:
                    handle, address = one.socket.handle, address_from(&one.address, one.socket.ipv6)
                data = (<const char *>one.data)[:one.length] if one.length else b""
                taken.append(Upcall(_KINDS[one.kind], one.transport, handle, address, data, one.arrival_ns, one.stream))
        finally:  # no memory: the rest is lost, and nothing is handed over twice
            for i in range(self.p.upcalls_count):
                free(self.p.upcalls[i].data)
            self.p.upcalls_count = 0
        return taken

    cdef _finish(self):
        """After whatever may have sent something: it leaves now."""
        flush(self.p)
        if self.p.taps.length or self.p.frames.length:
            self._deliver()

    def send(self, socket, address, datagrams):
        media_socket = self._sockets[socket]
        for datagram in datagrams:
            if not media_socket.send(datagram, address):
                self.p.drops[SEND_FAILED] += 1

    def next_timer_ns(self):
        cdef int64_t due_ns = 0
        return due_ns if next_timer(self.p, &due_ns) else None

    def run_timers(self, int64_t now_ns):
        cdef Plane *p = self.p
        with nogil:
            begin(p, now_ns)
            run_timers(p, now_ns)
        self._finish()
        return self._take_upcalls()

    # --- transports

    def add_transport(self):
        cdef _Owner owner = _Owner()
        handle = next(self._handles)
        owner.c = transport_new(self.p, handle)
        if owner.c == NULL:
            raise MemoryError
        owner.addresses = OrderedDict()
        self._transports[handle] = owner
        return handle

    def map_address(self, transport, socket, address):
        cdef _Owner owner = self._transports[transport]
        cdef _Socket native = self._native[socket]
        cdef Key wanted
        by_address = native.python.by_address
        earlier = by_address.get(address)
        key = (socket, address)
        if not native.c.tcp and key_from(address, native, &wanted) and not owner_set(self.p, &wanted, owner.c):
            raise MemoryError  # before anything is changed: the earlier owner must not be freed while the slot names it
        if earlier is not None and (<_Owner>earlier).addresses.pop(key, key) is None and (<_Owner>earlier).c != NULL:
            (<_Owner>earlier).c.addresses -= 1
        by_address[address] = owner
        owner.addresses[key] = None
        owner.c.addresses += 1
        if len(owner.addresses) > plane_streams.ADDRESSES_MAX:
            self._forget_address(owner, next(key for key in owner.addresses if key != owner.remote))

    cdef _forget_address(self, _Owner owner, key):
        cdef Key gone
        cdef _Socket native
        del owner.addresses[key]
        owner.c.addresses -= 1
        if key[0] not in self._native:
            return
        native = self._native[key[0]]
        native.python.by_address.pop(key[1], None)
        if not native.c.tcp and key_from(key[1], native, &gone):
            owner_forget(self.p, &gone)

    def set_remote(self, transport, socket, address):
        cdef _Owner owner = self._transports[transport]
        cdef _Socket native = self._native[socket]
        cdef Transport *t = owner.c
        cdef sockaddr_in *plain = <sockaddr_in *>&t.remote
        cdef sockaddr_in6 *long_one = <sockaddr_in6 *>&t.remote
        cdef bytes host = address[0].encode()
        owner.remote = (socket, address)
        memset(&t.remote, 0, sizeof(t.remote))
        t.socket = &native.c
        if native.c.ipv6:
            t.remote_length = sizeof(sockaddr_in6)
            long_one.sin6_family = AF_INET6
            long_one.sin6_port = htons(address[1])
            t.has_remote = inet_pton(AF_INET6, host, &long_one.sin6_addr) == 1
        else:
            t.remote_length = sizeof(sockaddr_in)
            plain.sin_family = AF_INET
            plain.sin_port = htons(address[1])
            t.has_remote = inet_pton(AF_INET, host, &plain.sin_addr) == 1

    def set_keys(self, transport, profile, bytes receive_key, bytes send_key):
        cdef _Owner owner = self._transports[transport]
        incoming = SrtpContext(profile, receive_key, inbound=True)
        outgoing = SrtpContext(profile, send_key, inbound=False)
        owner.c.receive = <void *><uintptr_t>incoming.native_session
        owner.c.send = <void *><uintptr_t>outgoing.native_session
        owner.receive, owner.send = incoming, outgoing

    def remove_transport(self, transport):
        cdef _Owner gone
        if transport not in self._transports:
            return
        gone = self._transports.pop(transport)
        while gone.c.streams.count:
            self.remove_stream((<Stream *>gone.c.streams.items[0]).handle)
        while gone.c.routes.count:
            self.remove_route((<Route *>gone.c.routes.items[0]).handle)
        for key in list(gone.addresses):
            self._forget_address(gone, key)
        transport_free(self.p, gone.c)
        gone.c = NULL

    def last_heard_ns(self, transport):
        return (<_Owner>self._transports[transport]).c.last_heard_ns

    def set_round_trip(self, transport, int64_t round_trip_ns):
        (<_Owner>self._transports[transport]).c.round_trip_ns = round_trip_ns

    def send_rtcp(self, transport, bytes compound):
        send_report(self.p, (<_Owner>self._transports[transport]).c, compound, <int>min(len(compound), 0xFFFF))
        self._finish()

    # --- streams

    cdef _announce(self, Transport *t):
        """Streams changed: packets held for them are handled at the next call, when their routes are there too."""
        if not index_streams(t):
            raise MemoryError
        if t.held_count and not t.is_announced:
            t.is_announced = list_add(&self.p.announced, t)

    def add_stream(self, transport, spec):
        cdef _Owner owner = self._transports[transport]
        cdef _Stream made = _Stream()
        cdef Ssrc *replaced = ssrc_find(owner.c, spec.ssrc & 0xFFFFFFFF)
        handle = next(self._handles)
        if replaced != NULL and replaced.stream != NULL:
            self.remove_stream(replaced.stream.handle)
        made.c = stream_new(self.p, handle, owner.c, spec.kind == "video")
        if made.c == NULL:
            raise MemoryError
        self._streams[handle] = made
        set_stream_spec(made.c, spec)
        self._announce(owner.c)
        return handle

    def update_stream(self, stream, spec):
        cdef _Stream updated = self._streams[stream]
        set_stream_spec(updated.c, spec)
        self._announce(updated.c.transport)

    def remove_stream(self, stream):
        cdef _Stream gone
        cdef Transport *t
        if stream not in self._streams:
            return
        gone = self._streams.pop(stream)
        t = gone.c.transport
        ssrcs_forget(t, gone.c)
        stream_free(self.p, gone.c)
        gone.c = NULL
        gone.sink = None
        index_streams(t)  # no memory: the old table will do

    def stream_counters(self, stream):
        cdef StreamTotals *t = &(<_Stream>self._streams[stream]).c.totals
        return StreamCounters(
            t.packets, t.bytes, t.highest_sequence, t.first_sequence, t.unique_packets, t.repaired, t.nacks_sent,
            t.jitter, t.key_frames, t.last_arrival_ns, t.last_media_ns, t.last_timestamp, list(t.temporal_bytes),
            list(t.temporal_frames), t.width, t.height,
        )

    def last_arrival_ns(self, stream):
        return (<_Stream>self._streams[stream]).c.totals.last_arrival_ns

    def set_spool(self, stream, sink):
        cdef _Stream spooled = self._streams[stream]
        spooled.sink = sink
        spooled.c.spooled = sink is not None
