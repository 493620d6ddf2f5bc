# Everything that a plane holds, as C structures. Sizes that the Python plane shares are compared with its own on import
# (see _plane.pyx): two planes that disagree must not run.

cdef enum:
    BUFFER_BYTES = 2048
    TRAILER_BYTES_MAX = 148
    PACKET_BYTES_MAX = 1900
    HEADER_BYTES = 12
    ELEMENTS_MAX = 32
    CHUNK = 64
    SEEN = 4096
    SHIFTS_MAX = 512
    STREAMS_MAX = 64
    SSRCS_MAX = 256
    HELD_MAX = 48
    MISSING_MAX = 256
    ARRIVALS_MAX = 2048
    ARRIVALS_INDEX = 8192
    STATUSES_MAX = 8192
    RECEIVED_MAX = 256
    VIDEO_PACKETS = 1024
    AUDIO_PACKETS = 128
    RUNS_MAX = 128
    RESENT = 1024
    NUMBERS = 128
    SENT_MAX = 8192
    PADDING_BYTES = 224
    GATE_STREAMS_MAX = 4096
    QUEUED_MAX = 2048
    AGAIN_MAX = 64
    PROBE_PACKETS_MAX = 64
    TIMED_MAX = 4096
    UPCALLS_MAX = 4096
    STRANGERS_MAX = 1024
    TEMPORAL_LAYERS = 4
    ALL_TEMPORAL = 3

cdef enum:
    RECEIVE_STRIDE = 66_624  # a whole GRO batch, and a little, so that buffers do not share cache sets
    RECEIVE_BYTES = 65_536
    CONTROL_BYTES = 128
    OUT_MAX = 256  # datagrams that wait for one sendmmsg
    GSO_SEGMENTS_MAX = 64
    GSO_BYTES_MAX = 65_000
    FIXED_BYTES_MAX = 1_024  # of a route's constant header extensions
    FEEDBACK_BYTES = 4_096
    SOCKETS_POLLED_MAX = 64  # bound at once
    EXTENSION_IDS = 256
    SEGMENT_BYTES = 2 << 20  # of kept packets: a large page
    SEGMENTS_MAX = 256  # three seconds of 1.4 Gb/s; of more, the oldest is forgotten

cdef enum:  # in the order of relay.plane.DropReason
    EMPTY, TOO_LARGE, UNKNOWN_KIND, UNKNOWN_ADDRESS, MALFORMED_RTP, MALFORMED_RTCP, NO_KEYS, UNPROTECT_FAILED
    REPLAYED, UNKNOWN_SSRC, STREAMS_FULL, DUPLICATE, PADDING_ONLY, RTX_WITHOUT_STREAM, GATE_CLOSED
    WAITING_FOR_KEY_FRAME, ROUTE_PAUSED, LAYER_LEFT_OUT, PACER_FULL, RESEND_OVER_BUDGET, PAYLOAD_TYPE_UNMAPPED
    NO_REMOTE_ADDRESS, PROTECT_FAILED, SEND_FAILED, SPOOL_FULL, UPCALL_QUEUE_FULL
    DROP_REASONS
    ACCEPTED = -1

cdef enum:  # the values of relay.plane.UpcallKind
    UP_STUN = 1
    UP_DTLS = 2
    UP_RTCP = 3
    UP_UNKNOWN_RTP = 4
    UP_KEY_FRAME_WANTED = 5

cdef enum:  # what is known of a payload type
    NO_CODEC = 0
    ANY_CODEC = 1  # every packet may begin a stream
    VP8 = 2
    H264 = 3

cdef struct Stream
cdef struct Route

cdef struct List:  # of pointers, in order
    void **items
    int count
    int capacity

cdef struct Element:  # of a header's extensions
    uint8_t key
    uint8_t size
    uint16_t at

cdef struct Layer:  # relay.vp8_rewrite.Vp8Descriptor
    bint present
    bint begins_frame
    bint begins_key_frame
    int picture_at
    bint picture_is_long
    int picture
    int tl0_at
    int tl0
    int temporal
    bint sync
    int frame_at

cdef struct Packet:  # one packet under work; offsets count from data
    uint8_t *data
    int length
    bint marker
    int payload_type
    int sequence
    uint32_t timestamp
    uint32_t ssrc
    int extensions_start
    int payload_start
    int payload_end
    int elements_count
    Element elements[ELEMENTS_MAX]
    int64_t number
    int64_t arrival_ns
    bint begins_key_frame
    Layer layer

cdef struct Key:  # a remote address on one of our sockets; IPv4 in IPv6's form
    uint64_t high
    uint64_t low
    uint32_t socket
    uint32_t port

cdef struct Socket:
    int64_t handle
    uint32_t index  # names it in address keys
    int descriptor
    bint ipv6
    bint tcp
    bint wants  # attention of Python, which serves TCP
    int64_t served_ns

cdef struct Kept:  # a packet on the shelf; its bytes follow
    int64_t arrival_ns
    uint16_t length
    uint16_t layered
    uint32_t unused

cdef struct Shelf:  # packets of all streams in the order of their arrival
    uint8_t *segments[SEGMENTS_MAX]  # each at its number modulo that
    int64_t newest_ns[SEGMENTS_MAX]
    int64_t oldest  # numbers of segments, from 1
    int64_t current
    int used  # bytes of the current one

cdef struct Cached:
    int64_t number
    int64_t place  # on the shelf, 0: nowhere

cdef struct Missing:
    int64_t number
    int64_t next_ns
    int tries

cdef struct Arrival:
    int64_t number
    int64_t at_ns

