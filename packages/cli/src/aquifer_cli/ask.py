"""`aquifer search` and `aquifer ask`."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import grpc
from google.protobuf.message import Message

from aquifer.query.v1 import query_service_pb2 as pb
from aquifer.query.v1.query_service_pb2 import (
    AskRequest,
    AskResponse,
    Citation,
    FinishReason,
    Hit,
    Passage,
    SearchRequest,
)
from aquifer.structs import to_json
from aquifer_cli import names
from aquifer_cli.client import Client
from aquifer_cli.concurrency import run_concurrently
from aquifer_cli.errors import from_rpc
from aquifer_cli.jsonl import Line, line_error, read_lines

SIDE_BY_SIDE = 4
ASK_S = 120.0
RUN_NAME = "aquifer"


async def search(
    client: Client,
    question: str,
    *,
    collections: Sequence[str],
    limit: int,
    one_per_document: bool = False,
    where: str = "",
) -> list[Hit]:
    """Hits of one question, best first.

    `where` is a filter as `SearchRequest.filter` describes it; empty: none.
    """
    request = SearchRequest(
        question=question,
        collections=collections,
        limit=limit,
        one_per_document=one_per_document,
        separate_copies=one_per_document,  # a ranking of documents has each of them
        filter=where,
    )
    answer = await client.call(client.query.Search, request)
    return list(answer.hits)


def line_json(line: pb.Line) -> dict[str, object]:
    """A line on a page for machines."""
    return {
        "page": line.page,
        "start": line.start,
        "end": line.end,
        "left": line.left,
        "top": line.top,
        "right": line.right,
        "bottom": line.bottom,
    }


def passage_json(passage: Passage) -> dict[str, object]:
    """A passage for machines."""
    return {
        "document": passage.document,
        "version": passage.version,
        "chunk_id": passage.chunk_id,
        "ordinal": passage.ordinal,
        "title": passage.title,
        "headings": list(passage.headings),
        "table_header": passage.table_header,
        "metadata": to_json(passage.metadata),
        "page": passage.page,
        "start": passage.start,
        "end": passage.end,
        "text": passage.text,
        "ingest_trace_id": passage.ingest_trace_id,
    }


def read_queries(file: Path) -> list[tuple[str, str]]:
    """Pairs of `_id` and `text`, one object a line.

    Raises:
        CommandError: FILE_UNREADABLE, LINE_UNREADABLE.
    """
    queries: dict[str, str] = {}

    def add(line: Line) -> None:
        identifier = line.text("_id")
        if not identifier or len(identifier.split()) != 1:
            raise line_error(line.where, f"a TREC run cannot contain the _id {identifier!r}")
        if identifier in queries:
            raise line_error(line.where, f"the _id {identifier!r} occurs twice")
        queries[identifier] = line.text("text")

    read_lines(file, add)
    return list(queries.items())


async def write_run(
    client: Client,
    queries: list[tuple[str, str]],
    out: TextIO,
    *,
    collections: Sequence[str],
    limit: int,
    done: Callable[[], None],
    where: str = "",
) -> None:
    """Writes a TREC run of document ids, at most `limit` a query, in the order of the queries.

    Nothing is written before every query is answered.
    """

    async def search_one(query: tuple[str, str]) -> list[Hit]:
        hits = await search(
            client,
            query[1],
            collections=collections,
            limit=limit,
            one_per_document=True,
            where=where,
        )
        done()
        return hits

    ranked = await run_concurrently(search_one, queries, SIDE_BY_SIDE)
    for (identifier, _), hits in zip(queries, ranked, strict=True):
        for rank, hit in enumerate(hits, 1):
            document = names.document_id(hit.passage.document)
            out.write(f"{identifier} Q0 {document} {rank} {hit.score:.6f} {RUN_NAME}\n")


async def ask(client: Client, request: AskRequest) -> AsyncIterator[AskResponse]:
    """The steps of an answer as they arrive; leaving early stops the engine.

    Raises:
        CommandError: with the reason of the service.
    """
    async for step in stream_steps(client, client.query.Ask, request):
        yield step


async def stream_steps(
    client: Client, method: Callable[..., Any], request: Message
) -> AsyncIterator[AskResponse]:
    """The steps of an answer that a method streams; leaving early stops the engine.

    Raises:
        CommandError: with the reason of the service.
    """
    await client.sign_in()
    stream = method(request, timeout=ASK_S, metadata=await client.credentials())
    try:
        async for step in stream:
            yield step
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from error
    finally:
        stream.cancel()


def step_json(step: AskResponse) -> dict[str, object]:
    """A step of an answer for machines."""
    match step.WhichOneof("step"):
        case "started":
            return {
                "step": "started",
                "answer": step.started.answer_id,
                "trace_id": step.started.trace_id,
            }
        case "delta":
            return {"step": "delta", "text": step.delta.text}
        case "citation":
            return {"step": "citation", **citation_json(step.citation)}
        case _:
            return {"step": "finished", **finished_json(step.finished)}


def finished_json(finished: pb.AnswerFinished) -> dict[str, object]:
    """The end of an answer for machines."""
    return {
        "reason": FinishReason.Name(finished.reason).removeprefix("FINISH_REASON_"),
        "model": finished.model,
        "generative": finished.generative,
        "confidence": finished.confidence if finished.HasField("confidence") else None,
        "degraded": finished.degraded,
        "prompt": finished.prompt,
        "verdicts": list(map(verdict_json, finished.verdicts)),
        "usage": {
            "input_tokens": finished.usage.input_tokens,
            "output_tokens": finished.usage.output_tokens,
        },
    }


def verdict_json(verdict: pb.Verdict) -> dict[str, object]:
    """How a guardrail ended, for machines."""
    return {
        "check": verdict.check,
        "stage": pb.CheckStage.Name(verdict.stage).removeprefix("CHECK_STAGE_"),
        "outcome": pb.CheckOutcome.Name(verdict.outcome).removeprefix("CHECK_OUTCOME_"),
        "count": verdict.count,
    }


def citation_json(citation: Citation) -> dict[str, object]:
    """A citation for machines."""
    return {
        "marker": citation.marker,
        "quote": citation.quote,
        "quote_start": citation.quote_start,
        "quote_end": citation.quote_end,
        "page": citation.page,
        "score": citation.score if citation.HasField("score") else None,
        "upload_event_id": citation.upload_event_id,
        "lines": list(map(line_json, citation.lines)),
        "passage": passage_json(citation.passage),
    }


def citation_line(citation: Citation) -> str:
    """A citation for people."""
    passage = citation.passage
    page = f", page {citation.page}" if citation.page else ""
    start, end = passage.start + citation.quote_start, passage.start + citation.quote_end
    where = f"{passage.document} v{passage.version}{page}, characters {start:,} to {end:,}"
    return f"{citation.marker} {where}"
