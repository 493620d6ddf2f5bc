"""The spool: the recorder's write-ahead log, one encrypted append-only file per recorded stream.

A worker writes ``{spool_dir}/{recording_public_id}/{epoch}/`` and the recorder of the same host follows it:

- ``lock``: the worker holds ``flock`` on it while it writes; when the process dies, the kernel lets go.
- ``part.json``: what the part belongs to (``PartHeader``), written whole before the first media.
- ``0001.spool``, ``0002.spool``, …: one per stream, each starting with a ``track`` event.
- ``closed``: an empty file made last, on an orderly end only.

Read ``format`` (what the bytes mean and why nobody can alter them unseen), then ``writer`` (never in the way of the
call), then ``reader`` (follows files that grow, forgives a torn tail and nothing else).
"""

from relay.spool.format import (
    FORMAT_VERSION,
    PartHeader,
    PartParticipant,
    Record,
    RtpRecord,
    SenderReportRecord,
    SpoolCorrupt,
    SpoolError,
    SpoolTrack,
    TrackEventRecord,
)
from relay.spool.reader import SpoolPartReader, UnwrapKey, find_parts, open_part
from relay.spool.writer import SpoolPart, SpoolStream, SpoolTrouble, SpoolWriter

__all__ = [
    "FORMAT_VERSION",
    "PartHeader",
    "PartParticipant",
    "Record",
    "RtpRecord",
    "SenderReportRecord",
    "SpoolCorrupt",
    "SpoolError",
    "SpoolPart",
    "SpoolPartReader",
    "SpoolStream",
    "SpoolTrack",
    "SpoolTrouble",
    "SpoolWriter",
    "TrackEventRecord",
    "UnwrapKey",
    "find_parts",
    "open_part",
]
