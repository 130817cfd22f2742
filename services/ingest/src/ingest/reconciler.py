"""Background loops: send lost work again and remove what has expired."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from chassis.base.errors import ConflictError, OverloadedError, UnavailableError
from ingest.settings import Settings
from ingest.usecases.deletion.delete_collection import ContinueDeletions
from ingest.usecases.deletion.delete_document import DeleteOldDocuments
from ingest.usecases.documents.describe_document import ForgetDescriptions
from ingest.usecases.documents.label_documents import SendLabels
from ingest.usecases.ports import Sweeper
from ingest.usecases.upkeep.repair import (
    GiveUpExpired,
    RepairDescriptions,
    RepairSteps,
    SweepObjects,
)
from ingest.usecases.uploads.upload_sessions import ExpireUploads
from ingest.usecases.versions.keep_versions import DropVersions

log = logging.getLogger(__name__)

DELETIONS_S: Final = 1.0
LABELS_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """What is done again and again."""

    repair: RepairSteps
    repair_descriptions: RepairDescriptions
    expire: GiveUpExpired
    sweep_objects: SweepObjects
    delete_old: DeleteOldDocuments
    drop_versions: DropVersions
    forget_descriptions: ForgetDescriptions
    continue_deletions: ContinueDeletions
    send_labels: SendLabels
    expire_uploads: ExpireUploads
    sweeper: Sweeper


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Runs until cancelled; if a dependency is unavailable, a round is skipped."""

    work: Maintenance
    connected: Callable[[], bool]
    settings: Settings

    async def reconcile(self) -> None:
        """Sends lost work again and fails versions past their deadline."""
        while True:
            await asyncio.sleep(self.settings.reconcile_s)
            # Without the bus nothing can be sent, but an attempt would be counted.
            if self.connected():
                await _run_round("steps.repaired", self.work.repair.run)
                await _run_round("descriptions.repaired", self.work.repair_descriptions.run)
            await _run_round("versions.expired", self.work.expire.run)

    async def sweep(self) -> None:
        """Removes expired uploads, unused objects, old documents, versions and rows."""
        while True:
            await _run_round("uploads.expired", self.work.expire_uploads.run)
            await _run_round("objects.swept", self.work.sweep_objects.run)
            await _run_round("documents.expired", self.work.delete_old.run)
            await _run_round("versions.dropped", self.work.drop_versions.run)
            await _run_round("descriptions.forgotten", self.work.forget_descriptions.run)
            await _run_round("rows.forgotten", self._forget)
            await asyncio.sleep(self.settings.sweep_s)

    async def delete_collections(self) -> None:
        """Goes on with deletions of collections; looks every `DELETIONS_S`."""
        while True:
            await asyncio.sleep(DELETIONS_S)
            await _run_round("collections.deleted", self.work.continue_deletions.run)

    async def send_labels(self) -> None:
        """Tells query labels that it has not confirmed; looks every `LABELS_S`."""
        while True:
            await asyncio.sleep(LABELS_S)
            await _run_round("labels.sent", self.work.send_labels.run)

    async def _forget(self) -> int:
        return await self.work.sweeper.forget(
            self.settings.inbox_retention_s, self.settings.request_retention_s
        )


async def _run_round(event: str, work: Callable[[], Awaitable[int]]) -> None:
    try:
        count = await work()
    except (UnavailableError, OverloadedError, ConflictError) as error:
        log.warning("reconciler.waiting", extra={"work": event, "reason": error.reason})
        return
    if count:
        log.info(event, extra={"count": count})
