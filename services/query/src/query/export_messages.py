"""Records of answers as messages of the contract, and what selects them."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from aquifer.query.v1 import query_service_pb2 as pb
from chassis.base import paging
from chassis.base.errors import FieldViolation, InvalidInputError
from chassis.identity.tokens import Caller
from query.answer import Settings
from query.answer_messages import RATINGS, to_answer
from query.conversation import make_name
from query.usecases.exchanges import Place, Record, Wanted

OPERATE: Final = frozenset({"operate"})


def read_wanted(request: pb.ExportAnswersRequest, who: Caller) -> Wanted:
    """What a caller wants exported.

    Raises:
        InvalidInputError: EXPORT_RANGE.
        ForbiddenError: SCOPE_MISSING.
    """
    if request.all_principals:
        who.require(OPERATE)
    start, end = _read_time(request, "start_time"), _read_time(request, "end_time")
    if start and end and start > end:
        raise _range_error("end_time", "not before start_time")
    if request.rating not in (pb.RATING_UNSPECIFIED, *RATINGS.values()):
        raise _range_error("rating", "RATING_GOOD, RATING_BAD or unspecified")
    ratings = {value: rating for rating, value in RATINGS.items()}
    return Wanted(
        tenant=who.tenant,
        held=who.labels,
        principal=None if request.all_principals else who.principal,
        start=start,
        end=end,
        rating=ratings.get(request.rating),
    )


def read_cursor(text: str) -> Place | None:
    """The position that `to_exported` wrote; None for the beginning.

    Raises:
        InvalidInputError: CURSOR_INVALID.
    """
    if not text:
        return None
    try:
        time, answer_id = paging.parse(0, text, parts=2).after
        found = Place(time=datetime.fromisoformat(time), answer_id=UUID(answer_id))
    except (InvalidInputError, ValueError) as error:
        raise _cursor_error() from error
    if found.time.tzinfo is None:
        raise _cursor_error()
    return found


def to_exported(record: Record) -> pb.ExportedAnswer:
    """A record."""
    answer = record.answer
    message = ""
    if record.message:
        conversation_id, number = record.message
        message = f"{make_name(conversation_id)}/messages/{number}"
    exported = pb.ExportedAnswer(
        answer=to_answer(answer),
        settings=_to_settings(answer.settings),
        principal=answer.principal,
        message=message,
        withheld=record.withheld,
        cursor=paging.make_token(record.stored_at.isoformat(), str(answer.answer_id)),
    )
    exported.create_time.FromDatetime(record.stored_at)
    return exported


def _to_settings(settings: Settings) -> pb.AnswerSettings:
    written = pb.AnswerSettings(
        collection=settings.collection,
        collections=settings.collections,
        documents=settings.documents,
        filter=settings.filter,
        model=settings.model,
        max_output_tokens=settings.max_output_tokens,
        rerank=settings.reranker is not None,
        reranker=settings.reranker or "",
    )
    if settings.as_of:
        written.as_of.FromDatetime(settings.as_of)
    return written


def _read_time(request: pb.ExportAnswersRequest, field: str) -> datetime | None:
    if not request.HasField(field):  # type: ignore[arg-type]
        return None
    stamp: Timestamp = getattr(request, field)
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise _range_error(field, "a time from the year 1 to 9999") from error


def _range_error(field: str, wanted: str) -> InvalidInputError:
    return InvalidInputError(
        "EXPORT_RANGE", f"{field} must be {wanted}", fields=[FieldViolation(field, wanted)]
    )


def _cursor_error() -> InvalidInputError:
    detail = "cursor is not from an exported answer"
    return InvalidInputError("CURSOR_INVALID", detail, fields=[FieldViolation("cursor", detail)])
