# What went through a gate, per publisher's stream: what the meter goes by.


cdef void gate_count(Gate *gate, Route *r, int64_t stream) noexcept nogil:
    """One more packet of a stream went through the gate."""
    cdef int i = r.gate_slot
    cdef int capacity
    cdef GateCount *grown
    if i >= gate.counted or gate.counts[i].stream != stream:
        i = gate.counted - 1
        while i >= 0 and gate.counts[i].stream != stream:
            i -= 1
        if i < 0:
            if gate.counted == gate.counts_capacity:
                capacity = max(4, 2 * gate.counts_capacity)
                grown = <GateCount *>realloc(gate.counts, capacity * sizeof(GateCount))
                if grown == NULL:
                    return
                gate.counts = grown
                gate.counts_capacity = capacity
            i = gate.counted
            gate.counted += 1
            gate.counts[i] = GateCount(stream, 0)
        r.gate_slot = i
    gate.counts[i].packets += 1


cdef void gate_take_back(Gate *gate, int64_t stream) noexcept nogil:
    """A packet did not go through after all."""
    cdef int i
    for i in range(gate.counted - 1, -1, -1):
        if gate.counts[i].stream == stream:
            gate.counts[i].packets -= 1
            return


cdef void gate_trim(Gate *gate) noexcept nogil:
    """Keep the bound: the oldest streams are forgotten first."""
    cdef int gone = gate.counted - GATE_STREAMS_MAX
    if gone > 0:
        gate.counted -= gone
        memmove(gate.counts, gate.counts + gone, gate.counted * sizeof(GateCount))
