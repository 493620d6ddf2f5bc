"""What was made of a recording: compositions, thumbnail, waveform. Stored in sealed chunks, read back, then noted.

A product is named like stream ``n`` of epoch 0, its chunks like segments; beside them lies a signed statement with the
hash of every chunk and of the whole. All of it can be made again, so it is not locked; it goes with the recording.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from config.clock import Clock
from config.keys import SigningKey
from recorder.catalogue import Details, Recordings
from recorder.errors import SegmentCorrupt
from recorder.finish import read_object
from recorder.playback import CHUNK_BYTES, PlainCache
from recorder.segments import PRODUCT_EPOCH, Name, Sealer, part_prefix
from recorder.signed import PRODUCT_FORMAT, envelope

PIECE_BYTES: Final = 4 * 1024 * 1024
PIECES_MAX: Final = 20_000


class Piece(NamedTuple):
    """One stored chunk."""

    size: int
    """Of the plaintext."""
    sha256: bytes
    """Of the object."""


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """Something that is stored."""

    n: int
    job: str
    kind: str
    content_type: str
    width: int
    height: int
    duration_ms: int
    size: int
    sha256: bytes
    pieces: list[Piece]


def piece_name(recording: Details, n: int, index: int) -> Name:
    """The name of a product's chunk."""
    return Name(recording.tenant_id, recording.public_id, PRODUCT_EPOCH, n, index)


class ProductWriter:
    """Takes a product's bytes in order, but for its first piece, which may be changed until the end."""

    def __init__(self, recordings: Recordings, recording: Details, sealer: Sealer, n: int) -> None:
        self._recordings = recordings
        self._recording = recording
        self._sealer = sealer
        self._n = n
        self._pieces: dict[int, Piece] = {}

    async def store(self, index: int, data: bytes) -> None:
        """Seal and store a piece. Raises ``ObjectStoreError``."""
        if index >= PIECES_MAX:
            raise SegmentCorrupt("a product grew beyond all bounds")
        name = piece_name(self._recording, self._n, index)
        sealed = self._sealer.seal(name, data)
        sha256 = hashlib.sha256(sealed).digest()
        await self._recordings.objects.put(name.key, sealed, sha256=sha256)
        self._pieces[index] = Piece(len(data), sha256)

    async def finish(self, key: SigningKey, clock: Clock, job: str, about: dict[str, Any]) -> dict[str, Any]:
        """Read all back, check it, store the signed statement: the columns of the product's row."""
        pieces = [self._pieces[index] for index in range(len(self._pieces))]
        digest = hashlib.sha256()
        for index, piece in enumerate(pieces):
            name = piece_name(self._recording, self._n, index)
            digest.update(await read_object(self._recordings.objects, self._sealer, name, name.key, piece.sha256, None))
        size = sum(piece.size for piece in pieces)
        root = self._recording.root_sha256
        statement = {
            **{"tenant": self._recording.tenant_id, "recording": self._recording.public_id, "n": self._n, "job": job},
            **about,
            **{"bytes": size, "sha256": digest.hexdigest(), "made_at_ms": clock.wall_ms()},
            "root_sha256": None if root is None else root.hex(),
            "pieces": [
                {"key": piece_name(self._recording, self._n, index).key, "sha256": piece.sha256.hex()}
                for index, piece in enumerate(pieces)
            ],
        }
        data = envelope(key, PRODUCT_FORMAT, statement)
        prefix = part_prefix(self._recording.tenant_id, self._recording.public_id, PRODUCT_EPOCH)
        statement_key = f"{prefix}{self._n:02d}-product.json"
        await self._recordings.objects.put(statement_key, data, sha256=hashlib.sha256(data).digest())
        chunks = json.dumps([[piece.size, piece.sha256.hex()] for piece in pieces])
        sums = {"bytes": size, "sha256": digest.digest(), "chunks": chunks, "statement_key": statement_key}
        return {"n": self._n, **about, **sums}


BUNDLE: Final = "bundle"
"""The documents of an export: for who asked for it, and never played."""


async def products_of(recordings: Recordings, recording: Details) -> list[Product]:
    """All that stands and is played, newest first."""
    return await _stored(recordings, recording, None)


async def documents_of(recordings: Recordings, recording: Details, job: str) -> Product | None:
    """The documents of an export; None: it is not done."""
    return next(iter(await _stored(recordings, recording, job)), None)


async def _stored(recordings: Recordings, recording: Details, job: str | None) -> list[Product]:
    async with recordings.database.transaction(recording.tenant_id) as connection:
        rows = await connection.fetch(
            "select p.n, j.public_id as job, p.kind, p.content_type, p.width, p.height, p.duration_ms, p.bytes as size,"
            " p.sha256, p.chunks from recording_product p"
            " join recording_job j on j.tenant_id = p.tenant_id and j.id = p.job_id"
            " where p.tenant_id = $1 and p.recording_id = $2 and j.state = 'done'"
            " and case when $3::text is null then p.kind <> $4 else j.public_id = $3 end order by p.n desc limit 100",
            recording.tenant_id,
            recording.id,
            job,
            BUNDLE,
        )
    out = []
    for row in rows:
        values = dict(row)
        pieces = [Piece(size, bytes.fromhex(sha256)) for size, sha256 in json.loads(values.pop("chunks"))]
        out.append(Product(**values, pieces=pieces))
    return out


def newest(products: Sequence[Product]) -> list[Product]:
    """The newest of each kind."""
    kinds: dict[str, Product] = {}
    for product in products:
        kinds.setdefault(product.kind, product)
    return list(kinds.values())


class ProductFile:
    """A product's bytes, any range of them."""

    def __init__(self, recordings: Recordings, recording: Details, product: Product, sealer: Sealer) -> None:
        self.size = product.size
        self.content_type = product.content_type
        self.etag = f'"{product.sha256.hex()}"'
        self._recordings = recordings
        self._recording = recording
        self._product = product
        self._sealer = sealer
        self._starts = [0, *accumulate(piece.size for piece in product.pieces)]

    async def read(self, start: int, end: int, cache: PlainCache) -> AsyncIterator[bytes]:
        """The bytes from ``start`` to before ``end``. Raises ``SegmentCorrupt``, ``ObjectStoreError``."""
        index = bisect.bisect_right(self._starts, start) - 1
        while start < end:
            plaintext = await self._plaintext(index, cache)
            first, stop = self._starts[index], min(end, self._starts[index + 1])
            while start < stop:
                size = min(CHUNK_BYTES, stop - start)
                yield plaintext[start - first : start - first + size]
                start += size
            index += 1

    async def _plaintext(self, index: int, cache: PlainCache) -> bytes:
        name, piece = piece_name(self._recording, self._product.n, index), self._product.pieces[index]
        plaintext = cache.get(name.key)
        if plaintext is None:
            plaintext = await read_object(self._recordings.objects, self._sealer, name, name.key, piece.sha256, None)
            cache.put(name.key, plaintext)
        if len(plaintext) != piece.size:
            raise SegmentCorrupt(f"{name.key} has another length than was catalogued")
        return plaintext


async def open_product(recordings: Recordings, recording: Details, product: Product) -> ProductFile:
    """A product's file. Raises ``UnknownKey``."""
    return ProductFile(recordings, recording, product, await recordings.sealer(recording))
