"""Documents soak in and answers come out, through every real process, whatever is killed."""

import asyncio
import shutil
import uuid

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from aquifer.ingest.v1.document_events_pb2 import (
    Chunk,
    ChunksPrepared,
    DocumentDeletionRequested,
    DocumentFailed,
)
from aquifer.ingest.v1.document_pb2 import Description
from aquifer.query.v1 import query_service_pb2 as pb
from aquifer.query.v1.passage_events_pb2 import (
    AnswerProduced,
    PassagesPurged,
    VersionSearchable,
)
from aquifer.query.v1.query_service_pb2_grpc import QueryServiceStub
from chassis.identity.tokens import TENANT_KEY

pytestmark = pytest.mark.timeout(300)

PUMP = "collections/manuals/documents/pump"
TRACE = "0af7651916cd43dd8448eb211c80319c"
TEXTS = (
    "The impeller of the P-200 pump must be replaced after 4,000 hours of operation.",
    "Grease the bearing of the motor every six months with lithium grease.",
)


def chunks_prepared(*texts: str, document: str = PUMP, version: int = 1) -> ChunksPrepared:
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{document}/{version}")
    return ChunksPrepared(
        tenant="acme",
        document=document,
        version=version,
        batch_count=1,
        chunk_count=len(texts),
        description=Description(title="Pump manual"),
        trace_id=TRACE,
        chunks=[
            Chunk(chunk_id=str(uuid.uuid5(name, str(n))), ordinal=n, text=text, end=len(text))
            for n, text in enumerate(texts)
        ],
    )


def read_reason(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)
    info = ErrorInfo()
    assert status is not None
    status.details[0].Unpack(info)
    return f"{error.code().name} {info.reason}"


async def refusal(call) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return read_reason(refused.value)


async def search(caller, question: str, **options) -> list[str]:
    response = await caller.Search(pb.SearchRequest(question=question, **options))
    return [hit.passage.text for hit in response.hits]


async def search_until(caller, question: str, wanted: list[str]) -> list[str]:
    """Searches until the index answers at all and gives what is wanted, or a minute is over."""
    refused = []
    async with asyncio.timeout(60):
        while True:
            try:
                if await search(caller, question) == wanted:
                    return refused
            except grpc.aio.AioRpcError as error:
                refused.append(read_reason(error))
            await asyncio.sleep(0.05)


async def test_a_document_soaks_in_is_cited_and_vanishes(servers, caller):
    await servers.publish("ingest", chunks_prepared(*TEXTS))
    assert await servers.wait_for_facts(VersionSearchable, "acme") == [
        VersionSearchable(tenant="acme", document=PUMP, version=1, passage_count=2)
    ]
    assert await search(caller, "When must the impeller be replaced?", limit=1) == [TEXTS[0]]

    question = "After how many hours must the impeller be replaced?"
    steps = [step async for step in caller.Ask(pb.AskRequest(question=question))]
    kinds = [step.WhichOneof("step") for step in steps]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert steps[-1].finished.reason == pb.FINISH_REASON_STOP
    cited = [step.citation for step in steps if step.WhichOneof("step") == "citation"]
    assert "4,000 hours" in cited[0].quote
    assert cited[0].passage.text[cited[0].quote_start : cited[0].quote_end] == cited[0].quote
    assert cited[0].passage.ingest_trace_id == TRACE

    answer_id = steps[0].started.answer_id
    answer = await caller.GetAnswer(pb.GetAnswerRequest(answer_id=answer_id))
    assert answer.text == "".join(step.delta.text for step in steps)
    assert list(answer.citations) == cited
    assert answer.finished == steps[-1].finished
    [fact] = await servers.wait_for_facts(AnswerProduced, "acme")
    assert (fact.answer_id, [one.document for one in fact.cited]) == (answer_id, [PUMP])

    async with servers.channel() as channel:
        ingest = await servers.token(servers.keys["service_keys"]["ingest"])
        await QueryServiceStub(channel).HideDocument(
            pb.HideDocumentRequest(document=PUMP, version=1),
            metadata=[*ingest, (TENANT_KEY, "acme")],
        )
    assert await search(caller, "impeller") == []
    hidden = await caller.GetAnswer(pb.GetAnswerRequest(answer_id=answer_id))
    assert (hidden.text, hidden.citations[0].quote) == ("", "")

    await servers.publish(
        "ingest", DocumentDeletionRequested(tenant="acme", document=PUMP, version=1)
    )
    assert await servers.wait_for_facts(PassagesPurged, "acme") == [
        PassagesPurged(
            tenant="acme", document=PUMP, version=1, passages=2, points=2, redacted_answers=1
        )
    ]
    assert servers.rows("SELECT * FROM passages") == []


