"""`QueryService` and the scopes of its methods."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from grpc.aio import ServicerContext
from opentelemetry import trace
from typing_extensions import override

from aquifer.lines import count
from aquifer.query.v1 import query_service_pb2 as pb
from aquifer.query.v1.query_service_pb2_grpc import QueryServiceServicer
from aquifer.structs import to_value
from chassis.base import paging
from chassis.base.errors import NotFoundError
from chassis.identity.tokens import caller
from chassis.rpc.limits import MESSAGE_MAX_BYTES
from chassis.rpc.server import Access, any_of
from query.answer import OUTPUT_TOKENS_DEFAULT, Inquiry
from query.answer_messages import (
    annotate,
    read_as_of,
    read_feedback,
    to_answer,
    to_lines,
    to_passage,
    to_step,
)
from query.domain import (
    Explained,
    Explanation,
    Hit,
    Question,
    Ranking,
    SearchResult,
    Version,
)
from query.export_messages import read_cursor, read_wanted, to_exported
from query.filters.facets import Facets, read_fields
from query.filters.language import parse_filter
from query.labels import to_labels
from query.usecases.answers import Answers
from query.usecases.ask import Ask
from query.usecases.count_facets import CountFacets, Facet
from query.usecases.documents import HideDocument, HideDocuments
from query.usecases.export_answers import ExportAnswers
from query.usecases.find_passages import FindPassages
from query.usecases.label_documents import LabelDocuments
from query.usecases.ports import Inspected, Inspection, Ledger

ACCESS: Access = {
    "aquifer.query.v1.QueryService/Search": any_of("search"),
    "aquifer.query.v1.QueryService/Ask": any_of("ask"),
    "aquifer.query.v1.QueryService/GetAnswer": any_of("ask"),
    "aquifer.query.v1.QueryService/GiveFeedback": any_of("ask"),
    "aquifer.query.v1.QueryService/ExportAnswers": any_of("ask"),
    "aquifer.query.v1.QueryService/CountFacets": any_of("search"),
    "aquifer.query.v1.QueryService/HideDocument": any_of("internal"),
    "aquifer.query.v1.QueryService/HideDocuments": any_of("internal"),
    "aquifer.query.v1.QueryService/LabelDocuments": any_of("internal"),
    "aquifer.query.v1.QueryService/InspectDocuments": any_of("internal"),
}
LIMIT_DEFAULT: Final = 10
# Of a line in a response: four floats, three integers and their tags.
LINE_MAX_BYTES: Final = 48
COPIES_MAX: Final = 20
# Of the tag and the length of a passage in a response.
FIELD_MAX_BYTES: Final = 8
RANKINGS: Final = {
    Ranking.MEANING_AND_WORDS: pb.RANKING_MEANING_AND_WORDS,
    Ranking.WORDS: pb.RANKING_WORDS,
}


@dataclass(frozen=True, kw_only=True)
class QueryRpc(QueryServiceServicer):
    """`QueryService`; converts messages and calls use cases for the caller's verified tenant."""

    find: FindPassages
    ask: Ask
    answers: Answers
    export: ExportAnswers
    facets: CountFacets
    hide: HideDocument
    hide_many: HideDocuments
    label: LabelDocuments
    ledger: Ledger

    @override
    async def Search(
        self, request: pb.SearchRequest, context: ServicerContext[Any, Any]
    ) -> pb.SearchResponse:
        """Ranks passages against a question, best first."""
        who = caller()
        question = Question(
            tenant=who.tenant,
            held=who.labels,
            text=request.question,
            collection=request.collection,
            collections=tuple(request.collections),
            limit=request.limit or LIMIT_DEFAULT,
            one_per_document=request.one_per_document,
            join_copies=not request.separate_copies,
            reranker=request.reranker if request.rerank else None,
            where=parse_filter(request.filter),
            wordings=tuple(request.wordings),
            diversity=request.diversity,
            neighbours=request.neighbours,
            explain=request.explain,
            as_of=read_as_of(request),
        )
        return _found(await self.find.run(await self._check(question)))

    async def _check(self, question: Question) -> Question:
        """The question and its other wordings as the guardrails leave them."""
        texts = [
            (await self.ask.guardrails.check_question(text, by_models=False))[0]
            for text in (question.text, *question.wordings)
        ]
        return replace(question, text=texts[0], wordings=tuple(texts[1:]))

    @override
    async def Ask(
        self, request: pb.AskRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.AskResponse]:
        """Streams an answer; its span links to the traces of the uploads that it cites."""
        who = caller()
        inquiry = Inquiry(
            tenant=who.tenant,
            held=who.labels,
            principal=who.principal,
            question=request.question,
            collection=request.collection,
            collections=tuple(request.collections),
            model=request.model,
            max_output_tokens=request.max_output_tokens or OUTPUT_TOKENS_DEFAULT,
            filter=request.filter,
            where=parse_filter(request.filter),
            reranker=request.reranker if request.rerank else None,
            prompt=request.prompt,
            as_of=read_as_of(request),
        )
        span = trace.get_current_span()
        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        async with aclosing(self.ask.run(inquiry, trace_id)) as steps:
            async for step in steps:
                annotate(span, step)
                yield to_step(step)

    @override
    async def GetAnswer(
        self, request: pb.GetAnswerRequest, context: ServicerContext[Any, Any]
    ) -> pb.Answer:
        """Reads an answer, without text of documents that were deleted since."""
        who, answer_id = caller(), _parse_uuid(request.answer_id)
        answer = await self.answers.find(who.tenant, answer_id, who.labels) if answer_id else None
        if answer is None:
            raise _unknown_answer_error()
        return to_answer(answer)

    @override
    async def GiveFeedback(
        self, request: pb.GiveFeedbackRequest, context: ServicerContext[Any, Any]
    ) -> pb.GiveFeedbackResponse:
        """Stores what the caller, who asked, thinks of an answer."""
        who, answer_id = caller(), _parse_uuid(request.answer_id)
        feedback = read_feedback(request.feedback)
        if answer_id is None or not await self.answers.rate(
            who.tenant, who.principal, answer_id, who.labels, feedback
        ):
            raise _unknown_answer_error()
        return pb.GiveFeedbackResponse()

    @override
    async def ExportAnswers(
        self, request: pb.ExportAnswersRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.ExportedAnswer]:
        """Streams the caller's answers, or those of its tenant, oldest first."""
        wanted, after = read_wanted(request, caller()), read_cursor(request.cursor)
        async with aclosing(self.export.run(wanted, after)) as records:
            async for record in records:
                yield to_exported(record)

    @override
    async def CountFacets(
        self, request: pb.CountFacetsRequest, context: ServicerContext[Any, Any]
    ) -> pb.CountFacetsResponse:
        """Counts the documents that the caller may see by the values of their fields."""
        who = caller()
        asked = Facets(
            tenant=who.tenant,
            held=who.labels,
            collection=request.collection,
            collections=tuple(request.collections),
            where=parse_filter(request.filter),
            fields=read_fields(request.fields),
            limit=request.limit or LIMIT_DEFAULT,
        )
        counted = await self.facets.run(asked)
        return pb.CountFacetsResponse(
            facets=map(_facet, counted.facets),
            documents=counted.documents,
            partial=counted.partial,
        )

    @override
    async def HideDocument(
        self, request: pb.HideDocumentRequest, context: ServicerContext[Any, Any]
    ) -> pb.HideDocumentResponse:
        """Commits the tombstone; called by ingest for the tenant of the document."""
        version = Version(document=request.document, number=request.version)
        await self.hide.run(caller().tenant, version)
        return pb.HideDocumentResponse()

    @override
    async def HideDocuments(
        self, request: pb.HideDocumentsRequest, context: ServicerContext[Any, Any]
    ) -> pb.HideDocumentsResponse:
        """Commits the tombstones; called by ingest for the tenant of the documents."""
        versions = [Version(document=one.document, number=one.version) for one in request.documents]
        await self.hide_many.run(caller().tenant, versions)
        return pb.HideDocumentsResponse()

    @override
    async def LabelDocuments(
        self, request: pb.LabelDocumentsRequest, context: ServicerContext[Any, Any]
    ) -> pb.LabelDocumentsResponse:
        """Sets labels; called by ingest for the tenant of the documents."""
        labelled = [(one.document, to_labels(one.labels, one.order)) for one in request.documents]
        await self.label.run(caller().tenant, labelled)
        return pb.LabelDocumentsResponse()

    @override
    async def InspectDocuments(
        self, request: pb.InspectDocumentsRequest, context: ServicerContext[Any, Any]
    ) -> pb.InspectDocumentsResponse:
        """Lists what is known of documents; called by ingest for the tenant of the documents."""
        asked = Inspection(
            documents=request.documents,
            collection=request.collection,
            after=request.after,
            limit=paging.parse_size(request.page_size),
        )
        found = await self.ledger.inspect(caller().tenant, asked)
        return pb.InspectDocumentsResponse(documents=map(_inspected, found))


