"""Connects use cases with their adapters."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.process.reconcile import Check
from chassis.process.tenant_removal import TenantRemoval
from ingest.objects.keys import key_age_s, make_key
from ingest.pace import Pace
from ingest.parsing.jail.slots import FairSlots
from ingest.parsing.sizes import SizeLimits
from ingest.reconciler import Maintenance
from ingest.rpc import IngestRpc
from ingest.settings import Settings
from ingest.subscribers import UseCases
from ingest.usecases.collections import (
    CreateCollection,
    GetCollection,
    ListCollections,
    UpdateCollection,
)
from ingest.usecases.deletion.delete_collection import (
    ContinueDeletions,
    DeleteCollection,
    GetCollectionDeletion,
    HideCollection,
)
from ingest.usecases.deletion.delete_document import (
    DeleteDocument,
    DeleteOldDocuments,
    PurgeDocument,
)
from ingest.usecases.deletion.remove_document import RemoveDocument
from ingest.usecases.documents.describe_document import DescribeDocument, ForgetDescriptions
from ingest.usecases.documents.label_documents import SendLabels
from ingest.usecases.documents.progress import ProgressEstimates
from ingest.usecases.documents.read_documents import (
    GetDocument,
    ListDocuments,
    ListVersions,
    WatchDocument,
    WatchDocuments,
)
from ingest.usecases.documents.read_newest import ReadNewest
from ingest.usecases.documents.read_text import GetDocumentText
from ingest.usecases.documents.update_document import UpdateDocument
from ingest.usecases.documents.watchers import Watchers
from ingest.usecases.ports import (
    ChangeFeed,
    CutText,
    DeadLetters,
    Hide,
    HideAll,
    Inventory,
    LabelAll,
    Objects,
    Parse,
    Passwords,
    Queue,
    References,
    Search,
    Sweeper,
)
from ingest.usecases.upkeep.handled_until import HandledUntil
from ingest.usecases.upkeep.reconcile_own import CheckObjects, CheckSteps
from ingest.usecases.upkeep.reconcile_search import CheckLive, CheckShown
from ingest.usecases.upkeep.repair import (
    GiveUpExpired,
    RepairDescriptions,
    RepairSteps,
    SweepObjects,
)
from ingest.usecases.uploads.accept_document import AcceptDocument
from ingest.usecases.uploads.accept_upload import AcceptUpload
from ingest.usecases.uploads.admission import Admission, Limits
from ingest.usecases.uploads.answer_events import AnswerEvents
from ingest.usecases.uploads.check_documents import CheckDocuments
from ingest.usecases.uploads.fetch_content import FetchContent
from ingest.usecases.uploads.fresh import FreshVersions
from ingest.usecases.uploads.record_uploads import RecordUploads
from ingest.usecases.uploads.upload_sessions import (
    AppendUpload,
    ExpireUploads,
    FinishUpload,
    GetUpload,
    StartUpload,
)
from ingest.usecases.versions.describe_version import ConfirmDescriptions
from ingest.usecases.versions.finish_document import MarkSearchable, RejectVersion
from ingest.usecases.versions.keep_versions import DropVersions
from ingest.usecases.versions.pin_document import PinDocument, UnpinDocument
from ingest.usecases.versions.prepare_document import PrepareDocument
from ingest.usecases.versions.roll_back_document import RollBackDocument
from ingest.usecases.versions.send_pieces import SendPieces
from ingest.usecases.work import Begin, BeginPublication

# Bytes of documents that are parsed at a time, of all tenants and of one.
PREPARED_BYTES = 192 << 20
PREPARED_BYTES_OF_TENANT = 128 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """The implementations of the ports."""

    begin: Begin
    sweeper: Sweeper
    objects: Objects
    references: References
    cut_text: CutText
    parse: Parse
    passwords: Passwords
    hide: Hide
    hide_all: HideAll
    label_all: LabelAll
    queue: Queue
    changes: ChangeFeed
    dead_letters: DeadLetters
    inventory: Inventory
    search: Search
    publish: BeginPublication
    tenant_removal: TenantRemoval


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """The parts of the service that are attached to the process."""

    rpc: IngestRpc
    checks: Sequence[Check]
    use_cases: UseCases
    watchers: Watchers
    fetch: FetchContent
    maintenance: Maintenance


def wire(adapters: Adapters, settings: Settings) -> Wired:
    """Connects the use cases with the adapters."""
    pace, begin, objects = _make_pace(settings), adapters.begin, adapters.objects
    fresh = FreshVersions()
    estimates = ProgressEstimates(sweeper=adapters.sweeper)
    watchers = Watchers(
        begin=begin, feed=adapters.changes, estimates=estimates, limit=settings.watchers_max
    )
    accept = _wire_accept(adapters, settings, watchers, fresh)
    answers = AnswerEvents(begin=begin, publish=adapters.publish)
    delete = DeleteDocument(begin=begin, hide=adapters.hide, pace=pace)
    accept_upload = AcceptUpload(
        accept=accept,
        begin=begin,
        answers=answers,
        references=adapters.references,
        fetches_max=settings.backlog_max,
    )
    maintenance = _wire_maintenance(adapters, settings, pace)
    return Wired(
        checks=_make_checks(adapters, settings, maintenance.repair),
        rpc=_wire_rpc(accept, delete, watchers, estimates, adapters, settings),
        watchers=watchers,
        fetch=FetchContent(accept=accept_upload, begin=begin, sweeper=adapters.sweeper),
        use_cases=UseCases(
            begin=begin,
            answers=answers,
            accept=accept_upload,
            remove=RemoveDocument(begin=begin, answers=answers, delete=delete),
            describe=DescribeDocument(begin=begin, answers=answers, pace=pace),
            prepare=PrepareDocument(
                begin=begin,
                objects=objects,
                parse=adapters.parse,
                room=FairSlots(each=PREPARED_BYTES_OF_TENANT, total=PREPARED_BYTES),
                passwords=adapters.passwords,
                fresh=fresh,
                pace=pace,
                changed=watchers.notice,
                send=SendPieces(begin=begin),
            ),
            mark_searchable=MarkSearchable(begin=begin, objects=objects),
            confirm_descriptions=ConfirmDescriptions(begin=begin),
            reject=RejectVersion(begin=begin),
            purge=PurgeDocument(begin=begin, objects=objects, dead_letters=adapters.dead_letters),
            tenant_removal=adapters.tenant_removal,
        ),
        maintenance=maintenance,
    )


def _wire_maintenance(adapters: Adapters, settings: Settings, pace: Pace) -> Maintenance:
    begin, sweeper, objects = adapters.begin, adapters.sweeper, adapters.objects
    handled = HandledUntil(queue=adapters.queue, sweeper=sweeper)
    return Maintenance(
        repair=RepairSteps(
            begin=begin, sweeper=sweeper, handled=handled, pace=pace, send=SendPieces(begin=begin)
        ),
        repair_descriptions=RepairDescriptions(
            begin=begin, sweeper=sweeper, handled=handled, pace=pace
        ),
        expire=GiveUpExpired(begin=begin, sweeper=sweeper, pace=pace),
        sweep_objects=SweepObjects(
            sweeper=sweeper, objects=objects, key_age_s=key_age_s, age_s=settings.orphan_age_s
        ),
        delete_old=DeleteOldDocuments(begin=begin, sweeper=sweeper, pace=pace),
        drop_versions=DropVersions(begin=begin, sweeper=sweeper, objects=objects),
        forget_descriptions=ForgetDescriptions(begin=begin, sweeper=sweeper),
        continue_deletions=ContinueDeletions(
            begin=begin,
            sweeper=sweeper,
            hide=HideCollection(begin=begin, hide=adapters.hide_all, pace=pace),
        ),
        send_labels=_make_send_labels(adapters),
        expire_uploads=ExpireUploads(begin=begin, sweeper=sweeper, objects=objects),
        sweeper=sweeper,
    )


def _wire_rpc(
    accept: AcceptDocument,
    delete: DeleteDocument,
    watchers: Watchers,
    estimates: ProgressEstimates,
    adapters: Adapters,
    settings: Settings,
) -> IngestRpc:
    begin, objects, pace = adapters.begin, adapters.objects, _make_pace(settings)
    get_upload, send = GetUpload(begin=begin), _make_send_labels(adapters)
    return IngestRpc(
        accept=accept,
        start_upload=StartUpload(
            begin=begin,
            admission=accept.admission,
            sizes=accept.sizes,
            sessions_max=settings.upload_sessions_max,
            sessions_max_bytes=settings.upload_sessions_max_bytes,
            expiry_s=settings.upload_expiry_s,
        ),
        append_upload=AppendUpload(
            begin=begin,
            get=get_upload,
            objects=objects,
            make_key=make_key,
            expiry_s=settings.upload_expiry_s,
        ),
        get_upload=get_upload,
        finish_upload=FinishUpload(begin=begin, accept=accept, objects=objects),
        update=UpdateDocument(begin=begin, send=send, pace=pace, changed=watchers.notice),
        delete=delete,
        get=GetDocument(begin=begin),
        get_text=GetDocumentText(begin=begin),
        check=CheckDocuments(begin=begin),
        list_page=ListDocuments(begin=begin),
        list_versions=ListVersions(begin=begin),
        roll_back=RollBackDocument(begin=begin, objects=adapters.objects, accept=accept),
        pin=PinDocument(begin=begin, changed=watchers.notice),
        unpin=UnpinDocument(begin=begin, changed=watchers.notice),
        create_collection=CreateCollection(begin=begin, send=send),
        get_collection=GetCollection(begin=begin),
        list_collections=ListCollections(begin=begin),
        update_collection=UpdateCollection(begin=begin, send=send),
        delete_collection=DeleteCollection(
            begin=begin, hide=HideCollection(begin=begin, hide=adapters.hide_all, pace=pace)
        ),
        get_collection_deletion=GetCollectionDeletion(begin=begin),
        watch=WatchDocument(read=ReadNewest(begin=begin), watchers=watchers, estimates=estimates),
        watch_many=WatchDocuments(watchers=watchers, estimates=estimates),
    )


def _wire_accept(
    adapters: Adapters, settings: Settings, watchers: Watchers, fresh: FreshVersions
) -> AcceptDocument:
    begin = adapters.begin
    return AcceptDocument(
        objects=adapters.objects,
        admission=_make_admission(begin, settings),
        passwords=adapters.passwords,
        record=RecordUploads(
            begin=begin,
            pace=_make_pace(settings),
            cut_text=adapters.cut_text,
            passwords=adapters.passwords,
            notice=watchers.notice,
            implicit_collections=settings.implicit_collections,
        ),
        fresh=fresh,
        make_key=make_key,
        sizes=SizeLimits(
            upload_bytes=settings.upload_max_bytes, text_bytes=settings.text_max_bytes
        ),
    )


def _make_admission(begin: Begin, settings: Settings) -> Admission:
    limits = Limits(documents=settings.backlog_max, size_bytes=settings.backlog_max_bytes)
    own = {
        tenant: Limits(
            documents=one.documents or limits.documents, size_bytes=one.bytes or limits.size_bytes
        )
        for tenant, one in settings.tenant_limits.items()
    }
    return Admission(begin=begin, limits=limits, own=own, clock=time.monotonic)


def _make_checks(adapters: Adapters, settings: Settings, repair: RepairSteps) -> Sequence[Check]:
    """The checks of `aquifer reconcile`, in their order."""
    begin, inventory, sweeper = adapters.begin, adapters.inventory, adapters.sweeper
    return [
        CheckSteps(inventory=inventory, repair=repair),
        CheckObjects(
            inventory=inventory,
            sweeper=sweeper,
            objects=adapters.objects,
            key_age_s=key_age_s,
            age_s=settings.orphan_age_s,
        ),
        CheckLive(
            begin=begin,
            inventory=inventory,
            search=adapters.search,
            sweeper=sweeper,
            send=SendPieces(begin=begin),
        ),
        CheckShown(
            begin=begin,
            inventory=inventory,
            search=adapters.search,
            sweeper=sweeper,
            pace=repair.pace,
        ),
    ]


def _make_send_labels(adapters: Adapters) -> SendLabels:
    return SendLabels(begin=adapters.begin, sweeper=adapters.sweeper, label=adapters.label_all)


def _make_pace(settings: Settings) -> Pace:
    return Pace(
        first_s=settings.step_due_s,
        last_s=max(settings.step_due_s, settings.step_due_max_s),
        deadline_s=settings.step_deadline_s,
    )
