"""``messages`` as the JSON that crosses the bus."""

from __future__ import annotations

import msgspec

from relay.messages import Command, Event, Message, Reply
from relay.messages_status import WorkerStatus

_encoder = msgspec.json.Encoder()
_command: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_reply: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
_event: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_status = msgspec.json.Decoder(WorkerStatus)


def encode(message: Message) -> bytes:
    """JSON bytes of any message."""
    return _encoder.encode(message)


def decode_command(data: bytes) -> Command:
    """Raises ``msgspec.DecodeError`` (or its ``ValidationError``) on anything malformed, as do the others."""
    return _command.decode(data)


def decode_reply(data: bytes) -> Reply:
    """The reply in ``data``."""
    return _reply.decode(data)


def decode_event(data: bytes) -> Event:
    """The media event in ``data``."""
    return _event.decode(data)


def decode_status(data: bytes) -> WorkerStatus:
    """The worker status in ``data``."""
    return _status.decode(data)