cdef struct Arrivals:  # a queue in order of arrival, and chains by number into it
    Arrival queue[ARRIVALS_MAX + 1]
    int16_t next[ARRIVALS_MAX + 1]
    int16_t index[ARRIVALS_INDEX]  # place in the queue + 1, as in next; 0: none
    int first
    int count
    int64_t highest
    int64_t base
    int feedbacks
    bint due
    int64_t due_ns

cdef struct Held:
    uint32_t ssrc
    uint8_t *data
    int length
    int64_t arrival_ns

cdef struct Ssrc:
    uint32_t ssrc
    bint used
    bint authentic
    bint heard
    Stream *stream
    Stream *repair

cdef struct SentOne:
    int64_t sent_ns
    int32_t size
    int32_t cluster

cdef struct Sent:
    int64_t highest
    SentOne packets[SENT_MAX]

cdef struct Paced:
    Paced *next
    Route *route  # NULL: removed meanwhile
    int64_t output
    int length
    uint8_t *data

cdef struct Queue:
    Paced *first
    Paced *last
    int count

cdef struct Probe:
    bint active
    Route *route  # NULL: removed meanwhile
    int64_t rate_bps
    int64_t size_bytes
    int64_t sent_bytes
    int64_t began_ns
    int64_t next_output
    int cluster

cdef struct Pacer:
    bint paced
    int64_t rate_bps
    Probe probe
    Queue queue
    Queue again
    int64_t queued_bytes
    int64_t free_ns

cdef struct Transport:
    int64_t handle
    void *receive
    void *send
    Socket *socket
    bint has_remote
    sockaddr_storage remote
    socklen_t remote_length
    int addresses
    Ssrc *ssrcs
    int ssrcs_capacity
    int ssrcs_used
    int authentic
    int heard
    List streams
    List routes
    Held held[HELD_MAX + 1]
    int held_count
    Arrivals *arrivals
    int transport_cc_id
    int64_t last_heard_ns
    int64_t round_trip_ns
    int cc_id
    Sent *sent
    Pacer pacer
    bint is_telling  # in Plane.telling, and so on
    bint is_pacing
    bint is_announced
    int out_first
    int out_last

cdef struct StreamTotals:
    int64_t packets, bytes, highest_sequence, first_sequence, unique_packets, repaired, nacks_sent, key_frames
    int64_t last_arrival_ns, last_media_ns, last_timestamp
    double jitter
    int64_t temporal_bytes[TEMPORAL_LAYERS]
    int64_t temporal_frames[TEMPORAL_LAYERS]
    int width, height

cdef struct Stream:
    int64_t handle  # 0: gone; the structure may serve another stream later
    Transport *transport
    uint32_t ssrc
    bint has_rtx
    uint32_t rtx_ssrc
    uint32_t clock_rate
    bint is_video
    bint nack
    int transport_cc_id  # −1: none
    int8_t codecs[128]
    int16_t repairs[128]  # RTX payload type → what it repairs, −1
    StreamTotals totals
    Cached *cache
    int cache_mask
    Shelf *shelf
    uint32_t *seen
    Missing *missing
    int missing_count
    bint missing_due
    int64_t missing_due_ns
    List routes
    bint spooled
    bint is_nacking
    int64_t key_asked_ns
    bint holes_given_up
    bint begun
    int64_t highest
    int64_t oldest
    int64_t shift
    int64_t shift_base
    int64_t *shift_from
    int64_t *shift_totals
    int shifts
    int64_t last_transit
    int64_t last_key_timestamp
    int64_t parameters_at  # timestamps of H264; −1: none yet
    int64_t picture_at
    int bare_pictures

cdef struct GateCount:
    int64_t stream
    int64_t packets

cdef struct Gate:
    int64_t handle
    bint open
    bint removed
    List routes
    int users  # routes behind it, taps included
    GateCount *counts
    int counted
    int counts_capacity

cdef struct Run:  # relay.plane_routes.Run
    int64_t first_output
    int64_t first_number
    int64_t offset
    Stream *stream
    int64_t stream_handle
    uint32_t timestamp_offset
    int picture_offset
    int tl0_offset

cdef struct Resent:
    int64_t output
    int64_t at_ns

cdef struct RouteTotals:
    int64_t packets, octets, retransmitted, not_in_cache, last_sent_ns, sequence
    uint32_t last_timestamp

cdef struct Fixed:  # constant header extensions, as they are in either form
    uint8_t *data
    int length
    bint fits  # one-byte form only

cdef struct Route:
    int64_t handle
    Stream *stream
    Stream *next_stream
    bint has_next_shift
    int64_t next_shift
    bint is_tap
    Transport *transport
    Gate *gate
    int gate_slot
    RouteTotals totals
    bint running
    bint needs_key_frame
    bint paused
    bint filters
    bint repeats
    int64_t highest_output
    int64_t highest_sent
    int64_t began_output
    int64_t rendered
    int64_t first_number
    uint32_t timestamp_offset
    int64_t skew
    int picture_offset
    int tl0_offset
    bint has_newest_layer
    int newest_picture  # as sent
    int newest_tl0
    int left_picture
    int temporal
    int temporal_max
    Run *runs  # a ring
    int runs_capacity
    int runs_first
    int runs_count
    int64_t rtx_sequence
    Resent *resent
    int64_t again_bytes
    int64_t *numbers
    uint32_t ssrc
    bint has_rtx  # with payload types
    uint32_t rtx_ssrc
    int first_rtx_type
    int transport_cc_id  # −1: none
    int16_t payload_types[128]
    int16_t rtx_types[256]
    uint8_t extension_ids[EXTENSION_IDS]  # 0: left out
    bint maps_extensions
    Fixed one_byte
    Fixed two_byte
    Fixed block  # with the 4-byte header, where nothing else is added
