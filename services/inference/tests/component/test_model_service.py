"""Models that are loaded, replaced and unloaded while processes answer, on a real broker."""

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from pydantic import SecretStr

from aquifer.inference.v1 import inference_service_pb2 as pb
from aquifer.inference.v1 import model_service_pb2 as models_pb
from chassis.events.topology import state_subject
from inference import model_loader
from inference.app import build
from inference.definition_store import STORED_S, STREAM, StoredDefinitions
from services.inference.tests.openai_server import MODEL, running_openai_server

from .conftest import RunningService, failure, question, settings_for

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(32)).decode()
GENERATE, EMBED, RERANK = (
    pb.MODEL_KIND_GENERATE,
    pb.MODEL_KIND_EMBED,
    pb.MODEL_KIND_RERANK,
)


@dataclass(frozen=True, slots=True)
class Replica:
    """A process of the service, and its calls as an operator."""

    service: RunningService

    @property
    def operator(self) -> dict[str, Any]:
        return self.service.caller(scope="operate")

    async def load(self, name: str, *servers: Any, kind: Any = GENERATE, **more: Any) -> Any:
        engines = [
            models_pb.EngineDefinition(engine="openai", url=server.url) for server in servers
        ]
        request = models_pb.LoadModelRequest(
            **{"name": name, "kind": kind, "engines": engines} | more
        )
        return await self.service.models.LoadModel(request, **self.operator)

    async def unload(self, name: str, *, force: bool = False) -> None:
        request = models_pb.UnloadModelRequest(name=name, force=force)
        await self.service.models.UnloadModel(request, **self.operator)

    async def set_alias(self, alias: str, model: str) -> None:
        request = models_pb.SetModelAliasRequest(alias=alias, model=model)
        await self.service.models.SetModelAlias(request, **self.operator)

    async def list(self) -> dict[str, Any]:
        listed = await self.service.stub.ListModels(pb.ListModelsRequest(), **self.service.caller())
        return {model.name: model for model in listed.models}

    async def get(self, name: str) -> Any:
        request = pb.GetModelRequest(name=name)
        return await self.service.stub.GetModel(request, **self.service.caller())

    async def ask(self, model: str = "", **more: Any) -> Any:
        """The finish of an answer."""
        request = question("How deep is the well?", model=model, **more)
        call = self.service.stub.Generate(request, **self.service.caller())
        *_, last = [step async for step in call]
        return last.finish

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Waits until the listed models are as they should be."""
        async with asyncio.timeout(20):
            while not condition(await self.list()):
                await asyncio.sleep(0.02)


@pytest.fixture
def start(bus, open_with):
    """Starts a replica; all have the same broker."""

    async def started(**more: Any) -> Replica:
        known = {"embedder": "null", "credential_key": SecretStr(KEY)}
        settings = settings_for(bus, **known | more)
        return Replica(await open_with(partial(build, settings=settings)))

    return started


@pytest.fixture
async def server():
    async with running_openai_server() as server:
        yield server


@pytest.fixture
async def other():
    async with running_openai_server() as server:
        yield server


async def stored(bus) -> dict[str, bytes]:
    """What the broker holds, by subject."""
    async with bus.connect("provisioner") as admin:
        info = await admin.jetstream.stream_info(STREAM, subjects_filter=">")
        subjects = info.state.subjects or {}
        return {
            subject: (await admin.jetstream.get_last_msg(STREAM, subject)).data
            for subject in subjects
        }


async def put(bus, subject: str, content: bytes) -> None:
    async with bus.connect("inference") as own:
        await own.jetstream.publish(subject, content)


def model_subject(name: str) -> str:
    return state_subject("inference", "models", name.encode().hex())


async def test_a_loaded_model_answers_and_is_listed(start, server):
    replica = await start()
    told = {"description": "for tests", "licence": "Apache-2.0", "revision": "r7"}
    model = await replica.load("chat", server, **told)
    assert (model.state, model.problem, model.loaded) == (pb.MODEL_STATE_READY, "", True)
    assert (model.description, model.licence, model.revision) == tuple(told.values())
    assert [(one.address, one.weight, one.healthy) for one in model.servers] == [
        (f"127.0.0.1:{server.port}", 1, True)
    ]
    finish = await replica.ask("chat")
    # What the engine tells with an answer goes before what it was said to be.
    assert (finish.model, finish.revision) == ("chat", "r1")
    listed = await replica.list()
    assert list(listed) == ["null", "extractive", "chat"]
    assert not listed["extractive"].loaded
    assert await replica.get("chat") == model


async def test_its_key_is_sent_to_its_server_and_is_nowhere_else(start, server, bus, caplog):
    caplog.set_level(logging.DEBUG)
    replica = await start()
    secret = "sk-very-secret-7391"
    engine = models_pb.EngineDefinition(engine="openai", url=server.url, api_key=secret)
    model = await replica.load("chat", engines=[engine])
    await replica.ask("chat")
    assert {seen["authorization"] for seen in server.seen} == {f"Bearer {secret}"}
    everything = json.dumps({name: value.decode() for name, value in (await stored(bus)).items()})
    assert "sealed_key" in everything
    assert secret not in everything + caplog.text + str(model) + str(await replica.list())
    assert base64.b64encode(secret.encode()).decode()[:16] not in everything


async def test_every_replica_has_it_also_one_that_starts_later(start, server):
    first, second = await start(), await start()
    await first.load("chat", server)
    await first.set_alias("best", "chat")
    await second.until(lambda listed: "chat" in listed and list(listed["chat"].aliases) == ["best"])
    assert (await second.ask("best")).model == "chat"
    third = await start()
    async with asyncio.timeout(10):
        while await third.service.process.probes[-1]():
            await asyncio.sleep(0.01)
    assert (await third.ask("chat")).model == "chat"
    await second.unload("chat")
    for replica in (first, third):
        await replica.until(lambda listed: "chat" not in listed)
        assert await failure(replica.ask("best")) == ("NOT_FOUND", "MODEL_UNKNOWN")


async def test_a_change_is_looked_at_again_when_the_broker_has_stored_it(bus):
    """The broker may tell of a change before the stream has it."""
    async with bus.connect("inference") as own, asyncio.timeout(20):
        definitions = StoredDefinitions(own, "")
        changes = definitions.watch()
        await anext(changes)
        await definitions.write_alias("best", "chat")
        await anext(changes)
        await anext(changes)
        assert (await definitions.read()).aliases == {"best": "chat"}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2 * STORED_S):
                await anext(changes)


async def test_a_model_is_replaced_without_a_gap(start, server, other):
    server.words, other.words = ["first"] * 40, ["second"]
    server.pause_s = 0.01
    replica = await start()
    await replica.load("chat", server)
    running = asyncio.ensure_future(replica.ask("chat"))
    while not server.running:
        await asyncio.sleep(0.01)
    answers = [await replica.load("chat", other), await replica.load("chat", other)]
    assert {answer.servers[0].address for answer in answers} == {f"127.0.0.1:{other.port}"}
    await replica.ask("chat")
    assert (len(other.asked), len(server.asked)) == (1, 1)
    assert (await running).model == "chat"


async def test_a_replacement_that_cannot_be_opened_leaves_the_old_one(start, server, other):
    replica = await start()
    await replica.load("chat", server)
    other.models = []
    model = await replica.load("chat", other)
    assert model.state == pb.MODEL_STATE_READY
    assert "ENGINE_NOT_READY" in model.problem
    assert (await replica.ask("chat")).model == "chat"
    await replica.unload("chat")
    assert await failure(replica.ask("chat")) == ("NOT_FOUND", "MODEL_UNKNOWN")
    async with asyncio.timeout(5):
        while server.running:
            await asyncio.sleep(0.01)


async def test_a_model_whose_server_starts_later_is_opened_then(start, server):
    replica = await start()
    server.models = []
    model = await replica.load("chat", server)
    assert model.state == pb.MODEL_STATE_FAILED
    assert "it lists no model" in model.problem
    assert await failure(replica.ask("chat")) == ("UNAVAILABLE", "MODEL_NOT_READY")
    server.models = [MODEL]
    await replica.until(lambda listed: listed["chat"].state == pb.MODEL_STATE_READY)
    assert (await replica.ask("chat")).model == "chat"


async def test_a_server_that_is_away_is_told(start, server):
    replica = await start()
    await replica.load("chat", server)
    server.status = 500
    await failure(replica.ask("chat"))
    model = await replica.get("chat")
    assert model.state == pb.MODEL_STATE_UNREACHABLE
    assert model.problem
    assert not model.servers[0].healthy


async def test_a_call_that_runs_ends_before_its_model_is_closed(start, server):
    server.words, server.pause_s = ["more "] * 50, 0.01
    replica = await start()
    await replica.load("chat", server)
    running = asyncio.ensure_future(replica.ask("chat"))
    while not server.running:
        await asyncio.sleep(0.01)
    await replica.unload("chat")
    assert await failure(replica.ask("chat")) == ("NOT_FOUND", "MODEL_UNKNOWN")
    assert server.running
    assert (await running).model == "chat"


async def test_a_call_that_does_not_end_is_told_why(start, server, monkeypatch):
    monkeypatch.setattr(model_loader, "CALLS_S", 0.2)
    server.words, server.pause_s = ["more "] * 10_000, 0.01
    replica = await start()
    await replica.load("chat", server)
    running = asyncio.ensure_future(replica.ask("chat"))
    while not server.running:
        await asyncio.sleep(0.01)
    await replica.unload("chat")
    async with asyncio.timeout(5):
        assert await failure(running) == ("UNAVAILABLE", "MODEL_UNLOADED")
        while server.running:
            await asyncio.sleep(0.01)


async def test_the_default_can_be_changed(start, server, other):
    replica = await start(engine="openai", engine_url=server.url)
    assert (await replica.ask()).model == "tiny"
    await replica.load("chat", other)
    await replica.set_alias("default", "chat")
    assert (await replica.ask()).model == "chat"
    listed = await replica.list()
    assert list(listed) == ["null", "chat", "tiny", "extractive"]
    request = models_pb.DeleteModelAliasRequest(alias="default")
    await replica.service.models.DeleteModelAlias(request, **replica.operator)
    assert (await replica.ask()).model == "tiny"
    await replica.set_alias("default", "chat")
    await replica.unload("chat")
    assert (await replica.ask()).model == "tiny"
    call = replica.service.models.DeleteModelAlias(request, **replica.operator)
    assert await failure(call) == ("NOT_FOUND", "ALIAS_UNKNOWN")


async def test_an_embedding_model_is_unloaded_by_force_alone(start, server, other):
    replica = await start()
    model = await replica.load("shared", server, other, kind=EMBED)
    assert (model.kind, model.profile, model.dimensions) == (EMBED, "shared", 16)
    request = pb.EmbedRequest(profile="shared", texts=["a well"])
    answer = await replica.service.stub.Embed(request, **replica.service.caller())
    assert (answer.profile, answer.dimensions) == ("shared", 16)
    assert await failure(replica.set_alias("more", "shared")) == (
        "INVALID_ARGUMENT",
        "ALIAS_INVALID",
    )
    assert await failure(replica.unload("shared")) == ("FAILED_PRECONDITION", "FORCE_REQUIRED")
    await replica.unload("shared", force=True)
    call = replica.service.stub.Embed(request, **replica.service.caller())
    assert await failure(call) == ("NOT_FOUND", "PROFILE_UNKNOWN")


async def test_a_reranker_is_loaded(start, server):
    replica = await start()
    model = await replica.load("cross", server, kind=RERANK)
    assert model.kind == RERANK
    request = pb.RerankRequest(model="cross", question="why", texts=["a", "b"])
    answer = await replica.service.stub.Rerank(request, **replica.service.caller())
    assert answer.model == "cross"
    assert await failure(replica.set_alias("default", "cross")) == (
        "INVALID_ARGUMENT",
        "ALIAS_INVALID",
    )


async def test_a_key_that_was_sealed_with_another_secret_is_not_used(start, server):
    first = await start()
    engine = models_pb.EngineDefinition(engine="openai", url=server.url, api_key="sk-1")
    await first.load("chat", engines=[engine])
    seen = len(server.seen)
    for key in (OTHER_KEY, ""):
        second = await start(credential_key=SecretStr(key))
        await second.until(lambda listed: "chat" in listed)
        model = await second.get("chat")
        assert (model.state, model.loaded) == (pb.MODEL_STATE_FAILED, True)
        assert "load it again" in model.problem
        assert await failure(second.ask("chat")) == ("UNAVAILABLE", "MODEL_NOT_READY")
    assert len(server.seen) == seen
    await second.unload("chat")
    await first.until(lambda listed: "chat" not in listed)


async def test_an_embedding_model_whose_definition_cannot_be_read_is_not_ready(start, server):
    first = await start()
    engine = models_pb.EngineDefinition(engine="openai", url=server.url, api_key="sk-1")
    await first.load("shared", kind=EMBED, engines=[engine])
    second = await start(credential_key=SecretStr(OTHER_KEY))
    await second.until(lambda listed: "shared" in listed)
    request = pb.EmbedRequest(profile="shared", texts=["a well"])
    call = second.service.stub.Embed(request, **second.service.caller())
    assert await failure(call) == ("UNAVAILABLE", "MODEL_NOT_READY")


async def test_definitions_that_do_not_fit_are_refused(start, server, bus):
    replica = await start()
    await replica.load("chat", server)
    async with bus.connect("provisioner") as admin:
        config = (await admin.jetstream.stream_info(STREAM)).config
        await admin.jetstream.update_stream(config, max_msgs=1, discard="new")
        try:
            call = replica.load("more", server)
            assert await failure(call) == ("RESOURCE_EXHAUSTED", "STREAM_FULL")
        finally:
            await admin.jetstream.update_stream(config)
    await replica.load("more", server)


async def test_a_key_opens_for_the_server_it_was_given_for_alone(start, server, other, bus):
    replica = await start()
    engine = models_pb.EngineDefinition(engine="openai", url=server.url, api_key="sk-1")
    await replica.load("chat", engines=[engine])
    content = (await stored(bus))[model_subject("chat")]
    await put(bus, model_subject("chat"), content.replace(server.url.encode(), other.url.encode()))
    await replica.until(lambda listed: listed["chat"].state == pb.MODEL_STATE_FAILED)
    assert not other.seen


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b'{"kind": "dream"}', b'{"kind": "generate", "engines": 7}']
)
async def test_a_definition_that_cannot_be_read_stops_no_other(start, server, bus, content):
    replica = await start()
    # Neither what a later release stores, nor what nobody does.
    for subject in ("models.xyz", "models.ff", "dreams.61", "61"):
        await put(bus, state_subject("inference", *subject.split(".")), b"{}")
    await put(bus, model_subject("broken"), content)
    await replica.load("chat", server)
    await replica.until(lambda listed: "broken" in listed)
    model = await replica.get("broken")
    assert (model.state, model.loaded) == (pb.MODEL_STATE_FAILED, True)
    assert "load it again, or unload it" in model.problem
    assert (await replica.ask("chat")).model == "chat"
    await replica.unload("broken")
    assert "broken" not in await replica.list()


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


ENGINE = models_pb.EngineDefinition(engine="openai", url="http://127.0.0.1:1/v1", model="m")
VLLM = models_pb.EngineDefinition(engine="vllm", model="qwen")


def engine(base: Any = ENGINE, **more: Any) -> dict[str, Any]:
    changed = models_pb.EngineDefinition()
    changed.CopyFrom(base)
    changed.MergeFrom(models_pb.EngineDefinition(**more))
    return {"engines": [changed]}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "x" * 128}, "name"),
        ({"name": "default"}, "name"),
        ({"kind": pb.MODEL_KIND_UNSPECIFIED}, "kind"),
        ({"kind": 99}, "kind"),
        ({"description": "x" * 1_001}, "description"),
        ({"engines": []}, "engines"),
        ({"engines": [ENGINE] * 17}, "engines"),
        (engine(engine="dream"), "engines[0].engine"),
        (engine(url="ftp://x"), "engines[0]"),
        (engine(url="http://"), "engines[0]"),
        (engine(url="http://[::1/v1"), "engines[0]"),
        (engine(url="http://host:99999/v1"), "engines[0]"),
        (engine(url="http://a b/v1"), "engines[0]"),
        (engine(url="http://ada:secret@host/v1"), "engines[0]"),
        (engine(url="http://x/" + "y" * 2_048), "engines[0]"),
        ({"kind": EMBED} | engine(arguments=struct(x="y" * 8_192)), "engines[0].arguments"),
        (engine(tool_parser="hermes"), "engines[0]"),
        ({"kind": RERANK} | engine(tool_parser="hermes"), "engines[0].tool_parser"),
        (engine(weight=0), "engines"),
        (engine(weight=1_001), "engines[0].weight"),
        (engine(weight=-1), "engines[0].weight"),
        (engine(concurrency=-1), "engines[0].concurrency"),
        (engine(concurrency=5_000), "engines[0].concurrency"),
        (engine(api_key="a\nb"), "engines[0].api_key"),
        (engine(api_key="x" * 4_097), "engines[0].api_key"),
        (engine(batch_texts=3), "engines[0].batch_texts"),
        (engine(arguments=struct(x=1)), "engines[0].arguments"),
        ({"embedding": models_pb.EmbeddingDefinition(dimensions=8)}, "embedding"),
        ({"kind": EMBED} | engine(priority=True), "engines[0].priority"),
        ({"kind": EMBED} | engine(concurrency=1), "engines[0].concurrency"),
        (engine(VLLM, model="/etc"), "engines[0].model"),
        (engine(VLLM, url="http://127.0.0.1:1/v1"), "engines[0].url"),
        (engine(VLLM, api_key="sk-1"), "engines[0].api_key"),
        ({"engines": [VLLM, ENGINE]}, "engines"),
        (engine(VLLM, arguments=struct(trust_remote_code=True)), "engines[0].arguments"),
        (engine(VLLM, arguments=struct(worker_cls="os")), "engines[0].arguments"),
    ],
)
async def test_a_definition_that_is_wrong_is_refused(start, bus, more, field):
    replica = await start(model_folder="/nowhere")
    request = models_pb.LoadModelRequest(
        **{"name": "chat", "kind": GENERATE, "engines": [ENGINE]} | more
    )
    call = replica.service.models.LoadModel(request, **replica.operator)
    assert await failure(call, violated=field) == ("INVALID_ARGUMENT", "MODEL_INVALID")
    assert not await stored(bus)


async def test_the_largest_definition_is_stored(start, server):
    replica = await start()
    address = server.url + "/" * (2_048 - len(server.url))
    large = models_pb.EngineDefinition(
        engine="openai",
        url=address,
        api_key="k" * 4_096,
        model="tiny",
        arguments=struct(x="y" * 8_000),
        max_tokens=512,
    )
    embedding = models_pb.EmbeddingDefinition(
        dimensions=16, question_prefix="q" * 200, passage_prefix="p" * 200
    )
    model = await replica.load("large", kind=EMBED, engines=[large] * 16, embedding=embedding)
    assert (model.state, len(model.servers)) == (pb.MODEL_STATE_READY, 16)


async def test_what_the_settings_forbid_is_refused(start, server):
    replica = await start(credential_key=SecretStr(""))
    key = models_pb.EngineDefinition(engine="openai", url=server.url, api_key="sk-1")
    for load, reason in (
        (replica.load("chat", engines=[key]), "CREDENTIALS_OFF"),
        (replica.load("chat", engines=[VLLM]), "MODEL_FOLDER_OFF"),
        (replica.load("extractive", server), "MODEL_FIXED"),
        (replica.unload("extractive"), "MODEL_FIXED"),
    ):
        assert await failure(load) == ("FAILED_PRECONDITION", reason)
    assert await failure(replica.unload("chat")) == ("NOT_FOUND", "MODEL_UNKNOWN")
    assert await failure(replica.set_alias("a", "chat")) == ("NOT_FOUND", "MODEL_UNKNOWN")
    for alias in ("extractive", "a b", ""):
        assert await failure(replica.set_alias(alias, "extractive")) == (
            "INVALID_ARGUMENT",
            "ALIAS_INVALID",
        )
    request = models_pb.UnloadModelRequest(name="chat")
    call = replica.service.models.UnloadModel(request, **replica.service.caller())
    assert await failure(call) == ("PERMISSION_DENIED", "SCOPE_MISSING")


async def test_a_model_that_vllm_does_not_have_is_told(start):
    replica = await start(model_folder="/nowhere")
    model = await replica.load("chat", engines=[VLLM])
    assert model.state == pb.MODEL_STATE_FAILED
    assert model.problem.startswith("MODEL_MISSING: ")


async def test_without_a_broker_nothing_is_changed(start, server, bus):
    replica = await start()
    async with bus.connect("provisioner") as admin:
        await admin.jetstream.delete_stream(STREAM)
    assert await failure(replica.load("chat", server)) == ("UNAVAILABLE", "BUS_UNAVAILABLE")
    assert "chat" not in await replica.list()
    await bus.provision()
    await replica.load("chat", server)
    assert (await replica.ask("chat")).model == "chat"