async def test_a_live_version_that_ingest_gave_up_is_told_again(servers):
    ready = chunks_prepared(*TEXTS)
    ready.tenant = "forgetful"
    await servers.publish("ingest", ready)
    [published] = await servers.wait_for_facts(VersionSearchable, ready.tenant)
    failed = DocumentFailed(tenant=ready.tenant, document=PUMP, version=1, reason="STEP_DEADLINE")
    await servers.publish("ingest", failed)
    assert await servers.wait_for_facts(VersionSearchable, ready.tenant, count=2) == [
        published,
        published,
    ]


async def test_nothing_known_is_answered_with_no_answer(servers, caller):
    steps = [step async for step in caller.Ask(pb.AskRequest(question="Who won the cup?"))]
    assert steps[-1].finished.reason == pb.FINISH_REASON_NO_ANSWER


async def test_every_door_is_shut_to_who_may_not_enter(servers, caller):
    async with servers.channel() as channel:
        stub = QueryServiceStub(channel)
        searcher = await servers.key("search")
        ask = pb.AskRequest(question="why")
        assert (
            await refusal(stub.Search(pb.SearchRequest(question="why")))
            == "UNAUTHENTICATED TOKEN_MISSING"
        )
        hide = stub.HideDocument(
            pb.HideDocumentRequest(document=PUMP, version=1), metadata=searcher
        )
        assert await refusal(hide) == "PERMISSION_DENIED SCOPE_MISSING"
        assert await refusal(anext(aiter(stub.Ask(ask, metadata=searcher)))) == (
            "PERMISSION_DENIED SCOPE_MISSING"
        )
        foreign = stub.Search(
            pb.SearchRequest(question="why"), metadata=[*searcher, (TENANT_KEY, "globex")]
        )
        assert await refusal(foreign) == "PERMISSION_DENIED TENANT_FOREIGN"
    unknown = [str(uuid.uuid4()), "no id at all"]
    answers = {await refusal(caller.GetAnswer(pb.GetAnswerRequest(answer_id=i))) for i in unknown}
    assert answers == {"NOT_FOUND ANSWER_UNKNOWN"}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.SearchRequest(), "QUESTION_LENGTH"),
        (pb.SearchRequest(question="x" * 4001), "QUESTION_LENGTH"),
        (pb.SearchRequest(question="why", limit=101), "LIMIT_RANGE"),
        (pb.SearchRequest(question="why", collection="a/b"), "COLLECTION_NAME"),
        (pb.SearchRequest(question="why", collections=["a", "a/b"]), "COLLECTION_NAME"),
        (pb.SearchRequest(question="why", collections=["a", "a"]), "COLLECTIONS_COUNT"),
        (pb.SearchRequest(question="why", as_of=Timestamp(seconds=2**60)), "AS_OF_RANGE"),
        (pb.SearchRequest(question="why", as_of=Timestamp(nanos=-1)), "AS_OF_RANGE"),
    ],
)
async def test_what_can_not_be_asked_is_refused(caller, request_, reason):
    assert await refusal(caller.Search(request_)) == f"INVALID_ARGUMENT {reason}"


