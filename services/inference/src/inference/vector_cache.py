"""The cache of vectors, in a stream of the broker that keeps the last message of each subject.

A document has a subject for each text, named by its digest. A deletion first writes which versions
it deletes and then removes the vectors. Whoever writes vectors looks for such a deletion after they
are stored, and removes them again: whatever the order, none stays.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
from prometheus_client import Counter
from typing_extensions import override

from chassis.base.metrics import REGISTRY
from chassis.events.bus import FAILURES, Bus, translate_errors
from chassis.events.last_messages import read_last
from chassis.events.topology import cache_stream, cache_subject
from inference.domain import EmbeddingProfile, Source
from inference.ports import Vector, VectorCache

log = logging.getLogger(__name__)

SERVICE: Final = "inference"
STREAM: Final = cache_stream(SERVICE)
# Less than embedding the texts takes.
READ_S: Final = 1.0
WRITE_S: Final = 5.0
_EVERY_VERSION: Final = 2**63 - 1

LOOKED_UP = Counter(
    "aquifer_vector_cache_texts",
    "Texts of chunks looked up in the cache of vectors, by result: hit or miss.",
    ("result",),
    registry=REGISTRY,
)


class StoredVectors(VectorCache):
    """See `VectorCache`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    @override
    async def read(
        self, source: Source, profile: EmbeddingProfile, texts: Sequence[str]
    ) -> Mapping[str, Vector]:
        subjects = {_vector_subject(source, profile, text): text for text in texts}
        try:
            stored = await read_last(self._bus, STREAM, list(subjects), limit_s=READ_S)
        except FAILURES as error:
            log.warning("vector_cache.not_read", extra={"error": repr(error)})
            stored = {}
        found = {
            subjects[subject]: np.frombuffer(content, "<f4")
            for subject, content in stored.items()
            if len(content) == 4 * profile.dimensions
        }
        LOOKED_UP.labels("hit").inc(len(found))
        LOOKED_UP.labels("miss").inc(len(subjects) - len(found))
        return found

    @override
    async def write(
        self, source: Source, profile: EmbeddingProfile, vectors: Mapping[str, Vector]
    ) -> None:
        try:
            async with asyncio.timeout(WRITE_S):
                if vectors:
                    await self._store(source, profile, vectors)
                # Also without new ones: a process may have been killed after it had stored some.
                if await self._is_deleted(source):
                    await self._purge(_vectors_of(source))
        except FAILURES as error:
            log.warning("vector_cache.not_written", extra={"error": repr(error)})

    @override
    async def forget(self, source: Source) -> None:
        await self._delete(_deletion_of(source), source.version, _vectors_of(source))

    @override
    async def forget_tenant(self, tenant: str) -> None:
        await self._delete(
            _deletion_of_tenant(tenant),
            _EVERY_VERSION,
            cache_subject(SERVICE, tenant, "documents", ">"),
        )

    async def _store(
        self, source: Source, profile: EmbeddingProfile, vectors: Mapping[str, Vector]
    ) -> None:
        """Publishes vectors; the last one is acknowledged, and so all are stored before it."""
        contents = [
            (_vector_subject(source, profile, text), np.asarray(vector, "<f4").tobytes())
            for text, vector in vectors.items()
        ]
        *first, (subject, content) = contents
        for each, value in first:
            await self._bus.client.publish(each, value)
        await self._bus.jetstream.publish(subject, content, timeout=WRITE_S, stream=STREAM)

    async def _is_deleted(self, source: Source) -> bool:
        deletions = [_deletion_of(source), _deletion_of_tenant(source.tenant)]
        stored = await read_last(self._bus, STREAM, deletions, limit_s=READ_S)
        return any(int(version) >= source.version for version in stored.values())

    async def _delete(self, deletion: str, version: int, vectors: str) -> None:
        with translate_errors():
            async with asyncio.timeout(WRITE_S):
                await self._bus.jetstream.publish(deletion, str(version).encode(), stream=STREAM)
                await self._purge(vectors)

    async def _purge(self, subject: str) -> None:
        await self._bus.jetstream.purge_stream(STREAM, subject=subject)


def _document(source: Source) -> tuple[str, str]:
    return "documents", _digest(source.document)


def _vectors_of(source: Source) -> str:
    return cache_subject(SERVICE, source.tenant, *_document(source), "vectors", ">")


def _vector_subject(source: Source, profile: EmbeddingProfile, text: str) -> str:
    digest = _digest(profile.name, profile.model, text)
    return cache_subject(SERVICE, source.tenant, *_document(source), "vectors", digest)


def _deletion_of(source: Source) -> str:
    return cache_subject(SERVICE, source.tenant, "deleted", _digest(source.document))


def _deletion_of_tenant(tenant: str) -> str:
    return cache_subject(SERVICE, tenant, "deleted", "all")


def _digest(*parts: str) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()
