"""Every object store keeps the same promises: directory, a bucket of moto's, one of rclone's, and a real one on demand.

moto checks no signatures and no locks on multipart uploads, rclone knows neither locks nor versions nor
``If-None-Match``: each store is asked for what it can do, and what is sent to S3 is looked at on the way.
``TURNPIKE_TEST_OBJECTS=s3://bucket/prefix`` (with Object Lock, and boto3's usual credentials) runs it on a real bucket.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import os
import secrets
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from config import objects
from config.objects import (
    HALF_WRITTEN_S,
    DirectoryStore,
    LockUnsupported,
    ObjectExists,
    ObjectLock,
    ObjectMissing,
    ObjectStore,
    ObjectStoreError,
    remove_half_written,
)
from config.objects_open import open_objects, store_at
from config.objects_s3 import PART_BYTES, S3Store, make_client
from config.settings import Settings

SECRETS = {"aws_access_key_id": "turnpike", "aws_secret_access_key": "a-secret-of-the-tests"}
REAL = os.environ.get("TURNPIKE_TEST_OBJECTS")
BIG = bytes(range(256)) * (PART_BYTES // 256) + b"and a little more"


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def moto_client(moto_url: str) -> Any:
    client = make_client(moto_url, None, **SECRETS)
    with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    return client


@contextlib.asynccontextmanager
async def rclone(directory: Path) -> AsyncIterator[str]:
    """``rclone serve s3``: it checks signatures."""
    program = Path(sysconfig.get_path("scripts")) / "rclone"
    (directory / "bucket").mkdir(parents=True)
    log = directory.parent / "rclone.log"
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - begins at once
            [program, "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", ",".join(SECRETS.values()), directory],
            stderr=file,
            env={**os.environ, "RCLONE_CONFIG": "/dev/null"},
        )
    try:
        until = time.monotonic() + 30
        while b"http://" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        yield "http://" + log.read_text().split("http://", 1)[1].split("/", 1)[0].split()[0]
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=["directory", "moto", "rclone", *(["real"] if REAL else [])])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """An empty store of each kind."""
    prefix = f"tests/{secrets.token_hex(6)}"
    match request.param:
        case "directory":
            yield DirectoryStore(tmp_path / "objects")
        case "moto":
            yield S3Store("locked", prefix, client=request.getfixturevalue("moto_client"))
        case "rclone":
            async with rclone(tmp_path / "rclone") as url:
                yield S3Store("bucket", prefix, client=make_client(url, None, **SECRETS))
        case _:
            yield store_at(f"{REAL}/{prefix}", Settings())


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


async def put(store: ObjectStore, key: str, data: bytes) -> None:
    await store.put(key, data, sha256=sha(data))


async def test_what_was_put_is_got_whole_and_in_ranges(store: ObjectStore) -> None:
    for key, data in (("a/one.seg", b"0123456789"), ("a/b/two", b""), ("big", BIG)):
        await put(store, key, data)
        assert await store.get(key) == data
        assert await store.size(key) == len(data)
    assert await store.get("a/one.seg", 3) == b"3456789"
    assert await store.get("a/one.seg", 3, 4) == b"3456"
    assert await store.get("a/one.seg", 8, 100) == b"89"
    assert await store.get("a/one.seg", 100) == b""
    assert await store.get("a/one.seg", 2, 0) == b""
    assert await store.get("big", PART_BYTES - 2, 5) == BIG[PART_BYTES - 2 :][:5]


async def test_missing_objects_are_told_as_missing(store: ObjectStore) -> None:
    for work in (store.get("nothing"), store.size("nothing"), store.get("nothing", 2, 3)):
        with pytest.raises(ObjectMissing):
            await work
    await store.delete("nothing")


async def test_keys_are_listed_in_order_below_a_prefix(store: ObjectStore) -> None:
    for key in ("r/2/b", "r/1/a", "r/1/c", "s/1"):
        await put(store, key, b"x")
    assert [key async for key in store.keys("r/1/")] == ["r/1/a", "r/1/c"]
    assert [key async for key in store.keys("")] == ["r/1/a", "r/1/c", "r/2/b", "s/1"]
    assert [key async for key in store.keys("t/")] == []


async def test_deleted_objects_are_gone(store: ObjectStore) -> None:
    await put(store, "a/one", b"x")
    await store.delete("a/one")
    await store.delete("a/one")
    with pytest.raises(ObjectMissing):
        await store.get("a/one")


@pytest.mark.parametrize("data", [b"first", BIG], ids=["whole", "parts"])
async def test_an_object_is_never_overwritten(store: ObjectStore, request: pytest.FixtureRequest, data: bytes) -> None:
    await put(store, "a/one", data)
    if "rclone" in request.node.name:
        return  # knows no If-None-Match
    await put(store, "a/one", data)  # again the same: fine
    with pytest.raises(ObjectExists):
        await put(store, "a/one", data + b"!")
    assert await store.get("a/one") == data


async def test_bytes_that_do_not_match_their_hash_are_not_stored(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match="hash"):
        await store.put("a/one", b"data", sha256=sha(b"other"))
    with pytest.raises(ObjectMissing):
        await store.get("a/one")


@pytest.mark.parametrize("key", ["", "../x", "/x", "a//b", "a/../b", ".x", "a b", "x" * 600])
async def test_malformed_keys_are_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError):
        await put(store, key, b"x")


@pytest.mark.parametrize("data", [b"small", BIG], ids=["whole", "parts"])
async def test_locks_hashes_and_signature_are_in_the_requests(moto_client: Any, data: bytes) -> None:
    sent: list[tuple[str, str, dict[str, str]]] = []

    def note(request: Any, **_: Any) -> None:
        text = {k.lower(): v.decode() if isinstance(v, bytes) else str(v) for k, v in request.headers.items()}
        sent.append((request.method, request.url, text))

    moto_client.meta.events.register("before-send.s3", note)
    store = S3Store("locked", f"tests/{secrets.token_hex(6)}", client=moto_client)
    until = datetime.datetime(2031, 11, 20, tzinfo=datetime.UTC)
    lock = ObjectLock("compliance", int(until.timestamp() * 1000))
    await store.put("a/one", data, sha256=sha(data), lock=lock)
    first, last = sent[0], sent[-1]
    assert first[2]["x-amz-object-lock-mode"] == "COMPLIANCE"
    assert first[2]["x-amz-object-lock-retain-until-date"].startswith("2031-11-20T00:00:00")
    assert last[2]["if-none-match"] == "*"
    for method, url, headers in sent:
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256")
        if method == "PUT":
            assert len(headers["x-amz-checksum-sha256"]) == 44, url
    assert len(sent) == (1 if data == b"small" else 4)
    if data == BIG:
        assert first[2]["x-amz-checksum-algorithm"] == "SHA256"
    else:
        head = moto_client.head_object(Bucket="locked", Key=store._name("a/one"))
        assert head["ObjectLockMode"] == "COMPLIANCE"
        with pytest.raises(ObjectStoreError):
            await store.delete("a/one")
        assert await store.get("a/one") == data


async def test_what_was_stored_before_a_bucket_had_versions_is_deleted_as_well(moto_client: Any) -> None:
    moto_client.create_bucket(Bucket="later")
    store = S3Store("later", client=moto_client)
    for key in ("a", "ab", "c"):
        await put(store, key, b"x")
    await store.delete("c")
    moto_client.put_bucket_versioning(Bucket="later", VersioningConfiguration={"Status": "Enabled"})
    await store.delete("a")
    moto_client.delete_object(Bucket="later", Key="ab")
    found = moto_client.list_object_versions(Bucket="later")
    assert [each["Key"] for each in found["Versions"]] == ["ab"]
    await store.delete("ab")
    found = moto_client.list_object_versions(Bucket="later")
    assert not found.get("Versions")
    assert not found.get("DeleteMarkers")


async def test_two_who_delete_the_same_at_once_both_succeed(moto_client: Any) -> None:
    class Racing:
        """Somebody else is always a moment quicker."""

        def __getattr__(self, name: str) -> Any:
            return getattr(moto_client, name)

        def delete_object(self, **target: str) -> None:
            moto_client.delete_object(**target)
            raise ClientError({"Error": {"Code": "NoSuchVersion"}}, "DeleteObject")

    client = Racing()
    store = S3Store("locked", secrets.token_hex(4), client=client)
    await put(store, "a/b", b"content")
    await store.delete("a/b")
    with pytest.raises(ObjectMissing):
        await store.get("a/b")


async def test_a_directory_refuses_to_promise_locks(tmp_path: Path) -> None:
    lock = ObjectLock("governance", 2_000_000_000_000)
    with pytest.raises(LockUnsupported):
        await DirectoryStore(tmp_path).put("a", b"x", sha256=sha(b"x"), lock=lock)
    with pytest.raises(ValueError, match="TURNPIKE_OBJECT_LOCK"):
        open_objects(Settings(data=tmp_path, object_lock="compliance"))


async def test_what_a_killed_writer_left_half_written_goes_after_an_hour(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    await put(store, "a/b", b"whole")
    old, young = (tmp_path / "a" / f".{name}.part" for name in ("0123", "4567"))
    for path in (old, young):
        path.write_bytes(b"half")
    past = time.time() - HALF_WRITTEN_S - 10
    for path in (old, tmp_path / "a" / "b"):
        os.utime(path, (past, past))
    assert remove_half_written(tmp_path, tmp_path / "missing") == 1
    assert (old.exists(), young.exists(), await store.get("a/b")) == (False, True, b"whole")


async def test_deleting_is_durable_and_takes_a_killed_writers_second_name_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(tmp_path)
    for name in ("a", "b"):
        await store.put(f"keys/1/{name}.key", name.encode(), sha256=hashlib.sha256(name.encode()).digest())
    key, other = tmp_path / "keys/1/a.key", tmp_path / "keys/1/.half.part"
    (tmp_path / "keys/1/.killed.part").hardlink_to(key)
    other.write_bytes(b"h")
    synced: list[tuple[Path, bool]] = []
    monkeypatch.setattr(objects, "_sync_directory", lambda path: synced.append((path, key.exists())))
    await store.delete("keys/1/a.key")
    assert sorted(path.name for path in (tmp_path / "keys/1").iterdir()) == [".half.part", "b.key"]
    assert synced == [(tmp_path / "keys/1", False)]
    await store.delete("keys/1/a.key")  # who was killed between the two does the rest
    assert len(synced) == 2
    await store.delete("keys/2/none.key")


async def test_what_cannot_be_deleted_is_told_as_the_stores_fault(tmp_path: Path) -> None:
    (tmp_path / "keys" / "a").mkdir(parents=True)
    with pytest.raises(ObjectStoreError, match="cannot delete a"):
        await DirectoryStore(tmp_path).delete("keys/a")


async def test_a_wrong_signature_and_a_store_that_is_away_are_told_as_such(tmp_path: Path) -> None:
    async with rclone(tmp_path / "rclone") as url:
        wrong = make_client(url, None, **{**SECRETS, "aws_secret_access_key": "another"})
        with pytest.raises(ObjectStoreError):
            await put(S3Store("bucket", client=wrong), "a", b"x")
        async with aiohttp.ClientSession() as session, session.get(f"{url}/bucket/a") as answer:  # unsigned
            assert answer.status in (400, 403)
    away = S3Store("bucket", client=make_client(url, None, **SECRETS))
    for work in (put(away, "a", b"x"), away.get("a")):
        with pytest.raises(ObjectStoreError):
            await work


def test_settings_name_the_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_objects(Settings(data=tmp_path)), DirectoryStore)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("TURNPIKE_OBJECTS", "s3://bucket/some/prefix")
    assert isinstance(open_objects(Settings(data=tmp_path)), S3Store)
    for wrong in ("file:///x", "s3://", "bucket"):
        with pytest.raises(ValueError, match="s3://"):
            store_at(wrong, Settings())
