# Packets in place: the reading half of relay.rtp, relay.vp8_rewrite and relay.codecs, with the same answers.
# Whoever reads a byte has compared its offset with the packet's length before.

cdef inline int get16(const uint8_t *at) noexcept nogil:
    return at[0] << 8 | at[1]


cdef inline uint32_t get32(const uint8_t *at) noexcept nogil:
    return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]


cdef inline void put16(uint8_t *at, int64_t value) noexcept nogil:
    at[0] = (value >> 8) & 0xFF
    at[1] = value & 0xFF


cdef inline void put32(uint8_t *at, uint32_t value) noexcept nogil:
    at[0] = value >> 24
    at[1] = (value >> 16) & 0xFF
    at[2] = (value >> 8) & 0xFF
    at[3] = value & 0xFF


cdef bint read_header(Packet *packet) noexcept nogil:
    """Read the header of ``packet.data[:packet.length]`` (RFC 3550 §5.1); False: malformed."""
    cdef const uint8_t *data = packet.data
    cdef int length = packet.length
    cdef int start, end, padding
    if length < HEADER_BYTES or data[0] & 0xC0 != 0x80:
        return False
    start = HEADER_BYTES + 4 * (data[0] & 15)
    packet.extensions_start = 0
    if data[0] & 0x10:
        packet.extensions_start = start
        if start + 4 > length:
            return False
        start += 4 + 4 * get16(data + start + 2)
    if start > length:
        return False
    end = length
    if data[0] & 0x20:
        padding = data[length - 1] if length > start else 0
        if padding == 0 or padding > length - start:
            return False
        end -= padding
    packet.marker = data[1] > 127
    packet.payload_type = data[1] & 127
    packet.sequence = get16(data + 2)
    packet.timestamp = get32(data + 4)
    packet.ssrc = get32(data + 8)
    packet.payload_start = start
    packet.payload_end = end
    return True


cdef void read_elements(Packet *packet) noexcept nogil:
    """The header's extension elements (RFC 8285); a malformed rest is ignored. ``read_header`` came before."""
    cdef const uint8_t *data = packet.data
    cdef int at = packet.extensions_start
    cdef int end = packet.payload_start
    cdef int count = 0
    cdef int size, profile
    packet.elements_count = 0
    if not at:
        return
    profile = get16(data + at)
    at += 4
    if profile == 0xBEDE:
        while at < end and count < ELEMENTS_MAX:
            if data[at] == 0:
                at += 1
                continue
            size = (data[at] & 15) + 1
            if data[at] >= 0xF0 or at + 1 + size > end:
                break
            packet.elements[count] = Element(data[at] >> 4, size, at + 1)
            count += 1
            at += 1 + size
    elif profile & 0xFFF0 == 0x1000:
        while at + 1 < end and count < ELEMENTS_MAX:
            if data[at] == 0:
                at += 1
                continue
            size = data[at + 1]
            if at + 2 + size > end:
                break
            packet.elements[count] = Element(data[at], size, at + 2)
            count += 1
            at += 2 + size
    packet.elements_count = count


cdef bint unwrap_rtx(Packet *packet, int payload_type, uint32_t ssrc) noexcept nogil:
    """Make the packet that this RTX packet repairs out of it (RFC 4588 §4); False: no room for its number, a probe."""
    cdef uint8_t *data = packet.data
    cdef int start = packet.payload_start
    cdef int sequence
    if packet.payload_end - start < 2:
        return False
    sequence = get16(data + start)
    memmove(data + 2, data, start)
    data += 2
    data[0] &= 0xDF
    data[1] = (0x80 if packet.marker else 0) | (payload_type & 127)
    put16(data + 2, sequence)
    put32(data + 8, ssrc)
    packet.data = data
    packet.length = packet.payload_end - 2
    return read_header(packet)


# --- what a payload says


cdef void read_vp8(const Packet *packet, Layer *layer) noexcept nogil:
    """The payload descriptor (RFC 7741 §4.2); not present where it is cut short."""
    cdef const uint8_t *data = packet.data + packet.payload_start
    cdef int end = packet.payload_end - packet.payload_start
    cdef int at = 1
    cdef int bits, need
    memset(layer, 0, sizeof(Layer))
    if end < 2:
        return
    layer.begins_frame = data[0] & 0x17 == 0x10  # S bit, partition 0
    if not data[0] & 0x80:
        layer.present = True
        layer.frame_at = 1
        layer.begins_key_frame = layer.begins_frame and not data[1] & 1
        return
    bits = data[1]
    at = 2
    need = 1
    if bits & 0x80:
        need += 2 if at < end and data[at] & 0x80 else 1
    if bits & 0x40:
        need += 1
    if bits & 0x30:
        need += 1
    if end - at < need:
        return
    if bits & 0x80:
        layer.picture_at = at
        layer.picture = data[at]
        at += 1
        if layer.picture & 0x80:
            layer.picture_is_long = True
            layer.picture = (layer.picture & 0x7F) << 8 | data[at]
            at += 1
    if bits & 0x40:
        layer.tl0_at = at
        layer.tl0 = data[at]
        at += 1
    if bits & 0x30:
        if bits & 0x20:
            layer.temporal = data[at] >> 6
            layer.sync = data[at] & 0x20 != 0
        at += 1
    layer.present = True
    layer.frame_at = at
    layer.begins_key_frame = layer.begins_frame and not data[at] & 1


cdef bint vp8_size(const Packet *packet, int *width, int *height) noexcept nogil:
    """Width and height from the first packet of a key frame (RFC 6386 §9.1)."""
    cdef const uint8_t *data = packet.data + packet.payload_start
    cdef int length = packet.payload_end - packet.payload_start
    cdef int at = packet.layer.frame_at
    if length < at + 10 or data[at + 3] != 0x9D or data[at + 4] != 0x01 or data[at + 5] != 0x2A:
        return False
    width[0] = (data[at + 6] | data[at + 7] << 8) & 0x3FFF
    height[0] = (data[at + 8] | data[at + 9] << 8) & 0x3FFF
    return True


cdef bint h264_holds(const uint8_t *data, int length, int wanted) noexcept nogil:
    """Whether a NAL unit of this type is inside, or begins there (RFC 6184: single NAL, STAP-A, FU-A)."""
    cdef int kind, at
    if length < 1:
        return False
    kind = data[0] & 31
    if kind == wanted:
        return True
    if kind == 24:
        at = 1
        while at + 2 < length:
            if data[at + 2] & 31 == wanted:
                return True
            at += 2 + get16(data + at)
        return False
    if kind != 28 or length < 2 or not data[1] & 0x80:
        return False
    return data[1] & 31 == wanted


cdef inline void rewrite_vp8(uint8_t *payload, const Layer *layer, int picture_offset, int tl0_offset) noexcept nogil:
    """Move the numbers of a payload whose descriptor was read before, each in its width."""
    cdef int picture
    if layer.picture_at:
        picture = layer.picture + picture_offset
        if layer.picture_is_long:
            payload[layer.picture_at] = 0x80 | picture >> 8 & 0x7F
            payload[layer.picture_at + 1] = picture & 0xFF
        else:
            payload[layer.picture_at] = picture & 0x7F
    if layer.tl0_at:
        payload[layer.tl0_at] = (layer.tl0 + tl0_offset) & 0xFF
