"""What the methods add to the use cases: the caller, the defaults, and the span."""

import json

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aquifer.lines import Line, pack
from aquifer.query.v1 import query_service_pb2 as pb
from aquifer.structs import to_json
from chassis.base.errors import InvalidInputError, NotFoundError
from chassis.identity.tokens import Caller, admit
from query.rpc import ACCESS, QueryRpc
from query.usecases.documents import HideDocuments
from query.usecases.export_answers import ExportAnswers

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
async def rpc(world):
    # Asynchronous, so that pytest takes back the caller after the test.
    scopes = frozenset({"search", "ask"})
    caller = Caller(tenant="acme", principal="user:ada", key_id="k", scopes=scopes, expires_at=0.0)
    admit(caller, "token")
    return QueryRpc(
        find=world.find,
        ask=world.ask,
        answers=world.answers,
        export=ExportAnswers(world.exchanges),
        facets=world.facets,
        hide=world.hide,
        hide_many=HideDocuments(world.begin),
        label=world.label,
        ledger=world.ledger,
    )


@pytest.fixture
def spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test"), exporter


async def test_an_answers_span_leads_to_what_brought_in_its_sources(world, rpc, spans):
    tracer, exporter = spans
    await world.deliver(world.embedded("the impeller wears out"))
    with tracer.start_as_current_span("ask"):
        steps = [step async for step in rpc.Ask(pb.AskRequest(question="impeller"), None)]
    [span] = exporter.get_finished_spans()
    assert span.attributes["aquifer.answer.id"] == steps[0].started.answer_id
    assert steps[0].started.trace_id == trace.format_trace_id(span.context.trace_id)
    [link] = span.links
    assert trace.format_trace_id(link.context.trace_id) == TRACE
    assert link.attributes["document.id"] == "collections/manuals/documents/pump"
    assert link.attributes["aquifer.document.version"] == 1


@pytest.mark.parametrize("trace_id", ["", "no trace at all", "a\0b"])
async def test_a_passage_without_a_trace_is_cited_without_a_link(world, rpc, spans, trace_id):
    tracer, exporter = spans
    event = world.embedded("the impeller wears out")
    event.prepared.trace_id = trace_id
    await world.deliver(event)
    with tracer.start_as_current_span("ask"):
        assert [step async for step in rpc.Ask(pb.AskRequest(question="impeller"), None)]
    assert exporter.get_finished_spans()[0].links == ()


async def test_what_was_answered_is_read_back_over_the_wire(world, rpc):
    await world.deliver(world.embedded("the impeller wears out"))
    steps = [step async for step in rpc.Ask(pb.AskRequest(question="impeller"), None)]
    answer = await rpc.GetAnswer(pb.GetAnswerRequest(answer_id=steps[0].started.answer_id), None)
    assert answer.text == "".join(step.delta.text for step in steps)
    assert answer.citations[0] == steps[3].citation
    assert answer.finished == steps[-1].finished
    assert answer.finished.confidence == 0.75


TYPED = {"year": 2020, "public": True, "tags": ["a"], "score": 0.5}


async def test_metadata_keeps_its_types_in_passages_and_citations(world, rpc):
    await world.deliver(world.embedded("the impeller wears out", metadata=TYPED))
    [hit] = (await rpc.Search(pb.SearchRequest(question="impeller"), None)).hits
    steps = [step async for step in rpc.Ask(pb.AskRequest(question="impeller"), None)]
    [cited] = [step.citation for step in steps if step.HasField("citation")]
    answer = await rpc.GetAnswer(pb.GetAnswerRequest(answer_id=steps[0].started.answer_id), None)
    for passage in (hit.passage, cited.passage, answer.citations[0].passage):
        assert json.dumps(to_json(passage.metadata), sort_keys=True) == json.dumps(
            TYPED, sort_keys=True
        )


async def test_a_hundred_passages_with_all_their_metadata_fit_into_a_message(world, rpc):
    texts = [f"impeller {number} " + "\N{DROPLET}" * 4_050 for number in range(100)]
    metadata = {f"{n:064}": "v" * 436 for n in range(32)}
    for batch in range(10):
        event = world.embedded(
            *texts[10 * batch : 10 * batch + 10],
            batch=batch,
            batch_count=10,
            chunk_count=100,
            first=10 * batch,
            title="\N{DROPLET}" * 512,
            metadata=metadata,
        )
        for chunk in event.prepared.chunks:
            chunk.lines = pack(Line(n, n + 1, 1, 1, 65_000, 65_001) for n in range(300))
        await world.deliver(event)
    response = await rpc.Search(pb.SearchRequest(question="impeller", limit=100), None)
    assert len(response.hits) == 100
    assert response.ByteSize() < 4 << 20
    assert [len(response.hits[place].lines) for place in (0, 99)] == [300, 0]


