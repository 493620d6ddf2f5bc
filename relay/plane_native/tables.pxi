# Lists, and the two tables that every packet is looked up in: whose address, whose SSRC.

# --- lists of pointers


cdef bint list_add(List *items, void *item) noexcept nogil:
    """At the end; False: no memory."""
    cdef int capacity
    cdef void **grown
    if items.count == items.capacity:
        capacity = 2 * items.capacity if items.capacity else 4
        grown = <void **>realloc(items.items, capacity * sizeof(void *))
        if grown == NULL:
            return False
        items.items = grown
        items.capacity = capacity
    items.items[items.count] = item
    items.count += 1
    return True


cdef int list_find(const List *items, const void *item) noexcept nogil:
    cdef int i
    for i in range(items.count):
        if items.items[i] == item:
            return i
    return -1


cdef void list_remove(List *items, const void *item) noexcept nogil:
    """The first that is ``item``, if any; the others keep their order."""
    cdef int i = list_find(items, item)
    if i >= 0:
        items.count -= 1
        memmove(items.items + i, items.items + i + 1, (items.count - i) * sizeof(void *))


cdef void list_free(List *items) noexcept nogil:
    free(items.items)
    memset(items, 0, sizeof(List))


# --- when timers want to run


cdef inline void due_at(Plane *p, int64_t at_ns) noexcept nogil:
    """Something more is due, at this time."""
    if not p.due_any or at_ns < p.due_ns:
        p.due_any = True
        p.due_ns = at_ns


# --- bytes for Python


cdef Record *bytes_add(
    Bytes *to, int64_t owner, int64_t stream, int64_t at_ns, const uint8_t *data, int length
) noexcept nogil:
    """Append one record, valid until the next one; NULL: no memory."""
    cdef size_t wanted = to.length + sizeof(Record) + ((length + 7) & ~7)
    cdef size_t capacity
    cdef uint8_t *grown
    cdef Record *record
    if wanted > to.capacity:
        capacity = 2 * wanted
        grown = <uint8_t *>realloc(to.data, capacity)
        if grown == NULL:
            return NULL
        to.data = grown
        to.capacity = capacity
    record = <Record *>(to.data + to.length)
    record[0] = Record(owner, stream, at_ns, length, 0, 0)
    memcpy(to.data + to.length + sizeof(Record), data, length)
    to.length = wanted
    return record


cdef void give_back(Bytes *to, Bytes *taken) noexcept:
    """Use the memory again, unless there is new by now."""
    if to.data == NULL:
        to.data = taken.data
        to.capacity = taken.capacity
    else:
        free(taken.data)


# --- whose address


cdef inline uint32_t hash_key(const Key *key) noexcept nogil:
    cdef uint64_t mixed = key.low ^ (key.high * 0x9E3779B97F4A7C15ULL)
    mixed ^= <uint64_t>key.port << 17 ^ <uint64_t>key.socket << 40
    mixed *= 0xFF51AFD7ED558CCDULL
    return <uint32_t>(mixed >> 32)


cdef inline bint same_key(const Key *a, const Key *b) noexcept nogil:
    return a.low == b.low and a.port == b.port and a.high == b.high and a.socket == b.socket


cdef inline int owner_slot(const Plane *p, const Key *key) noexcept nogil:
    """Where the key is, or would be. There is always a free place."""
    cdef int mask = p.owners_capacity - 1
    cdef int slot = <int>(hash_key(key) & <uint32_t>mask)
    while p.owners[slot] != NULL and not same_key(&p.keys[slot], key):
        slot = (slot + 1) & mask
    return slot


cdef bint owners_grow(Plane *p, int capacity) noexcept nogil:
    cdef Key *keys = p.keys
    cdef Transport **owners = p.owners
    cdef int i, slot, before = p.owners_capacity
    cdef Key *new_keys = <Key *>calloc(capacity, sizeof(Key))
    cdef Transport **new_owners = <Transport **>calloc(capacity, sizeof(void *))
    if new_keys == NULL or new_owners == NULL:
        free(new_keys)
        free(new_owners)
        return False
    p.keys = new_keys
    p.owners = new_owners
    p.owners_capacity = capacity
    for i in range(before):
        if owners[i] != NULL:
            slot = owner_slot(p, &keys[i])
            p.keys[slot] = keys[i]
            p.owners[slot] = owners[i]
    free(keys)
    free(owners)
    return True


cdef bint owner_set(Plane *p, const Key *key, Transport *owner) noexcept nogil:
    """From now on the address is this transport's; False: no memory."""
    cdef int slot
    if 2 * (p.owners_count + 1) > p.owners_capacity and not owners_grow(p, 2 * p.owners_capacity):
        return False
    slot = owner_slot(p, key)
    if p.owners[slot] == NULL:
        p.owners_count += 1
        p.keys[slot] = key[0]
    p.owners[slot] = owner
    return True


cdef void owner_drop(Plane *p, int slot) noexcept nogil:
    """Free a slot, and move up what was pushed on by it."""
    cdef int mask = p.owners_capacity - 1
    cdef int hole = slot, at = slot, home
    p.owners_count -= 1
    while True:
        p.owners[hole] = NULL
        while True:
            at = (at + 1) & mask
            if p.owners[at] == NULL:
                return
            home = <int>(hash_key(&p.keys[at]) & <uint32_t>mask)
            if ((at - home) & mask) >= ((at - hole) & mask):
                break
        p.keys[hole] = p.keys[at]
        p.owners[hole] = p.owners[at]
        hole = at


