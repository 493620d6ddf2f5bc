# What this build takes for granted of the Python plane's constants. Where they differ it must not run.

_DROPS = tuple(DropReason)
_DROP_NAMES = """
    EMPTY TOO_LARGE UNKNOWN_KIND UNKNOWN_ADDRESS MALFORMED_RTP MALFORMED_RTCP NO_KEYS UNPROTECT_FAILED REPLAYED
    UNKNOWN_SSRC STREAMS_FULL DUPLICATE PADDING_ONLY RTX_WITHOUT_STREAM GATE_CLOSED WAITING_FOR_KEY_FRAME ROUTE_PAUSED
    LAYER_LEFT_OUT PACER_FULL RESEND_OVER_BUDGET PAYLOAD_TYPE_UNMAPPED NO_REMOTE_ADDRESS PROTECT_FAILED SEND_FAILED
    SPOOL_FULL UPCALL_QUEUE_FULL
""".split()  # in the order of types.pxi
_KINDS = {int(kind): kind for kind in UpcallKind}

_SHARED = {
    (srtp, "BUFFER_BYTES"): BUFFER_BYTES,
    (srtp, "TRAILER_BYTES_MAX"): TRAILER_BYTES_MAX,
    (srtp, "PACKET_BYTES_MAX"): PACKET_BYTES_MAX,
    (rtp, "HEADER_BYTES"): HEADER_BYTES,
    (rtp, "EXTENSIONS_MAX"): ELEMENTS_MAX,
    (plane_streams, "SEEN"): SEEN,
    (plane_streams, "SHIFTS_MAX"): SHIFTS_MAX,
    (plane_streams, "STREAMS_MAX"): STREAMS_MAX,
    (plane_streams, "SSRCS_MAX"): SSRCS_MAX,
    (plane_streams, "HELD_MAX"): HELD_MAX,
    (feedback, "MISSING_MAX"): MISSING_MAX,
    (feedback, "ARRIVALS_MAX"): ARRIVALS_MAX,
    (rtcp_transport_cc, "STATUSES_MAX"): STATUSES_MAX,
    (rtcp_transport_cc, "RECEIVED_MAX"): RECEIVED_MAX,
    (packet_cache, "VIDEO_PACKETS"): VIDEO_PACKETS,
    (packet_cache, "AUDIO_PACKETS"): AUDIO_PACKETS,
    (plane_routes, "RUNS_MAX"): RUNS_MAX,
    (plane_routes, "RESENT"): RESENT,
    (plane_routes, "NUMBERS"): NUMBERS,
    (plane_routes, "PADDING_BYTES"): PADDING_BYTES,
    (plane_routes, "GATE_STREAMS_MAX"): GATE_STREAMS_MAX,
    (send_history, "SENT_MAX"): SENT_MAX,
    (pacer, "QUEUED_MAX"): QUEUED_MAX,
    (pacer, "AGAIN_MAX"): AGAIN_MAX,
    (plane_sending, "PROBE_PACKETS_MAX"): PROBE_PACKETS_MAX,
    (plane_sending, "TIMED_MAX"): TIMED_MAX,
    (plane_packets, "UPCALLS_MAX"): UPCALLS_MAX,
    (plane_packets, "STRANGERS_MAX"): STRANGERS_MAX,
}


def _disagreement():
    """The first constant that differs from the Python plane's; None: all agree."""
    for (module, name), ours in _SHARED.items():
        if getattr(module, name) != ours:
            return f"{module.__name__}.{name} is {getattr(module, name)}, not {ours}"
    if [reason.name for reason in DropReason] != _DROP_NAMES or len(_DROP_NAMES) != DROP_REASONS:
        return "relay.plane.DropReason has other members"
    if (_ALL_TEMPORAL, _TEMPORAL_LAYERS) != (ALL_TEMPORAL, TEMPORAL_LAYERS):
        return "relay.plane.TEMPORAL_LAYERS differs"
    if sorted(_KINDS) != [UP_STUN, UP_DTLS, UP_RTCP, UP_UNKNOWN_RTP, UP_KEY_FRAME_WANTED]:
        return "relay.plane.UpcallKind has other members"
    return None


_differs = _disagreement()
if _differs is not None:
    raise ImportError(f"built for another version of this program: {_differs}")
