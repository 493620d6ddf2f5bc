"""Objects in an S3 bucket, through boto3, whose calls run in threads.

An object is put with ``If-None-Match: *``, its SHA-256, and, where asked for, a lock; large ones in parts, which carry
their own SHA-256 each, the lock standing on the upload as a whole. The service checks the hashes before it says yes.
Deleting removes every version: a bucket with Object Lock has versions, and refuses while one of them is locked.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from config.objects import (
    ObjectExists,
    ObjectLock,
    ObjectMissing,
    ObjectStoreError,
    checked_key,
)

T = TypeVar("T")

THREADS: Final = 8
PART_BYTES: Final = 8 * 1024 * 1024
"""Objects larger than this are uploaded in parts of this size; S3 wants 5 MiB at least of all but the last."""
SHA256_NAME: Final = "turnpike-sha256"
"""Metadata of every object: what it must be when the same content is put again."""
_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound", "NoSuchVersion"})
_UNVERSIONED: Final = frozenset({"NotImplemented", "501"})
_UNNAMED: Final = "null"
"""The version of what was stored while the bucket had none."""
_EXISTS: Final = frozenset({"PreconditionFailed", "412"})


class S3Store:
    """An ``ObjectStore`` in a bucket, below a prefix."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        client: Any = None,
    ) -> None:
        """``client``: a boto3 client, for tests; otherwise one is made here, once."""
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self._client = client or make_client(endpoint, region)

    async def put(self, key: str, data: bytes, *, sha256: bytes, lock: ObjectLock | None = None) -> None:
        if hashlib.sha256(data).digest() != sha256:
            raise ValueError("object bytes do not match their hash")
        name = self._name(key)
        send = self._put_whole if len(data) <= PART_BYTES else self._put_parts
        try:
            await self._call(key, lambda: send(name, data, sha256, lock))
        except ObjectExists:
            if await self._stored_sha256(key) != sha256:
                raise

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        name = self._name(key)
        wanted: dict[str, str] = {}
        if length == 0:
            await self.size(key)
            return b""
        if start or length is not None:
            wanted["Range"] = f"bytes={start}-" + ("" if length is None else str(start + length - 1))

        def work() -> bytes:
            try:
                return bytes(self._client.get_object(Bucket=self._bucket, Key=name, **wanted)["Body"].read())
            except ClientError as error:
                if _code(error) in ("InvalidRange", "416"):
                    return b""
                raise

        return await self._call(key, work)

    async def size(self, key: str) -> int:
        head = await self._call(key, lambda: self._client.head_object(Bucket=self._bucket, Key=self._name(key)))
        return int(head["ContentLength"])

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        token: dict[str, str] = {}
        while True:
            page = await self._call(
                prefix,
                lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + prefix, **token),  # noqa: B023 - awaited here
            )
            for each in page.get("Contents", ()):
                yield str(each["Key"])[len(self._prefix) :]
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def delete(self, key: str) -> None:
        name = self._name(key)

        def work() -> None:
            versions = list(self._versions(name))
            if set(versions) <= {_UNNAMED}:
                self._delete_one(Key=name)
                versions = list(self._versions(name))  # a bucket that has versions by now keeps that one, and a mark
            for version in versions:
                self._delete_one(Key=name, VersionId=version)

        await self._call(key, work)

    def _delete_one(self, **target: str) -> None:
        """Another may be deleting the same: what is gone is gone."""
        try:
            self._client.delete_object(Bucket=self._bucket, **target)
        except ClientError as error:
            if _code(error) not in _MISSING:
                raise

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _put_whole(self, name: str, data: bytes, sha256: bytes, lock: ObjectLock | None) -> None:
        self._client.put_object(
            Bucket=self._bucket,
            Key=name,
            Body=data,
            IfNoneMatch="*",
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=base64.b64encode(sha256).decode(),
            Metadata={SHA256_NAME: sha256.hex()},
            **_lock_fields(lock),
        )

    def _put_parts(self, name: str, data: bytes, sha256: bytes, lock: ObjectLock | None) -> None:
        target = {"Bucket": self._bucket, "Key": name}
        upload = self._client.create_multipart_upload(
            **target, ChecksumAlgorithm="SHA256", Metadata={SHA256_NAME: sha256.hex()}, **_lock_fields(lock)
        )
        target["UploadId"] = upload["UploadId"]
        try:
            parts = []
            for number, start in enumerate(range(0, len(data), PART_BYTES), 1):
                part = data[start : start + PART_BYTES]
                checksum = base64.b64encode(hashlib.sha256(part).digest()).decode()
                made = self._client.upload_part(**target, PartNumber=number, Body=part, ChecksumSHA256=checksum)
                parts.append({"PartNumber": number, "ETag": made["ETag"], "ChecksumSHA256": checksum})
            self._client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
        except BaseException:
            self._abort(target)
            raise

    def _abort(self, target: dict[str, str]) -> None:
        """Parts of an upload that is not completed cost money, and nothing else shows them."""
        try:
            self._client.abort_multipart_upload(**target)
        except (BotoCoreError, ClientError):
            return  # the bucket's lifecycle rule for unfinished uploads removes them

    def _versions(self, name: str) -> Iterator[str]:
        marks: dict[str, str] = {}
        while True:
            try:
                page = self._client.list_object_versions(Bucket=self._bucket, Prefix=name, **marks)
            except ClientError as error:
                if _code(error) in _UNVERSIONED:
                    return
                raise
            for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                if each["Key"] == name:
                    yield str(each.get("VersionId") or _UNNAMED)
            if not page.get("IsTruncated"):
                return
            marks = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}

    async def _stored_sha256(self, key: str) -> bytes:
        """Of what lies there: read, not believed."""
        return hashlib.sha256(await self.get(key)).digest()

    async def _call(self, key: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except ClientError as error:
            code = _code(error)
            if code in _MISSING:
                raise ObjectMissing(key) from None
            if code in _EXISTS:
                raise ObjectExists(key) from None
            raise ObjectStoreError(f"the bucket refused {key}: {code}") from error
        except (BotoCoreError, OSError) as error:
            raise ObjectStoreError(f"the bucket cannot be reached: {type(error).__name__}: {error}") from error


def make_client(endpoint: str | None, region: str | None, **more: Any) -> Any:
    """A boto3 client as Turnpike uses it. ``more``: credentials, where they are not in boto3's usual places."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region or "us-east-1",
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint else "auto"},
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "max_attempts": 3},
            max_pool_connections=THREADS,
            # Whoever reads here checks the hash of the whole; some services send that of the whole with a range.
            response_checksum_validation="when_required",
        ),
        **more,
    )


def _lock_fields(lock: ObjectLock | None) -> dict[str, Any]:
    if lock is None:
        return {}
    return {
        "ObjectLockMode": lock.mode.upper(),
        "ObjectLockRetainUntilDate": datetime.datetime.fromtimestamp(lock.until_ms / 1000, datetime.UTC),
    }


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