async def test_a_client_that_hangs_up_leaves_no_answer(servers, caller):
    before = servers.rows("SELECT count(*) FROM answers")
    call = caller.Ask(pb.AskRequest(question="After how many hours?"))
    first = await call.read()
    assert first.WhichOneof("step") == "started"
    call.cancel()
    await asyncio.sleep(0.5)
    assert servers.rows("SELECT count(*) FROM answers") == before


async def test_a_killed_vector_process_costs_time_only(servers, caller):
    document = "collections/manuals/documents/kill"
    await servers.publish("ingest", chunks_prepared("The valve opens at 3 bar.", document=document))
    await search_until(caller, "valve", ["The valve opens at 3 bar."])
    servers.vectors.kill()
    assert (await refusal(caller.Search(pb.SearchRequest(question="valve"), timeout=2))).startswith(
        ("UNAVAILABLE VECTORS_UNAVAILABLE", "DEADLINE_EXCEEDED")
    )
    late = "collections/manuals/documents/late"
    await servers.publish("ingest", chunks_prepared("The gasket is red.", document=late))
    servers.vectors.start()
    await search_until(caller, "gasket red", ["The gasket is red.", "The valve opens at 3 bar."])


async def test_a_lost_vector_store_is_rebuilt_and_never_half(servers, caller):
    names = [f"collections/lost/documents/d{n}" for n in range(40)]
    await servers.publish(
        "ingest",
        *(chunks_prepared(f"Cable {n} is blue.", document=name) for n, name in enumerate(names)),
    )
    live = "SELECT count(*) FROM documents WHERE live_version > 0 AND document LIKE '%/lost/%'"
    async with asyncio.timeout(60):
        while servers.rows(live) != [(len(names),)]:
            await asyncio.sleep(0.05)
    before = await caller.Search(pb.SearchRequest(question="cable blue", limit=100))
    servers.vectors.kill()
    shutil.rmtree(servers.vectors.data)
    servers.vectors.start()
    refused = []
    async with asyncio.timeout(90):
        while True:
            try:
                after = await caller.Search(pb.SearchRequest(question="cable blue", limit=100))
            except grpc.aio.AioRpcError as error:
                refused.append(read_reason(error))
                await asyncio.sleep(0.02)
            else:
                break
    assert set(refused) <= {
        "UNAVAILABLE VECTORS_REBUILDING",
        "UNAVAILABLE VECTORS_UNAVAILABLE",
    }
    assert refused
    texts = [hit.passage.text for hit in before.hits]
    assert sorted(hit.passage.text for hit in after.hits) == sorted(texts)


async def test_a_process_told_to_stop_does_so_in_order(servers):
    servers.query.stop()
    assert servers.query.exit_code == 0
    servers.query.start()
    assert servers.query.running


async def test_several_collections_are_asked_over_rpc(servers, caller):
    texts = {f"well-{name}": f"Well {name} is {name}0 metres deep." for name in "123"}
    for collection, text in texts.items():
        document = f"collections/{collection}/documents/d"
        await servers.publish("ingest", chunks_prepared(text, document=document))
    chosen = {"collection": "well-1", "collections": ["well-3"]}
    expected = sorted([texts["well-1"], texts["well-3"]])
    question = "How deep is the well?"
    async with asyncio.timeout(60):
        while True:
            found = await caller.Search(pb.SearchRequest(question=question, **chosen))
            if len(found.hits) == len(expected):
                break
            await asyncio.sleep(0.1)
    assert sorted(hit.passage.text for hit in found.hits) == expected
    asked = pb.AskRequest(question=question, **chosen)
    cited = {
        step.citation.passage.text
        async for step in caller.Ask(asked)
        if step.WhichOneof("step") == "citation"
    }
    assert cited
    assert cited <= set(expected)
    counted = await caller.CountFacets(pb.CountFacetsRequest(fields=["collection"], **chosen))
    assert [one.value.string_value for one in counted.facets[0].values] == ["well-1", "well-3"]