async def test_hits_and_citations_have_lines_in_points(world, rpc):
    event = world.embedded("the impeller wears out\nin a year")
    event.prepared.chunks[0].lines = pack([Line(0, 22, 288, 289, 290, 295)])
    await world.deliver(event)
    expected = pb.Line(page=1, start=0, end=22, left=72, top=72.25, right=72.5, bottom=73.75)
    [hit] = (await rpc.Search(pb.SearchRequest(question="impeller"), None)).hits
    assert list(hit.lines) == [expected]
    steps = [step async for step in rpc.Ask(pb.AskRequest(question="impeller"), None)]
    [cited] = [step.citation for step in steps if step.HasField("citation")]
    assert list(cited.lines) == [expected]


@pytest.mark.parametrize("answer_id", ["", "x", "6f1c0b4e-5a52-4c55-9c5f-2f2a2f6d8f10"])
async def test_an_answer_that_is_not_there_is_unknown(rpc, answer_id):
    with pytest.raises(NotFoundError) as refused:
        await rpc.GetAnswer(pb.GetAnswerRequest(answer_id=answer_id), None)
    assert (refused.value.reason, refused.value.facts) == ("ANSWER_UNKNOWN", {})


async def test_a_limit_of_zero_means_ten(world, rpc):
    await world.deliver(world.embedded(*(f"impeller {n}" for n in range(12))))
    assert len((await rpc.Search(pb.SearchRequest(question="impeller"), None)).hits) == 10


@pytest.mark.parametrize(
    ("document", "version", "reason"),
    [
        ("pump", 1, "DOCUMENT_NAME"),
        ("collections/manuals/documents/pump", 0, "VERSION_INVALID"),
        ("collections/manuals/documents/pump", -1, "VERSION_INVALID"),
    ],
)
async def test_only_what_could_exist_is_hidden(world, rpc, document, version, reason):
    with pytest.raises(InvalidInputError) as refused:
        await rpc.HideDocument(pb.HideDocumentRequest(document=document, version=version), None)
    assert refused.value.reason == reason
    assert world.rows("documents") == []


async def test_many_documents_are_hidden_at_once_known_or_not(world, rpc):
    names = [f"collections/manuals/documents/{number}" for number in range(4)]
    for name in names[:3]:
        await world.deliver(world.embedded("impeller", document=name))
    hidden = [pb.HideDocumentRequest(document=name, version=1) for name in reversed(names[1:])]
    await rpc.HideDocuments(pb.HideDocumentsRequest(documents=hidden), None)
    await rpc.HideDocuments(pb.HideDocumentsRequest(documents=hidden), None)
    found = await rpc.Search(pb.SearchRequest(question="impeller"), None)
    assert [hit.passage.document for hit in found.hits] == names[:1]
    await world.deliver(world.embedded("impeller", document=names[3]))
    assert len((await rpc.Search(pb.SearchRequest(question="impeller"), None)).hits) == 1


@pytest.mark.parametrize(
    ("documents", "reason"),
    [
        ([], "HIDE_COUNT"),
        ([("collections/manuals/documents/a", 1)] * 2, "HIDE_COUNT"),
        ([(f"collections/manuals/documents/{n}", 1) for n in range(1_001)], "HIDE_COUNT"),
        ([("collections/manuals/documents/a", 1), ("b", 1)], "DOCUMENT_NAME"),
        ([("collections/manuals/documents/a", 0)], "VERSION_INVALID"),
    ],
)
async def test_all_of_many_documents_are_hidden_or_none(world, rpc, documents, reason):
    hidden = [pb.HideDocumentRequest(document=name, version=last) for name, last in documents]
    with pytest.raises(InvalidInputError) as refused:
        await rpc.HideDocuments(pb.HideDocumentsRequest(documents=hidden), None)
    assert refused.value.reason == reason
    assert world.rows("documents") == []


def test_every_method_has_its_scope():
    service = pb.DESCRIPTOR.services_by_name["QueryService"]
    assert set(ACCESS) == {f"{service.full_name}/{method.name}" for method in service.methods}


async def test_a_filter_narrows_search_and_answer(world, rpc):
    await world.deliver(world.embedded("the impeller wears out", metadata={"year": 2020}))
    for text, count in (("metadata.year = 2020", 1), ('metadata.year = "2020"', 0)):
        found = await rpc.Search(pb.SearchRequest(question="impeller", filter=text), None)
        assert len(found.hits) == count
        asked = pb.AskRequest(question="impeller", filter=text)
        steps = [step async for step in rpc.Ask(asked, None)]
        assert len([one for one in steps if one.HasField("citation")]) == count


async def test_a_filter_that_cannot_be_read_is_refused_before_anything_is_done(world, rpc):
    for text in ("impeller", "metadata.year >", "update_time > 2020-01-01T00:00:00Z", "(" * 4_000):
        with pytest.raises(InvalidInputError) as refused:
            await rpc.Search(pb.SearchRequest(question="impeller", filter=text), None)
        assert refused.value.reason == "FILTER_INVALID"
        with pytest.raises(InvalidInputError) as refused:
            _ = [step async for step in rpc.Ask(pb.AskRequest(question="a", filter=text), None)]
        assert (refused.value.reason, refused.value.fields[0].field) == ("FILTER_INVALID", "filter")
    assert world.embedder.embedded == []
