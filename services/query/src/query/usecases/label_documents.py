"""The labels of documents: who may find them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chassis.base.errors import FieldViolation, InvalidInputError, ServiceError
from query.labels import Labels
from query.names import collection_of
from query.usecases.ports import Begin
from query.usecases.update_points import UpdatePoints

log = logging.getLogger(__name__)

LABELLED_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class LabelDocuments:
    """Sets the labels of documents, even of unknown ones; a repeat changes nothing.

    From the commit on, nobody finds a document without one of its new labels. Then the points
    follow, so that whoever has got a label now finds it too; what fails there is repeated.
    """

    begin: Begin
    points: UpdatePoints

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
                await self.points.update(tenant, document)
        except ServiceError as error:
            log.warning("points.updated_later", extra={"reason": error.reason})
