"""Any range of a file over HTTP, decrypted while it is sent; audited before the first byte, cut short at an erasure."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

from aiohttp import web

from config.database import AWAY
from config.http import REQUEST_ID, ApiError, Call
from config.ids import TenantId
from config.keys import UnknownKey
from config.logs import get_log
from config.objects import ObjectStoreError
from recorder.catalogue import RETRIEVABLE, Recordings
from recorder.errors import SegmentCorrupt
from recorder.playback import PlainCache, RangeBeyond, read_range

log = get_log("recorder.sending")

NO_STORE: Final = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
TOKEN_CHARS_MAX: Final = 100
LOOK_S: Final = 1.0
"""How often it is looked, while bytes flow, whether they may flow on."""

UNREADABLE: Final = "The recording cannot be read just now. It has been logged."


class File(Protocol):
    """What is sent."""

    @property
    def size(self) -> int: ...

    @property
    def content_type(self) -> str: ...

    @property
    def etag(self) -> str: ...

    def read(self, start: int, end: int, cache: PlainCache) -> AsyncIterator[bytes]:
        """The bytes from ``start`` to before ``end``. Raises what reading a recording raises."""
        ...


Span = tuple[int, int] | None
Allowed = Callable[[], Awaitable[bool]]


def while_ready(recordings: Recordings, tenant: TenantId, recording_id: int) -> Allowed:
    """Until the recording is erased or expires, or gets another part. While PostgreSQL is away nobody can erase it."""

    async def is_ready() -> bool:
        try:
            async with recordings.database.transaction(tenant) as connection:
                found = await connection.fetchval(
                    f"select {RETRIEVABLE} from recording where tenant_id = $1 and id = $2",  # noqa: S608 - ours
                    tenant,
                    recording_id,
                )
        except AWAY:
            return True
        return bool(found)

    return is_ready


async def send_file(
    call: Call,
    file: File,
    cache: PlainCache,
    *,
    audit: Callable[[Span], Awaitable[None]],
    refused: Callable[[str], Awaitable[None]],
    allowed: Allowed,
    name: str | None = None,
) -> web.StreamResponse:
    """Answer with the file, or the range that is asked for (RFC 9110 §14).

    ``audit`` is told the range before any byte flows; ``refused`` of one that lies beyond the end. ``allowed``: asked
    again and again while bytes flow. ``name``: what it is saved as, where it is to be saved.
    """
    headers = {**NO_STORE, "Accept-Ranges": "bytes", "Content-Type": file.content_type, "ETag": file.etag}
    if name is not None:
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    condition = call.request.headers.get("If-Range")
    wanted = call.request.headers.get("Range") if condition in (None, file.etag) else None
    try:
        span = read_range(wanted, file.size)
    except RangeBeyond:
        await refused((wanted or "")[:64])
        refusal = ApiError(416, "range_beyond_end", "It ends before that.", size=file.size)
        body = refusal.body(str(call.request.get(REQUEST_ID, "")))
        return web.json_response(body, status=416, headers={**NO_STORE, "Content-Range": f"bytes */{file.size}"})
    start, end = span or (0, file.size)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    headers["Content-Length"] = str(end - start)
    response = web.StreamResponse(status=206 if span is not None else 200, headers=headers)
    if call.request.method == "HEAD":
        await response.prepare(call.request)
        return response
    await audit(span)
    return await _send(call, response, file.read(start, end, cache), allowed)


async def _send(
    call: Call, response: web.StreamResponse, chunks: AsyncIterator[bytes], allowed: Allowed
) -> web.StreamResponse:
    """The bytes. What turns out to be damaged, or is erased, cuts the response short; the first piece is read before it
    begins. Whoever reads slowly is looked at as often as anybody."""
    try:
        first = await anext(chunks, b"")
        await response.prepare(call.request)
        await response.write(first)
        looked_s = time.monotonic()
        async for chunk in chunks:
            if time.monotonic() - looked_s >= LOOK_S:
                if not await allowed():
                    raise ConnectionResetError("the recording is gone")
                looked_s = time.monotonic()
            await response.write(chunk)
    except (SegmentCorrupt, UnknownKey, ObjectStoreError):
        log.fault("cannot read a recording", path=call.request.path)
        if response.prepared:
            raise ConnectionResetError("the recording cannot be read on") from None
        raise ApiError(503, "recording_unreadable", UNREADABLE) from None
    await response.write_eof()
    return response
