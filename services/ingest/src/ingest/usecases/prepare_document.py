"""An accepted version becomes text, and the text chunks on their way to be embedded."""

import logging
from dataclasses import dataclass

from aquifer.ingest.v1.document_events_pb2 import DocumentAccepted
from chassis.base.errors import DataLossError, InvalidInputError, NotFoundError
from ingest.domain import Pace, Prepared, State, Verdict, Version, work_s
from ingest.usecases import facts
from ingest.usecases.finish_document import give_up
from ingest.usecases.fresh import FreshVersions
from ingest.usecases.ports import Objects, Once, Parse, Units
from ingest.usecases.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareDocument:
    """Parses and cuts a version, outside of any transaction; then one commits the outcome.

    A refusal by the parser and an object that is damaged or gone are outcomes as well: the version
    fails with that reason. An event whose version has moved on has no effect.
    """

    units: Units
    objects: Objects
    parse: Parse
    fresh: FreshVersions
    pace: Pace
    progress: Progress

    async def __call__(self, event: DocumentAccepted, once: Once) -> None:
        """Raises only what is no fault of the document."""
        version = await self._accepted(event)
        if version is None:
            # Perhaps this very event moved it on: then what it told is sent once more.
            async with once(event.document):
                return
        outcome = await self._outcome(version)
        async with once(version.document) as work:
            if isinstance(outcome, Verdict):
                await give_up(work, version.document, version.number, outcome)
                return
            wait_s = self.pace.wait_s(0, work_s(State.PREPARED, 0, outcome.batch_count))
            prepared = await work.documents.prepare(version, outcome, wait_s)
            if prepared is not None:
                work.tell(*facts.prepared(prepared, outcome.pieces))
        if prepared is not None:
            self.progress.left(version)

    async def _accepted(self, event: DocumentAccepted) -> Version | None:
        version = self.fresh.take(event.tenant, event.document, event.version)
        if version is None:
            async with self.units(event.tenant) as work:
                version = await work.documents.version(event.document, event.version)
        if version is None:
            log.warning("version.unknown", extra={"version": event.version})
            return None
        # An upload that joined a version on its way is told so by an event of the same kind.
        made_it = version.origin.event_id == event.upload_event_id
        return version if made_it and version.state is State.ACCEPTED else None

    async def _outcome(self, version: Version) -> Prepared | Verdict:
        try:
            data = await self.objects.read(version.stored.key, sha256=version.stored.sha256)
            return await self.parse(version, data)
        except (InvalidInputError, NotFoundError, DataLossError) as error:
            log.info("document.refused", extra={"reason": error.reason})
            return Verdict(reason=error.reason, detail=error.detail)
