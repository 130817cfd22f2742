"""Raw bytes of documents in an S3 bucket; an object is complete and durable, or missing."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import obstore
from obstore import exceptions

from chassis.base.errors import UnavailableError
from ingest.buckets import Bucket
from ingest.objects.keys import KEY_DEPTH, Count, Stored, check_content, missing_error, split_key

# The smallest part of an upload in parts: more is in memory of each upload that runs.
PART_BYTES: Final = 5 << 20


class BucketObjects:
    """Objects under keys `<tenant>/<document>/<version>`, see `ingest.objects.keys`.

    Every method raises `InvalidInputError` `OBJECT_KEY_INVALID` for any other key, and
    `UnavailableError` `STORAGE_UNAVAILABLE`.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def put(
        self, key: str, content: bytes | AsyncIterator[bytes], *, max_bytes: int
    ) -> Stored:
        """Write an object; when this returns, the server has stored it. A repeat overwrites it.

        Readers see the old object or the new one, never a part. A write that is given up after
        `PART_BYTES` leaves parts in the bucket that are no object; its lifecycle rule removes them.

        Raises:
            InvalidInputError: `DOCUMENT_TOO_LARGE`, more than `max_bytes`.
        """
        split_key(key)
        count, run, store = Count(max_bytes), self._bucket.run, self._bucket.store
        if isinstance(content, bytes):
            count.add(content)
            with _translate_errors():
                await run(obstore.put, store, key, content, use_multipart=False)
            return count.stored
        with _translate_errors():
            writer = await run(
                obstore.open_writer, store, key, buffer_size=PART_BYTES, max_concurrency=1
            )
        # Not closed if the content ends early: closing would make the part an object.
        async for piece in content:
            count.add(piece)
            with _translate_errors():
                await run(writer.write, piece)
        with _translate_errors():
            await run(writer.close)
        return count.stored

    async def read(self, key: str, *, sha256: str) -> bytes:
        """All bytes of an object.

        Raises:
            NotFoundError: `OBJECT_MISSING`.
            DataLossError: `OBJECT_CORRUPT`, the bytes do not match `sha256` (hex).
        """
        split_key(key)
        with _translate_errors():
            content = await self._bucket.run(self._read, key)
        if content is None:
            raise missing_error(key)
        return check_content(content, key, sha256)

    async def delete(self, key: str) -> None:
        """Remove an object; a missing one is not an error."""
        split_key(key)
        with _translate_errors():
            await self._bucket.run(self._delete, key)

    async def list(self, prefix: str = "") -> Sequence[str]:
        """Keys below `<tenant>/<document>`, below `<tenant>` or all, in order."""
        if prefix:
            split_key(prefix, range(1, KEY_DEPTH))
        with _translate_errors():
            return await self._bucket.run(self._list, prefix)

    def _read(self, key: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._bucket.store, key).bytes())
        except (exceptions.NotFoundError, FileNotFoundError):
            return None

    def _delete(self, key: str) -> None:
        try:
            obstore.delete(self._bucket.store, key)
        except (exceptions.NotFoundError, FileNotFoundError):
            return

    def _list(self, prefix: str) -> Sequence[str]:
        found: Any = obstore.list(self._bucket.store, prefix or None)
        return sorted(str(one["path"]) for batch in found for one in batch)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (exceptions.BaseError, OSError) as error:
        # The library's message may contain the address of the server.
        raise UnavailableError(
            "STORAGE_UNAVAILABLE", "the bucket does not answer, or refuses; check AWS_*"
        ) from error
