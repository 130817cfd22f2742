"""Opens the object store that the setting names."""

import asyncio
import re
from pathlib import Path
from typing import Final

from chassis.base.errors import FailedPreconditionError
from ingest.buckets import open_bucket
from ingest.objects.bucket import BucketObjects
from ingest.objects.local import LocalObjects

_BUCKET: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9/._-]*?))?/?")


async def open_objects(url: str) -> LocalObjects | BucketObjects:
    """Opens a folder, which is created if its parent exists, or `s3://bucket/prefix`.

    Raises:
        FailedPreconditionError: OBJECTS_URL_INVALID, BUCKET_INVALID.
        OverloadedError: STORAGE_FULL.
        UnavailableError: STORAGE_UNAVAILABLE.
    """
    if found := _BUCKET.fullmatch(url):
        return BucketObjects(open_bucket(found[1], found[2] or ""))
    if "://" in url:
        raise FailedPreconditionError(
            "OBJECTS_URL_INVALID",
            f"AQUIFER_OBJECTS_URL: write a folder or s3://bucket/prefix, not {url}",
            found=url,
        )
    folder = Path(url)
    await asyncio.to_thread(folder.mkdir, mode=0o700, exist_ok=True)
    objects = LocalObjects(folder)
    await objects.delete_unfinished()
    return objects
