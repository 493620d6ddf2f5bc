"""Matroska at the level of bytes (RFC 9559): where a live file may be cut, and the front that makes it seekable.

A run's file is written once, as a live stream: a header, then clusters of about a second. Segments are whole
clusters. When the run is over, ``seekable_front`` makes another header, with duration and an index of key frames, that
goes before the very same clusters: the file that is played is front + clusters, and no media is stored twice.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

EBML: Final = 0x1A45DFA3
SEGMENT: Final = 0x18538067
INFO: Final = 0x1549A966
TRACKS: Final = 0x1654AE6B
CUES: Final = 0x1C53BB6B
CLUSTER: Final = 0x1F43B675
_TIMESTAMP_SCALE, _MUXING_APP, _WRITING_APP, _DURATION = 0x2AD7B1, 0x4D80, 0x5741, 0x4489
_CUE_POINT, _CUE_TIME, _CUE_POSITIONS, _CUE_TRACK, _CUE_CLUSTER = 0xBB, 0xB3, 0xB7, 0xF7, 0xF1
_TIMESTAMP, _SIMPLE_BLOCK = 0xE7, 0xA3
VIDEO_TRACK: Final = 1
"""Our muxer's number of the video track; audio follows it, or is 1 itself where there is no video."""
ELEMENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""A larger element is none that our muxer writes."""
_APP: Final = b"Turnpike"


class MatroskaError(Exception):
    """The bytes are not what our muxer writes."""


class Element(NamedTuple):
    """Where an element lies in a buffer."""

    id: int
    start: int
    """Of its content."""
    size: int
    """Of its content; -1: unknown."""

    @property
    def end(self) -> int:
        return self.start + self.size


def read_element(data: bytes | bytearray, at: int) -> Element | None:
    """The element whose header begins at ``at``; None while the header is cut. Raises ``MatroskaError``."""
    if at >= len(data):
        return None
    width = 9 - data[at].bit_length()
    if width > 4:
        raise MatroskaError("no element begins here")
    if at + width >= len(data):
        return None
    size_at = at + width
    size_width = 9 - data[size_at].bit_length()
    if size_width > 8:
        raise MatroskaError("an element's size is malformed")
    start = size_at + size_width
    if start > len(data):
        return None
    size = int.from_bytes(data[size_at:start], "big") & ((1 << 7 * size_width) - 1)
    unknown = size == (1 << 7 * size_width) - 1
    return Element(int.from_bytes(data[at:size_at], "big"), start, -1 if unknown else size)


class Splitter:
    """Cuts a live file, as it grows, into its header and its clusters."""

    def __init__(self) -> None:
        self.header = b""
        """All before the first cluster, once that has begun."""
        self._buffer = bytearray()
        self._scanned = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take in more of the file; the clusters that are whole now. Raises ``MatroskaError``."""
        self._buffer += data
        clusters = []
        while (element := read_element(self._buffer, self._scanned)) is not None:
            if element.id == SEGMENT and not self.header:
                self._scanned = element.start
                continue
            if element.size > ELEMENT_BYTES_MAX or element.size < 0:
                raise MatroskaError("an element has no sensible size")
            if element.id == CLUSTER and not self.header:
                self._begin_clusters()
                continue
            if element.end > len(self._buffer):
                break
            if element.id == CLUSTER:
                with memoryview(self._buffer) as view:
                    clusters.append(bytes(view[self._scanned : element.end]))
                self._scanned = element.end
            elif self.header:
                del self._buffer[self._scanned : element.end]  # an index or tags at the end: nothing of the media
            else:
                self._scanned = element.end
            if self.header and self._scanned:
                del self._buffer[: self._scanned]
                self._scanned = 0
        return clusters

    def _begin_clusters(self) -> None:
        self.header = bytes(self._buffer[: self._scanned])
        del self._buffer[: self._scanned]
        self._scanned = 0


class ClusterInfo(NamedTuple):
    """What is known of a cluster without decoding."""

    time_ms: int
    key_ms: int | None
    """Time of the first key frame of the given track in it."""


