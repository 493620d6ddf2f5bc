# Taking what has come, and holding it against what was sent. Included by ``flows.pyx``.

cdef void _receive(Flows flows, Client *client, int index) noexcept nogil:
    cdef mmsghdr messages[RECEIVE_BATCH]
    cdef iovec parts[RECEIVE_BATCH]
    cdef int i, count, length
    cdef int64_t arrived
    cdef uint8_t *packet
    while True:
        memset(messages, 0, sizeof(messages))
        for i in range(RECEIVE_BATCH):
            parts[i].iov_base = flows.into + i * PACKET_BYTES
            parts[i].iov_len = PACKET_BYTES
            messages[i].msg_hdr.msg_iov = &parts[i]
            messages[i].msg_hdr.msg_iovlen = 1
            if flows.tick_ns:
                messages[i].msg_hdr.msg_control = flows.stamps + i * KERNEL_STAMP_BYTES
                messages[i].msg_hdr.msg_controllen = KERNEL_STAMP_BYTES
        count = recvmmsg(client.fd, messages, RECEIVE_BATCH, MSG_DONTWAIT, NULL)
        if count <= 0:
            return
        for i in range(count):
            packet = flows.into + i * PACKET_BYTES
            length = messages[i].msg_len
            arrived = _arrival_of(flows, &messages[i].msg_hdr)
            if length >= 12 and 128 <= packet[0] <= 191 and not 192 <= packet[1] <= 223:
                _check(flows, client, packet, length, arrived)
            elif _wants(flows, client, packet, &length, arrived):
                with gil:
                    _keep_control(flows, index, packet, length)
        if count < RECEIVE_BATCH:
            return


cdef int64_t _arrival_of(Flows flows, msghdr *message) noexcept nogil:
    """When a datagram came: the kernel's stamp where there is one, else now."""
    cdef cmsghdr *control = CMSG_FIRSTHDR(message) if flows.tick_ns else NULL
    cdef timespec stamp
    if control == NULL or control.cmsg_level != SOL_SOCKET or control.cmsg_type != SO_TIMESTAMPNS:
        return _now()
    memcpy(&stamp, CMSG_DATA(control), sizeof(stamp))
    return <int64_t>stamp.tv_sec * 1000000000 + stamp.tv_nsec - flows.clocks_apart_ns


cdef bint _wants(Flows flows, Client *client, uint8_t *packet, int *length, int64_t arrived) noexcept nogil:
    """Whether the caller wants this datagram, which is no RTP. RTCP of clients that report is decrypted here."""
    if not client.told.feedback_interval_ns or length[0] < 12 or not 128 <= packet[0] <= 191:
        return True
    if _unprotect_rtcp(client.unprotect, packet, length):
        flows.bad += 1
        return False
    _note_sender_report(client, packet, length[0], arrived)
    return _says_more(packet, length[0])


cdef void _keep_control(Flows flows, int index, uint8_t *packet, int length) noexcept:
    if len(flows.control) >= CONTROL_MAX:
        flows.control_dropped += 1
    else:
        flows.control.append((index, PyBytes_FromStringAndSize(<char *>packet, length)))


cdef void _check(Flows flows, Client *client, uint8_t *packet, int length, int64_t arrived) noexcept nogil:
    """Decrypt one packet and hold it against what its sender sent."""
    cdef int header, i, counted
    cdef uint8_t *whole = packet
    cdef uint64_t number
    cdef int64_t sent_ns, bucket
    cdef Heard *heard = NULL
    cdef uint32_t sender
    if client.unprotect == NULL:
        flows.received += 1
        return
    if _unprotect(client.unprotect, packet, &length):
        flows.bad += 1
        return
    header = 12 + 4 * (packet[0] & 15)
    if packet[0] & 16:
        if header + 4 > length:
            flows.strange += 1
            return
        header += 4 + 4 * (packet[header + 2] << 8 | packet[header + 3])
    if client.told.feedback_interval_ns and header <= length:
        counted = _number_of(packet, header, client.told.transport_cc_id)
        if counted >= 0:
            _note_arrival(&client.told, counted, arrived)
    if header + STAMP_OFFSET + 24 > length:
        flows.strange += 1  # a probe, or a padding
        return
    packet += header + STAMP_OFFSET
    if packet[0] != 0x74 or packet[1] != 0x75 or packet[2] != 0x72 or packet[3] != 0x6E:
        flows.strange += 1  # sent again over RTX, say
        return
    sender = <uint32_t>packet[4] << 24 | <uint32_t>packet[5] << 16 | <uint32_t>packet[6] << 8 | packet[7]
    memcpy(&number, packet + 8, 8)
    memcpy(&sent_ns, packet + 16, 8)
    for i in range(client.heard_count):
        if client.heard[i].sender == <int>sender:
            heard = &client.heard[i]
            break
    if heard == NULL:
        if client.heard_count == HEARD_MAX:
            flows.strange += 1
            return
        heard = &client.heard[client.heard_count]
        client.heard_count += 1
        heard.sender = sender
        heard.video = <int>sender < flows.sender_count and flows.senders[sender].video
        heard.highest = number
    elif number > heard.highest:
        heard.highest = number
    else:
        heard.late += 1
    heard.received += 1
    flows.received += 1
    if client.told.feedback_interval_ns:
        _note_heard(heard, whole, arrived)
    bucket = (arrived - sent_ns) // 10000
    flows.delays[bucket if 0 <= bucket < DELAY_BUCKETS else DELAY_BUCKETS] += 1
