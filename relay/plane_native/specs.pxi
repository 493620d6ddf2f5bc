# Descriptions of streams and routes, from Python's dataclasses into tables by payload type and extension id.

_CODECS = {"vp8": VP8, "h264": H264}


cdef int set_stream_spec(Stream *s, spec) except -1:
    cdef int i
    s.ssrc = spec.ssrc & 0xFFFFFFFF
    s.has_rtx = spec.rtx_ssrc is not None
    s.rtx_ssrc = (spec.rtx_ssrc or 0) & 0xFFFFFFFF
    s.clock_rate = spec.clock_rate
    s.nack = spec.nack
    s.transport_cc_id = -1 if spec.transport_cc_id is None else spec.transport_cc_id
    for i in range(128):
        s.codecs[i] = NO_CODEC
        s.repairs[i] = -1
    for payload_type, codec in spec.codecs.items():
        s.codecs[payload_type & 127] = _CODECS.get(codec.lower(), ANY_CODEC)
    for payload_type, repaired in spec.rtx_payload_types.items():
        if 0 <= payload_type < 128:
            s.repairs[payload_type] = repaired & 127
    return 0


cdef bytes pack_elements(elements, bint one_byte):
    """Extension elements without header and filling."""
    if one_byte:
        return b"".join(bytes((key << 4 | len(value) - 1,)) + value for key, value in elements)
    return b"".join(bytes((key, len(value))) + value for key, value in elements)


cdef int set_route_spec(Route *r, spec) except -1:
    """Take another description. What was sent is not sent again: under the new one its bytes would differ."""
    cdef int i
    fixed = sorted(spec.set_extensions.items())
    if spec.transport_cc_id is not None:
        fixed.insert(0, (spec.transport_cc_id, b"\0\0"))  # first, where the path finds and numbers it
    if sum(2 + len(value) for _, value in fixed) > FIXED_BYTES_MAX:
        raise ValueError(f"constant header extensions may take {FIXED_BYTES_MAX} bytes at most")
    fits = all(0 < key < 15 and 0 < len(value) <= 16 for key, value in fixed)
    fixed_set(&r.block, rtp.pack_extensions(fixed), fits)
    fixed_set(&r.one_byte, pack_elements(fixed, True) if fits else b"", fits)
    fixed_set(&r.two_byte, pack_elements(fixed, False), False)
    r.ssrc = spec.ssrc & 0xFFFFFFFF
    r.has_rtx = spec.rtx_ssrc is not None and bool(spec.rtx_payload_types)
    r.rtx_ssrc = (spec.rtx_ssrc or 0) & 0xFFFFFFFF
    r.first_rtx_type = next(iter(spec.rtx_payload_types.values()), 0) & 127
    r.transport_cc_id = -1 if spec.transport_cc_id is None else spec.transport_cc_id
    for i in range(128):
        r.payload_types[i] = -1
    for i in range(256):
        r.rtx_types[i] = -1
        r.extension_ids[i] = 0
    for received, sent in spec.payload_types.items():
        r.payload_types[received & 127] = sent & 127 if sent >= 0 else -1
    for sent, repairing in spec.rtx_payload_types.items():
        if 0 <= sent < 256:
            r.rtx_types[sent] = repairing & 127
    r.maps_extensions = False
    for received, sent in spec.extension_ids.items():
        if sent not in spec.set_extensions and 0 < received < 256 and 0 < sent < 256:
            r.extension_ids[received] = sent
            r.maps_extensions = True
    if spec.transport_cc_id is not None:
        r.transport.cc_id = spec.transport_cc_id
    r.repeats = spec.transport_cc_id is not None and not r.has_rtx
    if r.repeats:
        if r.numbers == NULL:
            r.numbers = <int64_t *>malloc(NUMBERS * sizeof(int64_t))
            if r.numbers == NULL:
                raise MemoryError
        for i in range(NUMBERS):
            r.numbers[i] = -1
    else:
        free(r.numbers)
        r.numbers = NULL
    r.runs_count = r.runs_first = 0
    r.running = False
    return 0