def _unknown_answer_error() -> NotFoundError:
    return NotFoundError("ANSWER_UNKNOWN", "no answer has this id; check id and key")


def _facet(facet: Facet) -> pb.Facet:
    values = [
        pb.FacetValue(value=to_value(value), documents=documents)
        for value, documents in facet.values
    ]
    return pb.Facet(field=facet.field.name, values=values, distinct_values=facet.distinct)


def _found(result: SearchResult) -> pb.SearchResponse:
    """Hits with their lines and neighbours, the best first, as far as the message has room."""
    hits = result.hits
    response = pb.SearchResponse(
        hits=map(_hit, hits),
        ranking=RANKINGS[result.ranking],
        words_outdated=result.words_outdated,
        explanation=_explanation(result.explanation),
    )
    left_bytes = MESSAGE_MAX_BYTES - response.ByteSize()
    for hit, found in zip(hits, response.hits, strict=True):
        left_bytes -= LINE_MAX_BYTES * count(hit.passage.lines)
        if left_bytes < 0:
            break
        found.lines.extend(to_lines(hit.passage, 0, len(hit.passage.text)))
    left_bytes = MESSAGE_MAX_BYTES - response.ByteSize()
    for hit, found in zip(hits, response.hits, strict=True):
        before, after = list(map(to_passage, hit.before)), list(map(to_passage, hit.after))
        left_bytes -= sum(one.ByteSize() + FIELD_MAX_BYTES for one in (*before, *after))
        if left_bytes < 0:
            break
        found.before.extend(before)
        found.after.extend(after)
    return response


