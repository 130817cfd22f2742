"""Sending the pieces of a version to be embedded, a page of them at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chassis.events.delivery import Delivery
from ingest.domain import Version
from ingest.pieces import Piece
from ingest.usecases import announce
from ingest.usecases.work import Begin

# In memory at the same time, with their events: 4 MiB at most. A batch has fewer.
PAGE_PIECES: Final = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPieces:
    """Sends the stored pieces of a version, each page of them in a transaction of its own.

    If it is interrupted, it begins anew: what was sent before is sent with the same ids.
    """

    begin: Begin

    async def run(
        self, version: Version, deliveries: Sequence[Delivery[Any]] = (), *, again: str = ""
    ) -> bool:
        """Sends all batches; False if the pieces are gone, because a newer version is live.

        `deliveries` are recorded as handled with the last page. For `again` see
        `announce.send_chunks`.
        """
        first = 0
        while first < version.chunk_count:
            is_last = first + PAGE_PIECES >= version.chunk_count
            async with self.begin(version.tenant, deliveries if is_last else ()) as work:
                pieces = await work.documents.list_pieces(
                    version.document, version.number, first, PAGE_PIECES
                )
                whole = pieces if is_last else _drop_last_batch(pieces)
                if not whole:
                    return False
                if work.fresh or not (is_last and deliveries):
                    entry = await work.documents.find_entry(version.document)
                    assert entry is not None, "the row of a version's document is never removed"
                    cause = deliveries[0] if deliveries else None
                    announce.send_chunks(
                        work, version, whole, entry.labels, cause=cause, again=again
                    )
            first += len(whole)
        return True


def _drop_last_batch(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """The pieces without the last batch, which may go on on the next page."""
    return [piece for piece in pieces if piece.batch < pieces[-1].batch]
