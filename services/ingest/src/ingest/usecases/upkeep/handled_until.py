"""Finds the time up to which all events were handled, to distinguish lost from waiting work."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from google.protobuf.message import Message

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import (
    ChunksPrepared,
    DescriptionChanged,
    DocumentDeletionRequested,
    VersionAccepted,
)
from aquifer.query.v1.passage_events_pb2 import (
    PassagesPurged,
    VersionDescribed,
    VersionSearchable,
)
from ingest.domain import State
from ingest.usecases.ports import Queue, Sweeper

Hop = tuple[type[Message], str]

DESCRIBED: Final = "described"
# The events of each step in order, and of a description, each with the service that handles it.
PATHS: Final[Mapping[str, Sequence[Hop]]] = {
    State.ACCEPTED: ((VersionAccepted, "ingest"),),
    State.PREPARED: (
        (ChunksPrepared, "inference"),
        (ChunksEmbedded, "query"),
        (VersionSearchable, "ingest"),
    ),
    DESCRIBED: ((DescriptionChanged, "query"), (VersionDescribed, "ingest")),
    State.DELETING: ((DocumentDeletionRequested, "query"), (PassagesPurged, "ingest")),
}


@dataclass(slots=True)
class _Round:
    """One round over a path: its start, the current hop, and the last sequence of its stream."""

    began: datetime
    hop: int
    sequence: int


@dataclass(slots=True, kw_only=True)
class HandledUntil:
    """Follows the streams of each path, hop by hop.

    When the first hop has handled all events that were in its stream at a certain time, their
    results are in the second stream, and so on. At the end of the path no event sent before that
    time is unhandled. Slow or stopped services only make a round longer; their work does not
    count as lost.
    """

    queue: Queue
    sweeper: Sweeper
    _rounds: dict[str, _Round] = field(default_factory=dict)
    _until: dict[str, datetime] = field(default_factory=dict)
    _checking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def check(self, work: str) -> datetime | None:
        """Continues the round of a step or of descriptions.

        Returns when the last complete round began, by the database's clock.

        Raises:
            UnavailableError: BUS_UNAVAILABLE, DATABASE_UNAVAILABLE.
        """
        async with self._checking:
            return await self._continue(work)

    async def _continue(self, work: str) -> datetime | None:
        path = PATHS[work]
        now = self._rounds.get(work)
        if now is None:
            began = await self.sweeper.now()
            now = self._rounds[work] = _Round(began, 0, await self.queue.last_sequence(path[0][0]))
        while await self.queue.is_handled(*path[now.hop], now.sequence):
            if now.hop + 1 == len(path):
                self._until[work] = now.began
                del self._rounds[work]
                break
            now.hop += 1
            now.sequence = await self.queue.last_sequence(path[now.hop][0])
        return self._until.get(work)
