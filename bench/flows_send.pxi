# Sending: a burst of packets, rendered and encrypted one by one, in one call. Included by ``flows.pyx``.

cdef void _send(Flows flows, Sender *sender) noexcept nogil:
    cdef mmsghdr messages[BURST_MAX]
    cdef iovec parts[BURST_MAX]
    cdef Client *client = &flows.clients[sender.client]
    cdef int i, length, sent, done = 0
    memset(messages, 0, sizeof(messages))
    for i in range(sender.burst):
        length = _render(flows, sender, client, flows.out + i * PACKET_BYTES, i)
        if _protect(client.protect, flows.out + i * PACKET_BYTES, &length):
            flows.bad += 1
            return
        parts[i].iov_base = flows.out + i * PACKET_BYTES
        parts[i].iov_len = length
        messages[i].msg_hdr.msg_name = &client.remote
        messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_in)
        messages[i].msg_hdr.msg_iov = &parts[i]
        messages[i].msg_hdr.msg_iovlen = 1
    sender.frames += 1
    sender.sent_ns = _now()
    sender.key_wanted = 0
    sender.timestamp += sender.timestamp_step
    while done < sender.burst:
        sent = sendmmsg(client.fd, messages + done, sender.burst - done, MSG_DONTWAIT)
        if sent <= 0:
            if errno == EINTR:
                continue
            flows.send_failed += 1  # as if the network had lost it: a full buffer, a closed port
            done += 1
        else:
            done += sent


cdef int _render(Flows flows, Sender *sender, Client *client, uint8_t *packet, int part) noexcept nogil:
    """One RTP packet in the clear; returns its length."""
    cdef int at = 12
    cdef uint8_t *payload
    cdef uint16_t picture
    cdef int64_t now
    packet[0] = 0x90 if sender.extension_bytes else 0x80
    packet[1] = sender.payload_type | (0x80 if sender.video and part == sender.burst - 1 else 0)
    _put16(packet + 2, sender.sequence)
    _put32(packet + 4, sender.timestamp)
    _put32(packet + 8, sender.ssrc)
    if sender.extension_bytes:
        memcpy(packet + at, sender.extension, sender.extension_bytes)
        if sender.transport_cc_at >= 0:
            _put16(packet + at + sender.transport_cc_at, client.transport_cc)
            client.transport_cc += 1
        at += sender.extension_bytes
    payload = packet + at
    memset(payload, <int>(sender.sequence & 0xFF), sender.payload_bytes)
    if sender.video:  # RFC 7741: descriptor with picture id, TL0PICIDX and temporal layer; then RFC 6386's header
        picture = <uint16_t>(sender.frames & 0x7FFF)
        payload[0] = 0x80 if part else 0x90
        payload[1] = 0xE0
        _put16(payload + 2, 0x8000 | picture)
        payload[4] = <uint8_t>(sender.frames >> 1)
        payload[5] = 0x20 | <uint8_t>((0 if sender.key_wanted else sender.frames & 1) << 6)
        if part == 0:
            payload[6] = 0x10 if sender.key_wanted else 0x11
            payload[7] = payload[8] = 0
            payload[9], payload[10], payload[11] = 0x9D, 0x01, 0x2A
            payload[12], payload[13], payload[14], payload[15] = 0x80, 0x02, 0xE0, 0x01
    now = _now()
    _put32(payload + STAMP_OFFSET, 0x7475726E)
    _put32(payload + STAMP_OFFSET + 4, <uint32_t>(sender - flows.senders))
    memcpy(payload + STAMP_OFFSET + 8, &sender.sent, 8)
    memcpy(payload + STAMP_OFFSET + 16, &now, 8)
    sender.sent += 1
    sender.sequence += 1
    return at + sender.payload_bytes
