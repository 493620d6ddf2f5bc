"""What a grant opens: streams, compositions, thumbnail, waveform, story, manifests. The URL carries it: no sign-in.

So ``<video src>`` plays them. The first use of a grant for each of these is audited before any byte flows.
"""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from config.http import ApiError, Call, Endpoint, endpoint, not_found
from config.ids import UserId
from config.keys import UnknownKey
from config.logs import get_log
from config.objects import ObjectStoreError
from recorder import audit, bundle
from recorder.catalogue import Details, Grant, Recordings
from recorder.errors import SegmentCorrupt
from recorder.playback import PlainCache, StreamFile, open_stream
from recorder.products import Product, newest, open_product, products_of
from recorder.readiness import not_ready
from recorder.sending import NO_STORE, TOKEN_CHARS_MAX, UNREADABLE, File, Span, send_file, while_ready
from recorder.taking import WORDS, may_take
from recorder.views import AccessGrant, PlayableComposition, PlayableView, composition_view, participant_of

log = get_log("recorder.media_api")

_BASE: Final = "/api/v1/recordings/{id}"
_ENDINGS: Final = {"video/mp4": "mp4", "audio/mp4": "m4a"}


class MediaApi:
    """The handlers."""

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings
        self._cache = PlainCache()

    def endpoints(self) -> list[Endpoint]:
        """To be mounted by control."""
        stream, made = _BASE + "/streams/{n}", _BASE + "/compositions/{job}"
        return [
            endpoint("GET", stream, "A stream's bytes (Range)", self.stream, roles=None),
            endpoint("HEAD", stream, "A stream's length and type", self.stream, roles=None),
            endpoint("GET", made, "A composition's bytes (Range)", self.composition, roles=None),
            endpoint("HEAD", made, "A composition's length and type", self.composition, roles=None),
            endpoint("GET", _BASE + "/thumbnail", "A picture of the call", self.thumbnail, roles=None),
            endpoint("GET", _BASE + "/waveform", "How loud everybody is", self.waveform, roles=None),
            endpoint("GET", _BASE + "/story", "Chat and events", self.story, roles=None),
            endpoint("GET", _BASE + "/manifest", "The manifests of its parts", self.manifest, roles=None),
            endpoint(
                "GET", _BASE + "/media", "What the grant opens by now", self.media, roles=None, result=AccessGrant
            ),
        ]

    async def stream(self, call: Call) -> web.StreamResponse:
        grant, recording = await self._granted(call)
        number = call.request.match_info["n"]
        n = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 0
        return await self._send(call, grant, await self._file(recording, n), f"stream {n}", audit.OPENED, stream=n)

    async def composition(self, call: Call) -> web.StreamResponse:
        grant, recording = await self._granted(call)
        wanted = call.request.match_info["job"]
        made = [each for each in await products_of(self._recordings, recording) if each.job == wanted]
        product = next((each for each in made if each.content_type in _ENDINGS), None)
        if product is None:
            raise not_found("composition")
        what = {"composition": product.job, "layout": product.kind}
        if call.request.query.get("download") == "1":
            return await self._taken(call, grant, recording, product, what)
        file = await self._open(recording, product)
        return await self._send(call, grant, file, f"composition {product.n}", audit.OPENED, **what)

    async def _taken(
        self, call: Call, grant: Grant, recording: Details, product: Product, what: dict[str, str]
    ) -> web.StreamResponse:
        """To be saved: for those who may take it, as of now; each time is written down."""
        if not await may_take(self._recordings, recording, grant.user_id):
            await self._recordings.note(_entry(grant, audit.REFUSED, why="download", **what))
            raise ApiError(403, "download_not_allowed", WORDS)

        async def note(span: Span) -> None:
            await self._recordings.note(_entry(grant, audit.COMPOSITION_TAKEN, range=span and list(span), **what))

        file = await self._open(recording, product)
        name = f"{recording.public_id}-{product.kind}.{_ENDINGS[product.content_type]}"
        return await send_file(
            *(call, file, self._cache),
            audit=note,
            refused=lambda wanted: self._beyond(grant, wanted),
            allowed=while_ready(self._recordings, grant.tenant_id, grant.recording_id),
            name=name,
        )

    async def thumbnail(self, call: Call) -> web.StreamResponse:
        return await self._single(call, "thumbnail")

    async def waveform(self, call: Call) -> web.StreamResponse:
        return await self._single(call, "waveform")

    async def _single(self, call: Call, kind: str) -> web.StreamResponse:
        grant, recording = await self._granted(call)
        product = next((p for p in await products_of(self._recordings, recording) if p.kind == kind), None)
        if product is None:
            raise not_found(kind)
        return await self._send(call, grant, await self._open(recording, product), kind, audit.OPENED, opened=kind)

    async def story(self, call: Call) -> web.StreamResponse:
        grant, recording = await self._granted(call)
        await self._note(grant, "story", audit.OPENED, None, opened="story")
        data = b'{"chat":[],"events":[]}'
        if recording.story_key is not None:
            try:
                data = await bundle.read_story(self._recordings, recording, recording.story_key)
            except (SegmentCorrupt, UnknownKey, ObjectStoreError):
                log.fault("cannot read a story", recording=recording.public_id)
                raise ApiError(503, "recording_unreadable", UNREADABLE) from None
        return web.Response(body=data, content_type="application/json", headers=NO_STORE)

    async def manifest(self, call: Call) -> web.StreamResponse:
        grant, recording = await self._granted(call)
        await self._note(grant, "manifest", audit.MANIFEST_READ, None)
        try:
            parts = [json.loads(data) for _, data in await bundle.manifests(self._recordings, recording)]
        except (SegmentCorrupt, ObjectStoreError):
            log.fault("cannot read a manifest", recording=recording.public_id)
            raise ApiError(503, "recording_unreadable", UNREADABLE) from None
        body = {"recording": recording.public_id, "parts": parts, "missing": bundle.missing_of(recording)}
        return web.json_response(body, headers=NO_STORE)

    async def media(self, call: Call) -> AccessGrant:
        """Compositions and previews that were made since the grant was given are in it too."""
        grant, recording = await self._granted(call)
        token = call.request.query["grant"]
        return await granted_view(self._recordings, recording, grant.user_id, token, grant.expires_at_ms)

    async def _send(
        self, call: Call, grant: Grant, file: File, what: str, action: str, **details: Any
    ) -> web.StreamResponse:
        async def note(span: Span) -> None:
            await self._note(grant, what, action, span, **details)

        return await send_file(
            *(call, file, self._cache),
            audit=note,
            refused=lambda wanted: self._beyond(grant, wanted),
            allowed=while_ready(self._recordings, grant.tenant_id, grant.recording_id),
        )

    async def _beyond(self, grant: Grant, wanted: str) -> None:
        await self._recordings.note(_entry(grant, audit.REFUSED, why="range", range=wanted))

    async def _note(self, grant: Grant, what: str, action: str, _span: Span, **details: Any) -> None:
        await self._recordings.open_with(grant, what, _entry(grant, action, **details))

    async def _granted(self, call: Call) -> tuple[Grant, Details]:
        """The grant that the URL carries, and its recording, ready to be played."""
        token = call.request.query.get("grant", "")
        grant = await self._recordings.find_grant(token) if 0 < len(token) <= TOKEN_CHARS_MAX else None
        if grant is None or grant.recording_public_id != call.id("id"):
            if grant is not None:
                await self._recordings.note(_entry(grant, audit.REFUSED, why="other recording"))
            raise ApiError(403, "no_access", "Ask for access to this recording first, and say why.")
        if self._recordings.is_expired(grant):
            await self._recordings.note(_entry(grant, audit.REFUSED, why="expired"))
            raise ApiError(403, "access_expired", "Your access has expired. Ask for it again.")
        recording = await self._recordings.find(grant.tenant_id, grant.recording_public_id)
        if recording is None:
            raise not_found("recording")
        if not recording.retrievable:
            raise not_ready(recording)
        return grant, recording

    async def _file(self, recording: Details, n: int) -> StreamFile:
        try:
            file = await open_stream(self._recordings, recording, n)
        except (SegmentCorrupt, UnknownKey):
            log.fault("cannot open a recording", recording=recording.public_id, stream=n)
            raise ApiError(503, "recording_unreadable", UNREADABLE) from None
        if file is None:
            raise not_found("stream")
        return file

    async def _open(self, recording: Details, product: Product) -> File:
        try:
            return await open_product(self._recordings, recording, product)
        except UnknownKey:
            log.fault("cannot open a recording", recording=recording.public_id, product=product.n)
            raise ApiError(503, "recording_unreadable", UNREADABLE) from None


