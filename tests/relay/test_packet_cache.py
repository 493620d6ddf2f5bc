"""The packet cache: the newest packets, by number."""

from __future__ import annotations

from relay.packet_cache import AGE_MAX_NS, CachedPacket, PacketCache
from relay.rtp import make_packet, read_header


def packet(number: int, arrival_ns: int = 0) -> CachedPacket:
    data = make_packet(payload_type=96, sequence=number & 0xFFFF, timestamp=0, ssrc=1, payload=b"")
    header = read_header(data, len(data))
    assert header is not None
    return CachedPacket(number, data, header, [], arrival_ns, False)


def test_a_packet_stays_until_one_cache_length_later() -> None:
    cache = PacketCache(8)
    for number in range(-3, 20):
        cache.put(packet(number))
    assert [number for number in range(-10, 30) if cache.get(number, 0)] == list(range(12, 20))


def test_a_late_packet_does_not_push_out_a_newer_one() -> None:
    cache = PacketCache(8)
    cache.put(packet(9))
    cache.put(packet(1))
    assert cache.get(9, 0) is not None
    assert cache.get(1, 0) is None


def test_an_old_packet_is_not_found() -> None:
    cache = PacketCache(8)
    cache.put(packet(1, arrival_ns=5))
    assert cache.get(1, 5 + AGE_MAX_NS) is not None
    assert cache.get(1, 6 + AGE_MAX_NS) is None
