"""Which object stores the settings name. boto3 is loaded only where a bucket is named."""

from __future__ import annotations

from urllib.parse import urlsplit

from config.objects import DirectoryStore, ObjectStore
from config.settings import Settings


def store_at(url: str, settings: Settings) -> ObjectStore:
    """The store that ``s3://bucket/prefix`` names. Raises ValueError for anything else."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise ValueError("an object store is named s3://bucket/prefix")
    from config.objects_s3 import S3Store

    return S3Store(parts.netloc, parts.path, endpoint=settings.objects_endpoint, region=settings.objects_region)


def open_objects(settings: Settings) -> ObjectStore:
    """Where this installation keeps recordings. Raises ValueError where locks are asked of a directory."""
    if settings.objects is not None:
        return store_at(settings.objects, settings)
    if settings.object_lock != "none":
        raise ValueError("TURNPIKE_OBJECT_LOCK needs TURNPIKE_OBJECTS: a directory cannot lock its files")
    return DirectoryStore(settings.objects_dir)


def open_keys(settings: Settings) -> ObjectStore:
    """Where this installation keeps the wrapped keys of recordings."""
    return DirectoryStore(settings.data) if settings.keys is None else store_at(settings.keys, settings)
