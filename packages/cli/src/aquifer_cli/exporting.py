"""Exports answers into a file; an interrupted export goes on where it stopped."""

import asyncio
import hashlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from aquifer.query.v1.query_service_pb2 import (
    RATING_UNSPECIFIED,
    ExportAnswersRequest,
    ExportedAnswer,
    Feedback,
    Rating,
)
from aquifer_cli.ask import citation_json, finished_json
from aquifer_cli.client import Client
from aquifer_cli.errors import EXIT_USAGE, CommandError, from_rpc
from aquifer_cli.outcome import is_temporary
from aquifer_cli.times import parse_time

# Of one call; the export goes on in the next one.
CALL_S: Final = 300.0
# Without any progress.
GIVE_UP_S: Final = 60.0
RETRY_S: Final = 1.0
_DIGEST_CHARS: Final = 12
_MESSAGE: Final = re.compile("conversations/([^/]+)/messages/([0-9]+)")


@dataclass(slots=True)
class Exported:
    """How many answers are in the file, and how many of them lack their text."""

    answers: int = 0
    withheld: int = 0


def make_request(
    start: str,
    end: str,
    *,
    all_principals: bool = False,
    rating: "Rating.ValueType" = RATING_UNSPECIFIED,
) -> ExportAnswersRequest:
    """The request for a range of time; empty texts: no limit.

    Raises:
        CommandError: TIME_UNREADABLE.
    """
    request = ExportAnswersRequest(all_principals=all_principals, rating=rating)
    if start:
        request.start_time.FromDatetime(parse_time(start))
    if end:
        request.end_time.FromDatetime(parse_time(end))
    return request


async def stream_answers(
    client: Client, request: ExportAnswersRequest, note: Callable[[str], None]
) -> AsyncIterator[ExportedAnswer]:
    """The answers of an export, over as many calls as it takes.

    Raises:
        CommandError: with the reason of the service, after `GIVE_UP_S` without any progress.
    """
    wanted = ExportAnswersRequest()
    wanted.CopyFrom(request)
    progress_at = time.monotonic()
    while True:
        try:
            await client.sign_in()
            stream = client.query.ExportAnswers(
                wanted, timeout=CALL_S, metadata=await client.credentials()
            )
            async for one in stream:
                yield one
                wanted.cursor = one.cursor
                progress_at = time.monotonic()
        except (CommandError, grpc.aio.AioRpcError) as error:
            failure = from_rpc(error) if isinstance(error, grpc.aio.AioRpcError) else error
            if not is_temporary(failure) or time.monotonic() - progress_at > GIVE_UP_S:
                raise failure from error
            note(f"{failure.reason}, trying again")
            await asyncio.sleep(RETRY_S)
        else:
            return


async def export(
    client: Client,
    request: ExportAnswersRequest,
    file: Path,
    *,
    done: Callable[[], None],
    note: Callable[[str], None],
) -> Exported:
    """Writes the answers of an export to a file, which is there once it is complete.

    Until then they are in a file beside it. Its name tells what is exported for whom, so that only
    the same command goes on with it.

    Raises:
        CommandError: FILE_UNWRITABLE, or as `stream_answers`.
    """
    part = _name_part(client, request, file)
    exported, cursor = _read_part(part)
    wanted = ExportAnswersRequest()
    wanted.CopyFrom(request)
    wanted.cursor = cursor
    if exported.answers:
        note(f"goes on after {exported.answers:,} answers")
    try:
        with part.open("a", encoding="utf-8") as lines:
            for _ in range(exported.answers):
                done()
            async for one in stream_answers(client, wanted, note):
                lines.write(json.dumps(as_json(one), ensure_ascii=False) + "\n")
                exported.answers += 1
                exported.withheld += one.withheld
                done()
        os.replace(part, file)  # noqa: PTH105  # over an existing file, on every system
    except OSError as error:
        detail = f"{file}: {error.strerror}"
        raise CommandError("FILE_UNWRITABLE", detail, exit_code=EXIT_USAGE) from error
    return exported


def as_json(one: ExportedAnswer) -> dict[str, object]:
    """A record for programs."""
    answer, settings = one.answer, one.settings
    message = _MESSAGE.fullmatch(one.message)
    return {
        "answer": answer.answer_id,
        "create_time": _time_json(one.create_time),
        "principal": one.principal,
        "conversation": message[1] if message else None,
        "message": int(message[2]) if message else None,
        "question": answer.question,
        "settings": {
            "collection": settings.collection,
            "collections": list(settings.collections),
            "documents": list(settings.documents),
            "filter": settings.filter,
            "model": settings.model,
            "max_output_tokens": settings.max_output_tokens,
            "rerank": settings.rerank,
            "reranker": settings.reranker,
            "as_of": _time_json(settings.as_of) if settings.HasField("as_of") else None,
        },
        "text": answer.text,
        "withheld": one.withheld,
        "citations": list(map(citation_json, answer.citations)),
        "finished": finished_json(answer.finished),
        "feedback": _feedback_json(answer.feedback) if answer.HasField("feedback") else None,
        "trace_id": answer.trace_id,
        "cursor": one.cursor,
    }


def _time_json(time: Timestamp) -> str:
    return time.ToDatetime(tzinfo=UTC).isoformat()


def _feedback_json(feedback: Feedback) -> dict[str, object]:
    return {
        "rating": Rating.Name(feedback.rating).removeprefix("RATING_").lower(),
        "reason": feedback.reason,
        "give_time": feedback.give_time.ToDatetime(tzinfo=UTC).isoformat(),
    }


def _name_part(client: Client, request: ExportAnswersRequest, file: Path) -> Path:
    whose = f"{client.endpoints.tenant}\n{client.endpoints.api_key}\n"
    told = whose.encode() + request.SerializeToString(deterministic=True)
    digest = hashlib.sha256(told).hexdigest()[:_DIGEST_CHARS]
    return file.with_name(f".{file.name}.{digest}.part")


def _read_part(part: Path) -> tuple[Exported, str]:
    """What is in the file of an interrupted export, and its last cursor.

    A last line that is not complete is removed.
    """
    exported, cursor, end = Exported(), "", 0
    if not part.exists():
        return exported, cursor
    with part.open("r+b") as lines:
        for line in lines:
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if row is None:
                break
            exported.answers += 1
            exported.withheld += row["withheld"]
            cursor, end = row["cursor"], end + len(line)
        lines.truncate(end)
    return exported, cursor
