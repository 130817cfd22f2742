"""The parent's side of one child process: start it, send a document, check its reply, end it."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chassis.base.errors import InvalidInputError, UnavailableError
from ingest.parsing.failure import ParseFailure
from ingest.parsing.jail.reply import FRAME_MAX_BYTES
from ingest.parsing.jail.task import Task
from ingest.parsing.ocr.data import OcrData

MIB = 1024 * 1024
# Imports take half a second of processor time; a machine that needs this long cannot parse anyway.
START_TIMEOUT_S = 60.0
# All that a child inherits. The allocator of the library that makes signatures, mimalloc, reserves
# addresses in pieces of so many KiB: by default 1 GiB, which is as much as the jail allows.
ENVIRONMENT = {"MIMALLOC_ARENA_RESERVE": "1024"}
REPORT_BYTES_MAX = 4096
FEED_BYTES = MIB
# Pause between two looks at the processor time of a child.
CHECK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ParserLimits:
    """Limits of one document.

    `text_bytes` limits formats that are text before decoding, `output_bytes` the child's reply.
    `cpu_s` limits the processor time of every document; `cpu_base_s` and `cpu_mib_s` are tighter
    limits for small ones. On a busy machine that takes any time, so a child is ended early only if
    it uses no processor time for `idle_s`; `wall_s` is for one that neither works nor rests.
    `children` processes work for one tenant at a time, twice as many for all.
    """

    document_bytes: int = 64 * MIB
    text_bytes: int = 16 * MIB
    output_bytes: int = 64 * MIB
    memory_bytes: int = 512 * MIB
    cpu_s: int = 60
    cpu_base_s: int = 15
    cpu_mib_s: int = 15
    idle_s: float = 60.0
    wall_s: float = 3_600.0
    open_files: int = 64
    children: int = 2

    def limit_cpu_s(self, size_bytes: int) -> int:
        """Processor time allowed for a document of this size."""
        return min(self.cpu_s, self.cpu_base_s + self.cpu_mib_s * size_bytes // MIB)


# For OCR, which takes a second or more for a page.
OCR_LIMITS = ParserLimits(memory_bytes=1024 * MIB, cpu_s=300, cpu_base_s=300, children=1)


class JailedChild:
    """One process for one document; create it with `start`, and always call `end`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        pipe: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        limits: ParserLimits,
    ) -> None:
        self._process = process
        self._reader, self._writer = pipe
        self._limits = limits
        self._report: dict[str, str] | None = None
        self._frames_read = 0
        self._is_idle = False

    @classmethod
    async def start(
        cls, media_format: str, limits: ParserLimits, ocr: OcrData | None = None
    ) -> "JailedChild":
        """Starts a child, which loads its libraries in the background; with `ocr` it does OCR.

        It ends with the thread that runs this loop, so run the loop in the main thread.

        Raises:
            UnavailableError: `PARSER_UNAVAILABLE`, no process or descriptor is available.
        """
        numbers = (limits.memory_bytes, limits.cpu_s, limits.open_files, limits.output_bytes)
        command = ["-I", "-m", "ingest.parsing.jail.child", media_format]
        command += [str(number) for number in (*numbers, os.getpid())]
        command += ocr or ()
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                pipe = await asyncio.open_connection(sock=ours, limit=MIB)
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=asyncio.subprocess.DEVNULL,
                    env=ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
        except OSError as error:
            raise _unavailable_error(error.strerror or "no process") from error
        return cls(process, pipe, limits)

    async def read_report(self) -> dict[str, str]:
        """The controls of the jail: name to the kernel's refusal, empty if the control holds.

        Raises:
            UnavailableError: `PARSER_UNAVAILABLE`, the child did not start.
        """
        if self._report is None:
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    report = json.loads(await self._read_frame(REPORT_BYTES_MAX))
            except (TimeoutError, EOFError, ConnectionError, ValueError) as error:
                raise _unavailable_error("the parser process did not start; retry") from error
            self._report = {str(name): str(said) for name, said in report.items()}
        return self._report

    async def ask(self, task: Task, data: bytes) -> AsyncGenerator[bytes, None]:
        """Yields the unchecked frames of the child's reply, at most `output_bytes`.

        Other tasks may run between two frames.

        Raises:
            InvalidInputError: `PARSER_TIME_LIMIT`, `PARSER_OUTPUT_LIMIT` or `PARSER_CRASHED`.
            UnavailableError: `PARSER_UNAVAILABLE`.
        """
        await self.read_report()
        if self._process.returncode is not None:
            # It died idle, which no document caused.
            raise _unavailable_error("the parser process has ended; retry")
        left_bytes = self._limits.output_bytes
        try:
            async with asyncio.timeout(self._limits.wall_s) as bound, self._watch(bound):
                await self._feed(task, data)
                while True:
                    frame = await self._read_frame(min(left_bytes, FRAME_MAX_BYTES))
                    left_bytes -= len(frame)
                    yield frame
                    await asyncio.sleep(0)
        except TimeoutError as error:
            if not bound.expired():
                raise
            raise self._time_error() from error
        except (EOFError, ConnectionError) as error:
            raise _death_error(await self._process.wait(), task.cpu_s) from error

    async def end(self) -> None:
        """Kill the child and wait for its end, even if it has answered."""
        self._writer.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        await self._process.wait()

    @asynccontextmanager
    async def _watch(self, bound: asyncio.Timeout) -> AsyncIterator[None]:
        """Lets `bound` expire when the child has used no processor time for `idle_s`."""
        watching = asyncio.create_task(self._wait_until_idle(bound))
        try:
            yield
        finally:
            watching.cancel()

    async def _wait_until_idle(self, bound: asyncio.Timeout) -> None:
        used, idle_s = self._read_progress(), 0.0
        while idle_s < self._limits.idle_s:
            await asyncio.sleep(CHECK_S)
            last, used = used, self._read_progress()
            # Looks are counted, not time: this process may have been kept from running itself.
            idle_s = idle_s + CHECK_S if used == last else 0.0
        self._is_idle = True
        bound.reschedule(asyncio.get_running_loop().time())

    def _read_progress(self) -> tuple[int, int]:
        """Grows while the child works: its processor time in ticks, and frames read from it.

        A child that waits for this process to read its reply does no work.
        """
        return read_cpu_ticks(self._process.pid), self._frames_read

    async def _feed(self, task: Task, data: bytes) -> None:
        header = json.dumps(task._asdict()).encode()
        # If the child has died, the following read notices it and finds the reason.
        with suppress(ConnectionError):
            self._writer.write(len(header).to_bytes(4) + header)
            for start in range(0, len(data), FEED_BYTES):
                self._writer.write(data[start : start + FEED_BYTES])
                await self._writer.drain()
            self._writer.write_eof()

    async def _read_frame(self, limit_bytes: int) -> bytes:
        size = int.from_bytes(await self._reader.readexactly(4))
        if size > limit_bytes:
            raise _failure_error(
                ParseFailure.PARSER_OUTPUT_LIMIT, f"reply of more than {limit_bytes} bytes"
            )
        frame = await self._reader.readexactly(size)
        self._frames_read += 1
        return frame

    def _time_error(self) -> InvalidInputError:
        took = f"took longer than {self._limits.wall_s:g} s"
        if self._is_idle:
            took = f"made no progress for {self._limits.idle_s:g} s"
        return _failure_error(ParseFailure.PARSER_TIME_LIMIT, took)


def read_cpu_ticks(pid: int) -> int:
    """Processor time of all threads of a process, in ticks of the clock; 0 if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The name of the program, in parentheses, may contain blanks.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def _death_error(status: int, cpu_s: int) -> InvalidInputError:
    if status == -signal.SIGXCPU:
        return _failure_error(ParseFailure.PARSER_TIME_LIMIT, f"took more than {cpu_s} s of CPU")
    if status == -signal.SIGABRT:
        # How the PDF library ends when it gets no memory.
        return _failure_error(ParseFailure.PARSER_MEMORY_LIMIT, "parsing needs more memory")
    return _failure_error(ParseFailure.PARSER_CRASHED, f"the parser ended with status {status}")


def _failure_error(failure: ParseFailure, detail: str) -> InvalidInputError:
    return InvalidInputError(failure, detail)


def _unavailable_error(detail: str) -> UnavailableError:
    return UnavailableError("PARSER_UNAVAILABLE", detail)
