# What a whole plane holds, and what is on its way through it.

cdef struct Timed:
    int64_t at_ns
    int64_t order
    Route *route  # NULL: removed meanwhile
    uint8_t *data
    int length

cdef struct Out:
    Transport *transport
    int length
    int next
    Route *route  # that counted it as forwarded; NULL: none
    int64_t stream
    int octets

cdef struct Upcalled:
    int kind
    int64_t transport
    int64_t stream
    int64_t arrival_ns
    Socket *socket
    Key address
    uint8_t *data
    int length

cdef struct Bytes:  # records one after another
    uint8_t *data
    size_t length
    size_t capacity

cdef struct Record:  # of what Python gets in batches; its bytes follow
    int64_t owner
    int64_t stream
    int64_t at_ns
    int64_t length
    int64_t route  # of a frame: the handle of who counted it as forwarded; 0: nobody
    int64_t octets

cdef struct Plane:
    int64_t now_ns
    int64_t age_max_ns
    int64_t ahead_ns  # of this machine's clock: what to add to it for ``now_ns``
    int64_t drops[DROP_REASONS]
    srtp_function protect
    srtp_function unprotect
    srtp_function protect_rtcp
    srtp_function unprotect_rtcp
    uint32_t ssrc  # names us in the feedback that the plane itself sends
    int number  # the transport-wide one of the packet sent last
    Transport tapped  # what taps have for a transport
    Gate ungated
    # addresses: open addressing, NULL is free
    Key *keys
    Transport **owners
    int owners_capacity
    int owners_count
    # who has something due
    List nacking
    List telling
    List pacing
    List announced
    List transports  # all that there are, to free them
    List routes
    List gates
    List spare_streams  # structures of streams that are gone, for those to come
    Shelf shelf
    Timed *timed  # a heap
    int timed_count
    int64_t timed_order
    bint due_known  # the next two hold; else whoever asks looks through the lists
    bint due_any
    int64_t due_ns
    # on its way to Python
    Upcalled *upcalls
    int upcalls_count
    int upcalls_capacity
    Bytes taps
    Bytes frames
    # on its way in
    uint8_t *received
    mmsghdr in_messages[CHUNK]
    iovec in_vectors[CHUNK]
    sockaddr_storage in_addresses[CHUNK]
    uint8_t in_control[CHUNK][CONTROL_BYTES]
    # on its way out
    bint segments  # the kernel cuts a batch of datagrams itself (UDP_SEGMENT)
    bint discard  # nothing is sent: for fuzzing
    uint8_t *out
    Out outs[OUT_MAX]
    int outs_count
    Transport *touched[OUT_MAX]
    int touched_count
    mmsghdr out_messages[OUT_MAX]
    iovec out_vectors[OUT_MAX]
    uint8_t out_control[OUT_MAX][32]
    int64_t received_datagrams