async def granted_view(
    recordings: Recordings, recording: Details, user_id: UserId, token: str, expires_at_ms: int
) -> AccessGrant:
    """All that a user's grant opens, as URLs that carry it."""
    base, grant = f"/api/v1/recordings/{recording.public_id}", f"?grant={token}"
    made = newest(await products_of(recordings, recording))
    kinds = {product.kind for product in made}
    return AccessGrant(
        expires_at_ms=expires_at_ms,
        may_download=await may_take(recordings, recording, user_id),
        streams=[
            PlayableView(
                n=stream.n,
                participant_id=participant_of(recording, stream),
                url=f"{base}/streams/{stream.n}{grant}",
                content_type=stream.content_type,
                offset_ms=stream.start_ms - recording.started_at_ms,
                duration_ms=stream.end_ms - stream.start_ms,
            )
            for stream in recording.streams
        ],
        manifest_url=f"{base}/manifest{grant}",
        story_url=f"{base}/story{grant}",
        media_url=f"{base}/media{grant}",
        thumbnail_url=f"{base}/thumbnail{grant}" if "thumbnail" in kinds else None,
        waveform_url=f"{base}/waveform{grant}" if "waveform" in kinds else None,
        compositions=[
            PlayableComposition(
                **composition_view(product).model_dump(), url=f"{base}/compositions/{product.job}{grant}"
            )
            for product in made
            if product.content_type in _ENDINGS
        ],
    )


def _entry(grant: Grant, action: str, **details: Any) -> audit.NewEntry:
    return audit.NewEntry(
        grant.tenant_id,
        grant.user_id,
        grant.actor,
        action,
        grant.recording_public_id,
        None,
        {"grant": grant.grant_id, **details},
    )