cdef void owner_forget(Plane *p, const Key *key) noexcept nogil:
    cdef int slot = owner_slot(p, key)
    if p.owners[slot] != NULL:
        owner_drop(p, slot)


cdef void owners_forget_all(Plane *p, const Transport *owner, const Socket *socket) noexcept nogil:
    """Every address of a transport, or on a socket (NULL: not asked for). Rare, so it looks through all."""
    cdef int i = 0
    while i < p.owners_capacity:
        if p.owners[i] != NULL and (p.owners[i] == owner or (socket != NULL and p.keys[i].socket == socket.index)):
            owner_drop(p, i)
            i = -1  # others have moved, before here too
        i += 1


cdef inline void key_of(const sockaddr_storage *address, const Socket *socket, Key *key) noexcept nogil:
    """The key of what recvmmsg wrote. The scope of an IPv6 address does not count."""
    cdef const sockaddr_in *plain = <const sockaddr_in *>address
    cdef const sockaddr_in6 *long_one = <const sockaddr_in6 *>address
    key.socket = socket.index
    if address.ss_family == AF_INET6:
        memcpy(&key.high, &long_one.sin6_addr, 8)
        memcpy(&key.low, (<const uint8_t *>&long_one.sin6_addr) + 8, 8)
        key.port = ntohs(long_one.sin6_port)
    else:
        key.high = 0
        key.low = <uint64_t>plain.sin_addr.s_addr << 32 | 0xFFFF0000ULL
        key.port = ntohs(plain.sin_port)


# --- whose SSRC


cdef inline Ssrc *ssrc_find(const Transport *t, uint32_t ssrc) noexcept nogil:
    cdef int mask = t.ssrcs_capacity - 1
    cdef int slot = <int>((ssrc * 2654435761U) >> 12) & mask
    while t.ssrcs[slot].used:
        if t.ssrcs[slot].ssrc == ssrc:
            return &t.ssrcs[slot]
        slot = (slot + 1) & mask
    return NULL


cdef Ssrc *ssrc_add(Transport *t, uint32_t ssrc) noexcept nogil:
    """The entry of an SSRC, made where there is none; NULL: no memory. Entries move."""
    cdef Ssrc *found = ssrc_find(t, ssrc)
    cdef Ssrc *before = t.ssrcs
    cdef Ssrc *grown
    cdef int i, capacity = t.ssrcs_capacity
    cdef int slot
    if found != NULL:
        return found
    if 2 * (t.ssrcs_used + 1) > capacity:
        grown = <Ssrc *>calloc(2 * capacity, sizeof(Ssrc))
        if grown == NULL:
            return NULL
        t.ssrcs = grown
        t.ssrcs_capacity = 2 * capacity
        t.ssrcs_used = 0
        for i in range(capacity):
            if before[i].used:
                found = ssrc_add(t, before[i].ssrc)
                if found != NULL:
                    found[0] = before[i]
        free(before)
    slot = <int>((ssrc * 2654435761U) >> 12) & (t.ssrcs_capacity - 1)
    while t.ssrcs[slot].used:
        slot = (slot + 1) & (t.ssrcs_capacity - 1)
    memset(&t.ssrcs[slot], 0, sizeof(Ssrc))
    t.ssrcs[slot].used = True
    t.ssrcs[slot].ssrc = ssrc
    t.ssrcs_used += 1
    return &t.ssrcs[slot]


cdef void ssrcs_forget(Transport *t, const Stream *s) noexcept nogil:
    """The stream goes: no entry may name it, whatever becomes of the table."""
    cdef int i
    for i in range(t.ssrcs_capacity):
        if t.ssrcs[i].stream == s:
            t.ssrcs[i].stream = NULL
        if t.ssrcs[i].repair == s:
            t.ssrcs[i].repair = NULL


cdef bint index_streams(Transport *t) noexcept nogil:
    """Rebuild the table after a stream came, changed or went; False: no memory."""
    cdef Ssrc *before = t.ssrcs
    cdef Ssrc *entry
    cdef Stream *stream
    cdef int i, capacity = t.ssrcs_capacity
    t.ssrcs = <Ssrc *>calloc(capacity, sizeof(Ssrc))
    if t.ssrcs == NULL:
        t.ssrcs = before
        return False
    t.ssrcs_used = t.heard = 0
    for i in range(capacity):
        if before[i].used and (before[i].authentic or before[i].heard):
            entry = ssrc_add(t, before[i].ssrc)
            if entry == NULL:
                break
            entry.authentic = before[i].authentic
            entry.heard = before[i].heard
    free(before)
    for i in range(t.streams.count):
        stream = <Stream *>t.streams.items[i]
        entry = ssrc_add(t, stream.ssrc)
        if entry == NULL:
            return False
        entry.stream = stream
        entry.heard = False
        if stream.has_rtx:
            entry = ssrc_add(t, stream.rtx_ssrc)
            if entry == NULL:
                return False
            entry.repair = stream
            entry.heard = False
        if stream.transport_cc_id >= 0:
            t.transport_cc_id = stream.transport_cc_id
    for i in range(t.ssrcs_capacity):
        if t.ssrcs[i].used and t.ssrcs[i].heard:
            t.heard += 1
    return True