def _explanation(explanation: Explanation | None) -> pb.SearchExplanation | None:
    if explanation is None:
        return None
    return pb.SearchExplanation(
        stages=[
            pb.SearchStage(name=one.name, milliseconds=one.seconds * 1e3, passages=one.passages)
            for one in explanation.stages
        ],
        terms=[pb.QuestionTerm(term=term, weight=weight) for term, weight in explanation.terms],
        profile=explanation.profile,
    )


def _explained(explained: Explained | None) -> pb.HitExplanation | None:
    if explained is None:
        return None
    return pb.HitExplanation(
        meaning_rank=explained.meaning_rank,
        words_rank=explained.words_rank,
        meaning=explained.meaning,
        words=explained.words,
        neighbours=explained.neighbours,
        fused_rank=explained.fused_rank,
    )


def _hit(hit: Hit) -> pb.Hit:
    return pb.Hit(
        passage=to_passage(hit.passage),
        score=hit.score,
        cosine=hit.cosine,
        bm25=hit.bm25,
        rerank_score=hit.rerank_score,
        copy_count=len(hit.copies),
        copies=[
            pb.Copy(
                document=copy.version.document,
                version=copy.version.number,
                chunk_id=str(copy.chunk_id),
            )
            for copy in hit.copies[:COPIES_MAX]
        ],
        explanation=_explained(hit.explained),
    )


def _inspected(one: Inspected) -> pb.InspectedDocument:
    return pb.InspectedDocument(
        document=one.document,
        live_version=one.live_version,
        tombstone_version=one.tombstone_version,
        passages=one.passages,
        deleted_passages=one.deleted_passages,
        labels=one.labels,
    )


def _parse_uuid(text: str) -> UUID | None:
    """Parses an id; None if it is not a UUID, so no answer has it."""
    try:
        return UUID(text)
    except ValueError:
        return None
