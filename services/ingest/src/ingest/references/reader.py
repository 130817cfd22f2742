"""Reads a reference with the reader of its scheme."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Final, Protocol

from typing_extensions import override

from chassis.base.errors import DataLossError, InvalidInputError
from ingest.buckets import open_bucket
from ingest.domain import Reference
from ingest.references.bucket import BucketReader
from ingest.references.folder import DropsFolder
from ingest.references.origins import SETTING, Origins, split_setting
from ingest.references.web import WebReader
from ingest.usecases.ports import References

FILE: Final = "file"
URI_MAX_CHARS: Final = 2_048


# Of one fetch as a whole: 64 MiB at 220 KiB/s.
TIME_LIMIT_S: Final = 300.0


class Reader(Protocol):
    """Reads the addresses of a scheme."""

    def check(self, uri: str) -> object:
        """Check that an address may be read, without reading it.

        Raises:
            InvalidInputError: REFERENCE_FORBIDDEN.
        """

    def read(self, uri: str) -> AsyncGenerator[bytes]:
        """The bytes at an address, piece by piece.

        Raises, at the first piece or later:
            InvalidInputError: REFERENCE_FORBIDDEN.
            NotFoundError: REFERENCE_MISSING.
            UnavailableError: REFERENCE_UNAVAILABLE, DROPS_UNAVAILABLE.
        """


class ReferenceReader(References):
    """See `References`; a scheme without a reader is off."""

    def __init__(self, readers: Mapping[str, Reader]) -> None:
        self._readers = readers

    @override
    def check(self, reference: Reference) -> None:
        if len(reference.uri) > URI_MAX_CHARS:
            raise InvalidInputError(
                "REFERENCE_INVALID",
                f"send a uri of at most {URI_MAX_CHARS} characters",
                max_chars=URI_MAX_CHARS,
            )
        self._find(reference).check(reference.uri)

    @override
    def is_remote(self, reference: Reference) -> bool:
        return _scheme(reference.uri) != FILE

    @override
    async def read(self, reference: Reference) -> AsyncGenerator[bytes]:
        left = reference.size_bytes
        async with aclosing(self._find(reference).read(reference.uri)) as pieces:
            async for piece in pieces:
                left -= len(piece)
                if left < 0:
                    raise DataLossError(
                        "REFERENCE_MISMATCH",
                        f"the content has more than the {reference.size_bytes} bytes of the"
                        " reference; publish its real size and checksum under a new id",
                        size_bytes=reference.size_bytes,
                    )
                yield piece

    def _find(self, reference: Reference) -> Reader:
        reader = self._readers.get(_scheme(reference.uri))
        if reader is None:
            allowed = ", ".join(f"{scheme}://" for scheme in sorted(self._readers)) or "none"
            raise InvalidInputError(
                "REFERENCE_SCHEME",
                f"references may begin with: {allowed}; operators open others with"
                f" AQUIFER_DROPS_DIR (file://) or {SETTING}",
                allowed=allowed,
            )
        return reader


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].lower()


def open_references(drops_dir: Path | None, origins: str, private_hosts: str) -> ReferenceReader:
    """The readers of the schemes that the settings open.

    Raises:
        FailedPreconditionError: REFERENCE_ORIGIN_INVALID, BUCKET_INVALID.
    """
    opened = Origins.parse(origins)
    readers: dict[str, Reader] = {}
    if drops_dir is not None:
        readers[FILE] = DropsFolder(drops_dir)
    if opened.web:
        hosts = frozenset(split_setting(private_hosts.lower()))
        web = WebReader(opened, hosts, time_limit_s=TIME_LIMIT_S)
        readers |= {one.scheme: web for one in opened.web}
    if opened.buckets:
        buckets = {bucket: open_bucket(bucket) for bucket in opened.buckets}
        readers["s3"] = BucketReader(opened, buckets, time_limit_s=TIME_LIMIT_S)
    return ReferenceReader(readers)
