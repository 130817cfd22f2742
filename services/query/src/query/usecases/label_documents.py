"""The labels of documents: who may find them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chassis.base.errors import FieldViolation, InvalidInputError, ServiceError
from query.domain import collection_of
from query.labels import Labels
from query.retrieval.vector_store import TenantScope
from query.usecases.indexes import Indexes
from query.usecases.ports import Begin, Ledger

log = logging.getLogger(__name__)

LABELLED_MAX: Final = 1_000
RELABELLED_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class RelabelPoints:
    """Gives the points of documents the labels of these, in every index in use.

    The points only narrow a search: what it shows is decided by the labels in Postgres. The lock of
    the document is held while its points are written, so a later change of the labels waits and
    is written after this one. An index whose build begins later gets the labels of then.
    """

    begin: Begin
    ledger: Ledger
    indexes: Indexes

    async def run(self) -> int:
        """Goes on with what is left; returns the number of documents."""
        left = await self.ledger.list_relabelled(RELABELLED_BATCH)
        for tenant, document in left:
            await self.relabel(tenant, document)
        return len(left)

    async def relabel(self, tenant: str, document: str) -> None:
        indexes = await self.indexes.list_in_use()
        async with self.begin(tenant) as work:
            labels = await work.rows.share_labels(document)
            for index in indexes:
                await index.vectors.label(TenantScope(tenant), document, labels.names)
            await work.rows.finish_relabelling(document)


@dataclass(frozen=True, slots=True)
class LabelDocuments:
    """Sets the labels of documents, even of unknown ones; a repeat changes nothing.

    From the commit on, nobody finds a document without one of its new labels. Then the points
    follow, so that whoever has got a label now finds it too; what fails there is repeated.
    """

    begin: Begin
    relabel: RelabelPoints

    async def run(self, tenant: str, labelled: Sequence[tuple[str, Labels]]) -> None:
        """Raises InvalidInputError: LABELS_COUNT, DOCUMENT_NAME."""
        given: Mapping[str, Labels] = dict(labelled)
        if not 1 <= len(labelled) == len(given) <= LABELLED_MAX:
            detail = f"send 1 to {LABELLED_MAX} documents, each once"
            raise InvalidInputError(
                "LABELS_COUNT", detail, fields=[FieldViolation("documents", detail)]
            )
        for document in given:
            collection_of(document)
        async with self.begin(tenant) as work:
            changed = await work.rows.label(labelled)
        try:
            for document in changed:
                await self.relabel.relabel(tenant, document)
        except ServiceError as error:
            log.warning("points.relabelled_later", extra={"reason": error.reason})
