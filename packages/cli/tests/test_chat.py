"""`aquifer chat` in a terminal: a prompt, Ctrl-C for one answer, Ctrl-D for the end."""

import asyncio
import os
import pty
import signal
import sys

import grpc
import pytest

from aquifer.auth.v1.auth_service_pb2_grpc import add_AuthServiceServicer_to_server
from aquifer.query.v1.conversation_service_pb2 import Conversation
from aquifer.query.v1.conversation_service_pb2_grpc import (
    ConversationServiceServicer,
    add_ConversationServiceServicer_to_server,
)
from aquifer.query.v1.query_service_pb2 import (
    AnswerDelta,
    AnswerFinished,
    AnswerStarted,
    AskResponse,
    FinishReason,
)
from aquifer.services import NAMES, address_variable

from .loopback import Auth

NAME = "conversations/0f8c1c1e-5a52-4c55-9c5f-2f2a2f6d8f10"


class Conversations(ConversationServiceServicer):
    """Answers at once, or begins and never ends if the question says `slow`."""

    def __init__(self) -> None:
        self.created = 0
        self.asked: list[str] = []
        self.left = asyncio.Event()

    async def CreateConversation(self, request, context):
        self.created += 1
        return Conversation(name=NAME)

    async def SendMessage(self, request, context):
        assert request.parent == NAME
        self.asked.append(request.question)
        yield AskResponse(started=AnswerStarted(answer_id="a"))
        yield AskResponse(delta=AnswerDelta(text=f"about {request.question} "))
        try:
            while request.question == "slow":
                await asyncio.sleep(0.01)
        finally:
            self.left.set()
        reason = FinishReason.FINISH_REASON_STOP
        yield AskResponse(finished=AnswerFinished(reason=reason, model="m"))


class Terminal:
    """A terminal that shows and types for a process."""

    def __init__(self) -> None:
        self.controller, self.side = pty.openpty()
        self.shown = ""
        asyncio.get_running_loop().add_reader(self.controller, self._read)

    def _read(self) -> None:
        try:
            self.shown += os.read(self.controller, 4096).decode()
        except OSError:  # the process has closed its side
            asyncio.get_running_loop().remove_reader(self.controller)

    def type(self, text: str) -> None:
        os.write(self.controller, text.encode())

    async def wait_for(self, text: str) -> None:
        """Waits until it is shown, and forgets what was shown up to it."""
        async with asyncio.timeout(60):
            while text not in self.shown:
                await asyncio.sleep(0.01)
        self.shown = self.shown.partition(text)[2]


@pytest.fixture
async def conversations():
    servicer, server = Conversations(), grpc.aio.server()
    add_AuthServiceServicer_to_server(Auth(), server)
    add_ConversationServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield servicer
    await server.stop(0)


async def test_ctrl_c_ends_an_answer_and_ctrl_d_the_chat(conversations):
    terminal = Terminal()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AQUIFER_")}
    addresses = {address_variable(name): conversations.address for name in NAMES}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aquifer_cli",
        "chat",
        env={**kept, **addresses, "AQUIFER_API_KEY": "right", "TERM": "dumb", "NO_COLOR": "1"},
        stdin=terminal.side,
        stdout=terminal.side,
        stderr=terminal.side,
        # A job in the background of a shell inherits that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(terminal.side)
    await terminal.wait_for("> ")
    assert conversations.created == 0
    terminal.type("slow\n")
    await terminal.wait_for("about slow")
    process.send_signal(signal.SIGINT)
    await terminal.wait_for("nothing of this answer is stored")
    async with asyncio.timeout(60):
        await conversations.left.wait()
    await terminal.wait_for("> ")
    terminal.type("quick\n")
    await terminal.wait_for("about quick")
    await terminal.wait_for("> ")
    terminal.type("\x04")
    await terminal.wait_for(f"chat --conversation {NAME.removeprefix('conversations/')}")
    async with asyncio.timeout(60):
        assert await process.wait() == 0
    assert (conversations.created, conversations.asked) == (1, ["slow", "quick"])