def read_cluster(cluster: bytes, track: int) -> ClusterInfo:
    """The cluster's time and ``track``'s first key frame in it (track 0: only the time). Raises ``MatroskaError``."""
    outer = read_element(cluster, 0)
    if outer is None or outer.id != CLUSTER:
        raise MatroskaError("not a cluster")
    if outer.size < 0 or outer.end > len(cluster):
        raise MatroskaError("a cluster is cut")
    at, time_ms, key_ms = outer.start, 0, None
    while at < outer.end:
        if (after := _after_other_block(cluster, at, track)) and after <= outer.end:
            at = after
            continue
        element = read_element(cluster, at)
        if element is None or element.size < 0 or element.end > outer.end:
            raise MatroskaError("a cluster is cut")
        if element.id == _TIMESTAMP:
            time_ms = int.from_bytes(cluster[element.start : element.end], "big")
            if not track:
                break
        elif element.id == _SIMPLE_BLOCK and cluster[element.start] == 0x80 | track:
            relative, flags = struct.unpack_from("!hB", cluster, element.start + 1)
            if flags & 0x80:
                key_ms = time_ms + relative
                break
        at = element.end
    return ClusterInfo(time_ms, key_ms)


def _after_other_block(cluster: bytes, at: int, track: int) -> int:
    """Where a simple block ends that is no key frame of the track, which nearly all are; 0: this is something else."""
    if at + 7 > len(cluster) or cluster[at] != _SIMPLE_BLOCK:
        return 0
    first = cluster[at + 1]
    if first & 0x80 and first != 0xFF:
        start, size = at + 2, first & 0x7F
    elif first & 0x40:
        start, size = at + 3, (first & 0x3F) << 8 | cluster[at + 2]
    else:
        return 0
    if size < 4 or size == 0x3FFF or start + 4 > len(cluster):
        return 0
    return start + size if cluster[start] != 0x80 | track or not cluster[start + 3] & 0x80 else 0


class Cue(NamedTuple):
    """A point that a player may jump to."""

    time_ms: int
    cluster_offset: int
    """Of the cluster, in bytes from the first cluster."""


def seekable_front(header: bytes, cues: list[Cue], track: int, clusters_bytes: int, duration_ms: int) -> bytes:
    """The front of the seekable file: to be followed by the run's clusters, ``clusters_bytes`` in all.

    ``header`` is the live file's; its track descriptions are taken over. Raises ``MatroskaError``.
    """
    first = read_element(header, 0)
    if first is None or first.id != EBML:
        raise MatroskaError("not a Matroska header")
    tracks, at = b"", first.end
    while (element := read_element(header, at)) is not None:
        if element.id == TRACKS:
            tracks = header[at : element.end]
        at = element.start if element.id == SEGMENT else element.end
    if not tracks:
        raise MatroskaError("the header describes no tracks")
    info = _element(
        INFO,
        _element(_TIMESTAMP_SCALE, (1_000_000).to_bytes(3, "big"))
        + _element(_DURATION, struct.pack("!d", float(duration_ms)))
        + _element(_MUXING_APP, _APP)
        + _element(_WRITING_APP, _APP),
    )
    head = info + tracks
    # Every point takes the same number of bytes, so where the clusters begin is known before the index is written.
    index_bytes = len(_cues([Cue(0, 0)] * len(cues), track, 0))
    index = _cues(cues, track, len(head) + index_bytes)
    content = len(head) + len(index) + clusters_bytes
    segment = SEGMENT.to_bytes(4, "big") + b"\x01" + content.to_bytes(7, "big")
    return header[: first.end] + segment + head + index


def _cues(cues: list[Cue], track: int, clusters_at: int) -> bytes:
    if not cues:
        return b""
    return _element(
        CUES,
        b"".join(
            _element(
                _CUE_POINT,
                _element(_CUE_TIME, cue.time_ms.to_bytes(6, "big"))
                + _element(
                    _CUE_POSITIONS,
                    _element(_CUE_TRACK, bytes([track]))
                    + _element(_CUE_CLUSTER, (clusters_at + cue.cluster_offset).to_bytes(8, "big")),
                ),
            )
            for cue in cues
        ),
    )


def _element(id_: int, content: bytes) -> bytes:
    size = (1 << 56 | len(content)).to_bytes(8, "big") if len(content) >= 127 else bytes([0x80 | len(content)])
    return id_.to_bytes((id_.bit_length() + 7) // 8, "big") + size + content
