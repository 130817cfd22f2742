"""An export goes on where it was interrupted, in the same command and in the next one."""

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import grpc
import pytest

from aquifer.auth.v1.auth_service_pb2_grpc import add_AuthServiceServicer_to_server
from aquifer.query.v1.query_service_pb2 import (
    RATING_GOOD,
    Answer,
    Citation,
    ExportAnswersRequest,
    ExportedAnswer,
    Feedback,
    Passage,
)
from aquifer.query.v1.query_service_pb2_grpc import (
    QueryServiceServicer,
    add_QueryServiceServicer_to_server,
)
from aquifer.services import NAMES
from aquifer_cli import exporting
from aquifer_cli.client import open_client
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.errors import CommandError
from aquifer_cli.evaluation import files
from aquifer_cli.evaluation.feedback import Ratings
from aquifer_cli.times import parse_time

from .loopback import Auth


class AnyKey(Auth):
    """Accepts every key."""

    async def ExchangeToken(self, request, context):
        request.api_key = "right"
        return await super().ExchangeToken(request, context)


class Exports(QueryServiceServicer):
    """Has `count` answers, and breaks off after so many of a call, with these codes in turn."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.breaks: list[tuple[int, grpc.StatusCode]] = []
        self.cursors: list[str] = []

    async def ExportAnswers(self, request, context):
        self.cursors.append(request.cursor)
        after, code = self.breaks.pop(0) if self.breaks else (self.count, None)
        for number in range(int(request.cursor or 0), self.count):
            if not after:
                assert code is not None
                await context.abort(code, "gone")
            after -= 1
            answer = Answer(answer_id=f"a{number}", question=f"q{number}", text="ü\u2028")
            yield ExportedAnswer(answer=answer, withheld=number == 1, cursor=str(number + 1))


@asynccontextmanager
async def open_exports(exports: Exports, key: str = "k"):
    """A client of a server of these answers."""
    server = grpc.aio.server()
    add_AuthServiceServicer_to_server(AnyKey(), server)
    add_QueryServiceServicer_to_server(exports, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    addresses = dict.fromkeys(NAMES, f"127.0.0.1:{port}")
    endpoints = Endpoints(services=addresses, tenant="t", api_key=key, traces="")
    try:
        async with open_client(endpoints) as client:
            yield client
    finally:
        await server.stop(None)


async def run(exports: Exports, file, request=None, key: str = "k") -> exporting.Exported:
    notes: list[str] = []
    async with open_exports(exports, key) as client:
        return await exporting.export(
            client,
            request or ExportAnswersRequest(),
            file,
            done=lambda: None,
            note=notes.append,
        )


def read(file) -> list[str]:
    return [json.loads(line)["answer"] for line in file.read_bytes().split(b"\n")[:-1]]


async def test_an_export_goes_on_after_a_broken_call(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "RETRY_S", 0.01)
    exports = Exports(5)
    exports.breaks = [(2, grpc.StatusCode.UNAVAILABLE), (0, grpc.StatusCode.UNAVAILABLE)]
    exported = await run(exports, tmp_path / "out.jsonl")
    assert (exported.answers, exported.withheld) == (5, 1)
    assert exports.cursors == ["", "2", "2"]
    assert read(tmp_path / "out.jsonl") == [f"a{n}" for n in range(5)]
    assert [one.name for one in tmp_path.iterdir()] == ["out.jsonl"]


async def test_the_same_command_goes_on_and_another_one_does_not(tmp_path):
    exports = Exports(4)
    exports.breaks = [(2, grpc.StatusCode.PERMISSION_DENIED)]
    file = tmp_path / "out.jsonl"
    with pytest.raises(CommandError):
        await run(exports, file)
    assert not file.exists()
    [part] = tmp_path.iterdir()
    with part.open("ab") as lines:
        lines.write(b'{"answer": "a2", "cur')  # the process was killed while it wrote
    for request, key in ((ExportAnswersRequest(rating=RATING_GOOD), "k"), (None, "other")):
        assert (await run(exports, tmp_path / "out.jsonl", request, key)).answers == 4
        assert exports.cursors.pop() == ""
    assert part.exists()
    assert (await run(exports, file)).answers == 4
    assert exports.cursors[-1] == "2"
    assert read(file) == [f"a{n}" for n in range(4)]
    assert not part.exists()


async def test_a_service_that_stays_away_ends_the_export(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "RETRY_S", 0.0)
    monkeypatch.setattr(exporting, "GIVE_UP_S", -1.0)
    exports = Exports(2)
    exports.breaks = [(1, grpc.StatusCode.UNAVAILABLE)]
    with pytest.raises(CommandError):
        await run(exports, tmp_path / "out.jsonl")
    assert len(exports.cursors) == 1


def test_times_are_in_utc_without_a_zone():
    assert parse_time("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)
    assert parse_time("2026-01-31T12:00:00+02:00").hour == 10
    request = exporting.make_request("2026-01-31", "")
    assert (request.start_time.seconds, request.HasField("end_time")) == (1769817600, False)
    for beyond in ("0001-01-01T00:00:00+02:00", "9999-12-31T23:00:00-02:00"):
        with pytest.raises(CommandError) as refused:
            parse_time(beyond)
        assert refused.value.reason == "TIME_UNREADABLE"
    with pytest.raises(CommandError) as refused:
        exporting.make_request("", "yesterday")
    assert (refused.value.reason, refused.value.exit_code) == ("TIME_UNREADABLE", 2)


def rated(question: str, document: str, quote: str = "q", message: str = "") -> ExportedAnswer:
    citation = Citation(quote=quote, passage=Passage(document=document))
    answer = Answer(
        answer_id=f"id-{question}-{document}",
        question=question,
        citations=[citation, citation],
        feedback=Feedback(rating=RATING_GOOD),
    )
    return ExportedAnswer(answer=answer, message=message)


async def test_good_answers_become_files_that_are_read_again(tmp_path):
    async def answers():
        yield rated("why", "collections/c/documents/one")
        yield rated("why", "collections/c/documents/two", "r")
        yield rated("how", "collections/c/documents/one", message="conversations/x/messages/2")
        yield rated("and then", "collections/c/documents/one", message="conversations/x/messages/4")
        yield rated("where", "collections/other/documents/one")
        yield rated("when", "collections/c/documents/one", quote="")

    ratings = Ratings("c")
    await ratings.read(answers())
    assert ratings.left_out == 3
    ratings.write_queries(tmp_path / "q.jsonl")
    ratings.write_judgments(tmp_path / "j.tsv")
    ratings.write_questions(tmp_path / "a.jsonl")
    queries = files.read_queries(tmp_path / "q.jsonl")
    assert [one.text for one in queries] == ["why", "how"]
    first, second = (one.id for one in queries)
    judged = files.read_judgments(tmp_path / "j.tsv", {first, second}, {"one", "two"})
    assert judged == {first: {"one": 1, "two": 1}, second: {"one": 1}}
    questions = files.read_questions(tmp_path / "a.jsonl")
    assert [one.answers for one in questions] == [["q", "r"], ["q"]]
