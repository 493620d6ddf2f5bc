# Datagrams in batches off a UDP socket, with the kernel's arrival times.


cdef void prepare(Plane *p) noexcept nogil:
    """Once: where each message of a batch goes."""
    cdef int i
    memset(p.in_messages, 0, sizeof(p.in_messages))
    for i in range(CHUNK):
        p.in_vectors[i] = iovec(p.received + <size_t>i * RECEIVE_STRIDE, RECEIVE_BYTES)
        p.in_messages[i].msg_hdr.msg_name = &p.in_addresses[i]
        p.in_messages[i].msg_hdr.msg_iov = &p.in_vectors[i]
        p.in_messages[i].msg_hdr.msg_iovlen = 1
        p.in_messages[i].msg_hdr.msg_control = p.in_control[i]
        prepare_again(&p.in_messages[i].msg_hdr)


cdef inline void prepare_again(msghdr *message) noexcept nogil:
    """What the kernel has written over."""
    message.msg_namelen = sizeof(sockaddr_storage)
    message.msg_controllen = CONTROL_BYTES


cdef int segment_size(const Plane *p, msghdr *message, int64_t to_monotonic_ns, int64_t *arrival_ns) noexcept nogil:
    """Bytes of each datagram of a batch (UDP_GRO), 0: it is a single one; and when the kernel got it."""
    cdef cmsghdr *ancillary = CMSG_FIRSTHDR(message)
    cdef timespec when
    cdef int size = 0
    cdef int64_t at_ns
    arrival_ns[0] = p.now_ns
    while ancillary != NULL:
        if ancillary.cmsg_level == SOL_SOCKET and ancillary.cmsg_type == SCM_TIMESTAMPNS:
            memcpy(&when, CMSG_DATA(ancillary), sizeof(timespec))
            at_ns = to_monotonic_ns + when.tv_sec * SECOND_NS + when.tv_nsec
            if p.now_ns - p.age_max_ns < at_ns < p.now_ns:
                arrival_ns[0] = at_ns
        elif ancillary.cmsg_level == SOL_UDP and ancillary.cmsg_type == UDP_GRO:
            memcpy(&size, CMSG_DATA(ancillary), sizeof(int))
        ancillary = CMSG_NXTHDR(message, ancillary)
    return size


cdef int receive_chunk(Plane *p, Socket *socket, int most, int64_t to_monotonic_ns) noexcept nogil:
    """At most ``most`` ≤ ``CHUNK`` messages; how many there were. What they set off is sent."""
    cdef int i, got, left, size, length
    cdef int64_t arrival_ns
    cdef uint8_t *data
    cdef Key address
    cdef Transport *t
    got = recvmmsg(socket.descriptor, p.in_messages, most, MSG_DONTWAIT, NULL)
    for i in range(got):
        key_of(&p.in_addresses[i], socket, &address)
        t = p.owners[owner_slot(p, &address)]
        size = segment_size(p, &p.in_messages[i].msg_hdr, to_monotonic_ns, &arrival_ns)
        data = p.received + <size_t>i * RECEIVE_STRIDE
        left = p.in_messages[i].msg_len
        prepare_again(&p.in_messages[i].msg_hdr)
        if p.in_messages[i].msg_hdr.msg_flags & MSG_TRUNC:
            p.drops[TOO_LARGE] += 1
            p.received_datagrams += 1
            continue
        if size <= 0 or size > left:
            size = left
        while True:
            length = min(size, left)
            receive(p, socket, t, &address, data, length, arrival_ns)
            p.received_datagrams += 1
            data += length
            left -= length
            if left <= 0:
                break
    flush(p)
    return got


cdef void drain_socket(Plane *p, Socket *socket, int most, int64_t to_monotonic_ns) noexcept nogil:
    """About ``most`` datagrams: a chunk that the kernel has joined may bring more."""
    cdef int chunk
    cdef int64_t until = p.received_datagrams + most
    while True:
        chunk = <int>min(until - p.received_datagrams, CHUNK)
        if receive_chunk(p, socket, chunk, to_monotonic_ns) < chunk or p.received_datagrams >= until:
            break
        p.now_ns = max(p.now_ns, clock_ns() + p.ahead_ns)  # so that what leaves next does not look delayed


cdef void drain_ready(Plane *p, Socket **sockets, int count, int most, int64_t to_monotonic_ns) noexcept nogil:
    """Drain those UDP sockets that have something, and mark the TCP ones that want attention."""
    cdef pollfd asked[SOCKETS_POLLED_MAX]
    cdef int i
    if count == 1 and not sockets[0].tcp:
        drain_socket(p, sockets[0], most, to_monotonic_ns)
        return
    for i in range(count):
        asked[i] = pollfd(sockets[i].descriptor, POLLIN, 0)
    if poll(asked, count, 0) < 0:
        return
    for i in range(count):
        if sockets[i].tcp:
            sockets[i].wants = asked[i].revents != 0
        elif asked[i].revents:
            drain_socket(p, sockets[i], most, to_monotonic_ns)
