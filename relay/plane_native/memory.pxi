# Memory of packets that are kept for a while. Blocks of four sizes, cut from large pages and used again: fresh small pages
# cost more than all else that is done for a packet.

cdef enum:
    PAGES_BYTES = 2 << 20
    MADV_HUGEPAGE = 14


cdef inline int size_class(int length) noexcept nogil:
    return 0 if length <= 256 else 1 if length <= 640 else 2 if length <= 1_280 else 3


cdef inline int class_bytes(int size) noexcept nogil:
    return 256 if size == 0 else 640 if size == 1 else 1_280 if size == 2 else BUFFER_BYTES


cdef uint8_t *block_new(Plane *p, int length) noexcept nogil:
    """Room for ``length`` ≤ ``BUFFER_BYTES``, aligned to 16 at least; NULL: no memory."""
    cdef int size = size_class(length)
    cdef List *spare = &p.spare_blocks[size]
    cdef uint8_t *block
    if EXACT_BLOCKS:
        return <uint8_t *>malloc(length)
    if spare.count:
        spare.count -= 1
        return <uint8_t *>spare.items[spare.count]
    if p.fresh_left < class_bytes(size):  # what is left is lost, and less than a packet
        block = <uint8_t *>aligned_alloc(PAGES_BYTES, PAGES_BYTES)
        if block == NULL:
            return NULL
        if not list_add(&p.pages, block):
            free(block)
            return NULL
        madvise(block, PAGES_BYTES, MADV_HUGEPAGE)  # in vain where large pages are switched off
        p.fresh = block
        p.fresh_left = PAGES_BYTES
    block = p.fresh
    p.fresh += class_bytes(size)
    p.fresh_left -= class_bytes(size)
    return block


cdef void block_free(Plane *p, uint8_t *block, int length) noexcept nogil:
    """Give back what ``block_new`` gave for ``length``."""
    if block == NULL:
        return
    if EXACT_BLOCKS:
        free(block)
    else:
        list_add(&p.spare_blocks[size_class(length)], block)  # no memory: it stays unused


cdef void blocks_free_all(Plane *p) noexcept:
    cdef int i
    for i in range(p.pages.count):
        free(p.pages.items[i])
    list_free(&p.pages)
    for i in range(SIZE_CLASSES):
        list_free(&p.spare_blocks[i])
