"""`aquifer chat`: reads questions line by line and answers each in a conversation."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aquifer.query.v1.conversation_service_pb2 import Conversation
from aquifer_cli import conversations
from aquifer_cli.answer import show_steps
from aquifer_cli.attaching import send_files
from aquifer_cli.client import Client
from aquifer_cli.collections import refuse_unknown
from aquifer_cli.command import Run, show_failure
from aquifer_cli.errors import CommandError, interrupted_error

PROMPT = "> "


@dataclass(frozen=True, slots=True)
class Files:
    """Files to attach, the collection of their documents, and whether others are detached."""

    paths: Sequence[Path] = ()
    collection: str = ""
    replace: bool = False


@dataclass(slots=True)
class Chat:
    """A conversation that is created with its first question, unless `name` is given.

    `given` has the settings of the command, `paths` those that change an existing conversation.
    `files` are attached before the first question.
    """

    run: Run
    given: Conversation
    paths: list[str]
    name: str = ""
    files: Files = field(default_factory=Files)
    failed: int = 0

    def answer_lines(self) -> int:
        """Answers standard input to its end; returns the exit code of the last failure, or 0.

        In a terminal, Ctrl-C ends the running answer and the next question can be asked.
        """
        if self.name or self.files.paths:
            try:
                self.run.with_client(self._open)
            except KeyboardInterrupt as error:
                raise interrupted_error(
                    "stopped by Ctrl-C before the first question", hint="the same command goes on"
                ) from error
        for question in read_questions(asks=self._asks):
            try:
                self.run.with_client(partial(self._answer, question=question))
            except CommandError as error:
                self.failed = show_failure(error, machine=self.run.screen.machine)
            except KeyboardInterrupt:
                if not self._asks:
                    raise
                self.run.screen.note("stopped; nothing of this answer is stored")
        if self.name and not self.run.screen.machine:
            conversation_id = self.name.rpartition("/")[2]
            self.run.screen.note(f"go on with `aquifer chat --conversation {conversation_id}`")
        return self.failed

    @property
    def _asks(self) -> bool:
        return not self.run.screen.machine and sys.stdin.isatty() and sys.stdout.isatty()

    async def _open(self, client: Client) -> None:
        """Attaches the files, and shows that an existing conversation is there.

        Its settings are changed before.
        """
        await refuse_unknown(client, self.given.collections)
        # Before files are sent for nothing.
        found = await conversations.get(client, self.name) if self.name else self.given
        before = [] if self.files.replace else list(found.documents)
        sent = await send_files(
            client,
            self.run.screen,
            self.files.paths,
            self.files.collection,
            attached=before,
        )
        self.given.documents.extend(dict.fromkeys([*before, *sent]))
        if not self.name:
            return
        if self.paths:
            self.given.name = self.name
            found = await conversations.update(client, self.given, self.paths)
        title = found.title or "without messages"
        self.run.screen.note(f"{title} ({found.message_count} messages)")

    async def _answer(self, client: Client, question: str) -> None:
        if not self.name:
            await refuse_unknown(client, self.given.collections)
            self.name = (await conversations.create(client, self.given)).name
        if self.run.screen.machine:
            conversation_id = self.name.rpartition("/")[2]
            asked = {"step": "question", "conversation": conversation_id, "text": question}
            self.run.screen.record(asked)
        await show_steps(conversations.send(client, self.name, question), self.run.screen)


def read_questions(*, asks: bool) -> Iterator[str]:
    """The lines of standard input that are not blank; with a prompt if `asks`."""
    if asks:
        # Editing and history of the line.
        import readline  # noqa: F401, PLC0415
    else:
        sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    while True:
        try:
            line = input(PROMPT) if asks else sys.stdin.readline()
        except EOFError:
            sys.stdout.write("\n")
            return
        if not asks and not line:
            return
        if line.strip():
            yield line.strip()
