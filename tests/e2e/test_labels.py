"""Two keys of a tenant: what one may not see, it does not find, read, list or get cited."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from aquifer.query.v1.query_service_pb2 import AskRequest, GetAnswerRequest, SearchRequest
from aquifer_cli.client import Client, open_client
from aquifer_cli.errors import CommandError

pytestmark = pytest.mark.timeout(300)

SCOPES = ["-s", "documents.read", "-s", "search", "-s", "ask"]
SECRET = "Salaries: the captain of the ship earns four thousand doubloons a month."
QUESTION = "How many doubloons does the captain earn a month?"


def make_key(stack, name: str, *options: str) -> str:
    done = stack.run("keys", "create", name, *SCOPES, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def search(client: Client) -> list[str]:
    found = await client.call(client.query.Search, SearchRequest(question=QUESTION))
    return [hit.passage.text for hit in found.hits]


async def ask(client: Client) -> tuple[str, str]:
    """The id of the answer, and its text."""
    text, answer_id = "", ""
    call = client.query.Ask(
        AskRequest(question=QUESTION), metadata=await client.credentials(), timeout=60
    )
    async for step in call:
        answer_id = answer_id or step.started.answer_id
        text += step.delta.text
    return answer_id, text


async def has_answer(client: Client, answer_id: str) -> bool:
    try:
        await client.call(client.query.GetAnswer, GetAnswerRequest(answer_id=answer_id))
    except CommandError as error:
        if error.reason != "ANSWER_UNKNOWN":
            raise
        return False
    return True


def test_a_key_without_the_label_gets_nothing_of_the_document(stack, tmp_path: Path):
    (tmp_path / "salaries.md").write_text(SECRET)
    (tmp_path / "harbour.md").write_text("The harbour is open from six in the morning.")
    for name, labels in (("salaries.md", ["--label", "hr"]), ("harbour.md", [])):
        done = stack.run("upload", str(tmp_path / name), "-c", "ship", "--wait", *labels)
        assert done.returncode == 0, done.stderr
    insider = replace(stack.endpoints, api_key=make_key(stack, "people", "--label", "hr"))
    outsider = replace(stack.endpoints, api_key=make_key(stack, "crew", "--label", "deck"))

    async def compare() -> None:
        async with open_client(insider) as inside, open_client(outsider) as outside:
            assert SECRET in await search(inside)
            assert "doubloons" not in " ".join(await search(outside))
            answer_id, text = await ask(inside)
            assert "four thousand" in text
            assert "four thousand" not in (await ask(outside))[1]
            assert await has_answer(inside, answer_id)
            assert not await has_answer(outside, answer_id)
            opened = stack.run("update", "salaries.md", "-c", "ship", "--label", "deck")
            assert opened.returncode == 0, opened.stderr
            assert SECRET in await search(outside)
            assert "doubloons" not in " ".join(await search(inside))
            assert not await has_answer(inside, answer_id)

    asyncio.run(compare())
    [status] = stack.json("status", "salaries.md", "-c", "ship")
    assert status["labels"] == ["deck"]
    labels = {one["name"]: one["labels"] for one in stack.json("keys", "list")}
    assert (labels["people"], labels["crew"]) == (["hr"], ["deck"])


def test_labels_of_a_collection_hold_at_once(stack, tmp_path: Path):
    (tmp_path / "rum.md").write_text("The rum of the galleon is kept in the forecastle.")
    done = stack.run("upload", str(tmp_path / "rum.md"), "-c", "stores", "--wait")
    assert done.returncode == 0, done.stderr
    outsider = replace(stack.endpoints, api_key=make_key(stack, "guest", "--no-labels"))

    async def finds() -> bool:
        async with open_client(outsider) as client:
            request = SearchRequest(question="Where is the rum kept?", collection="stores")
            return bool((await client.call(client.query.Search, request)).hits)

    assert asyncio.run(finds())
    done = stack.run("collections", "update", "stores", "--label", "hr")
    assert done.returncode == 0, done.stderr
    assert not asyncio.run(finds())
    done = stack.run("collections", "update", "stores", "--no-labels")
    assert done.returncode == 0, done.stderr
    assert asyncio.run(finds())
