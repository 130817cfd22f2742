"""Reads references to objects in S3 buckets."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import obstore
from obstore import exceptions

from chassis.base.errors import NotFoundError, UnavailableError
from ingest.buckets import Bucket
from ingest.references.origins import Origins, forbidden_error

PIECE_BYTES: Final = 256 * 1024


class BucketReader:
    """Reads `s3://bucket/key` of the open buckets; `time_limit_s` bounds one read as a whole."""

    def __init__(
        self, origins: Origins, buckets: Mapping[str, Bucket], *, time_limit_s: float
    ) -> None:
        self._origins = origins
        self._buckets = buckets
        self._time_limit_s = time_limit_s

    def check(self, uri: str) -> None:
        """Checks that an address is open; connects to nothing.

        Raises:
            InvalidInputError: REFERENCE_FORBIDDEN.
        """
        self._origins.read_object(uri)

    async def read(self, uri: str) -> AsyncGenerator[bytes]:
        """The bytes of an object, piece by piece.

        Raises:
            InvalidInputError: REFERENCE_FORBIDDEN.
            NotFoundError: REFERENCE_MISSING.
            UnavailableError: REFERENCE_UNAVAILABLE.
        """
        name, key = self._origins.read_object(uri)
        bucket = self._buckets[name]
        deadline = asyncio.get_running_loop().time() + self._time_limit_s
        with _translate_errors(name):
            async with asyncio.timeout_at(deadline):
                found = await bucket.run(obstore.get, bucket.store, key)
        pieces = iter(found.stream(min_chunk_size=PIECE_BYTES))
        while True:
            with _translate_errors(name):
                async with asyncio.timeout_at(deadline):
                    piece = await bucket.run(next, pieces, None)
            if piece is None:
                return
            yield bytes(piece)


@contextmanager
def _translate_errors(bucket: str) -> Iterator[None]:
    try:
        yield
    except (exceptions.InvalidPathError, ValueError) as error:
        raise forbidden_error("the key is not one of an object") from error
    except (exceptions.NotFoundError, FileNotFoundError) as error:
        raise NotFoundError("REFERENCE_MISSING", "the bucket has no such object") from error
    except (
        exceptions.PermissionDeniedError,
        exceptions.UnauthenticatedError,
        PermissionError,
    ) as error:
        raise NotFoundError(
            "REFERENCE_MISSING", "ingest may not read the object; operators check AWS_*"
        ) from error
    except (exceptions.BaseError, TimeoutError) as error:
        # The library's message may contain the address of the operator's server.
        raise UnavailableError(
            "REFERENCE_UNAVAILABLE", f"the bucket {bucket} does not answer"
        ) from error
