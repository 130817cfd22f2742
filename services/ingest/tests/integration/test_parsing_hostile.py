"""Documents made to hurt: each fails alone, with its reason, and nothing of it stays behind."""

import asyncio
import binascii
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquifer.lines import Line, pack, unpack
from chassis.base.errors import InvalidInputError, UnavailableError
from ingest.chunking import ChunkSettings
from ingest.parsing.document import CutDocument, MediaType
from ingest.parsing.failure import ParseFailure
from ingest.parsing.jail.jailed import JailedChild, read_cpu_ticks
from ingest.parsing.jail.reply import PART_CHARS, Reply
from ingest.parsing.jail.task import Task
from ingest.parsing.parser import Parser, ParserLimits

MIB = 1024 * 1024
TASK = Task(charset="", target_chars=1000, max_chars=1200, cpu_s=20)
HTML = b"<!doctype html><title>Fine</title><p>A neighbour."


def pdf(content: bytes, *, packed: bool = False, form: bytes = b"") -> bytes:
    """A page of nine points; `X` is the name of its form."""
    stream, inner = content if packed else zlib.compress(content), zlib.compress(form)
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [4 0 R] >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 5 0 R"
            b" /Resources << /Font << /F1 3 0 R >> /XObject << /X 6 0 R >> >> >>"
        ),
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Length %d /Filter /FlateDecode >>"
        b"\nstream\n%s\nendstream" % (len(inner), inner),
    )
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % item for item in enumerate(objects, 1))
    return b"%%PDF-1.4\n%strailer << /Size 7 /Root 1 0 R >>\nstartxref\n0\n%%%%EOF\n" % body


def endless_pdf() -> bytes:
    return pdf(b"/X Do " * 9_000, form=b"q Q " * (MIB // 4))


def children() -> dict[int, str]:
    """Live children of this process and their command lines; no zombies."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, parent = entry.joinpath("stat").read_text().rpartition(")")[2].split()[:2]
                command = entry.joinpath("cmdline").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if (
                int(parent) == os.getpid()
                and state != "Z"
                and "ingest.parsing.jail.child" in command
            ):
                found[int(entry.name)] = command
    return found


async def wait_until_busy(pid: int) -> None:
    """Waits until a process that was idle computes."""
    idle = read_cpu_ticks(pid)
    async with asyncio.timeout(30):
        while read_cpu_ticks(pid) < idle + 10:
            await asyncio.sleep(0.01)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def find_refusal(data: bytes, limits: ParserLimits, media_type: str = "") -> str:
    async with Parser(limits) as parser:
        with pytest.raises(InvalidInputError) as refusal:
            await parser(data, media_type=media_type, file_name="")
        assert (await parser(HTML, media_type="", file_name="")).text == "Fine\n\nA neighbour."
    assert children() == {}
    return refusal.value.reason


async def test_pdf_that_unpacks_without_end_is_refused():
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(400)) + packer.flush()
    assert len(bomb) < MIB
    assert (
        await find_refusal(pdf(bomb, packed=True), ParserLimits())
        == ParseFailure.PARSER_MEMORY_LIMIT
    )


async def test_endless_work_ends_at_the_cpu_limit():
    assert (
        await find_refusal(endless_pdf(), ParserLimits(cpu_s=4)) == ParseFailure.PARSER_TIME_LIMIT
    )


async def test_endless_work_ends_at_the_wall_clock():
    async with Parser(ParserLimits(wall_s=2)) as parser:
        started = time.monotonic()
        with pytest.raises(InvalidInputError, match="took longer than") as refusal:
            await parser(endless_pdf(), media_type="", file_name="")
        assert time.monotonic() - started < 30
        assert (await parser(HTML, media_type="", file_name="")).title == "Fine"
    assert refusal.value.reason == ParseFailure.PARSER_TIME_LIMIT
    assert children() == {}


async def test_child_that_stands_still_is_ended():
    async with Parser(ParserLimits(idle_s=2)) as parser:
        [working] = [pid for pid, line in children().items() if line.split("\0")[4] == "pdf"]
        standing = asyncio.create_task(parser(endless_pdf(), media_type="", file_name=""))
        await wait_until_busy(working)
        os.kill(working, signal.SIGSTOP)
        with pytest.raises(InvalidInputError, match="no progress for 2 s") as refusal:
            await standing
        assert refusal.value.reason == ParseFailure.PARSER_TIME_LIMIT
        assert (await parser(HTML, media_type="", file_name="")).title == "Fine"
    assert children() == {}


async def test_child_that_gets_little_of_a_busy_machine_goes_on():
    async with Parser(ParserLimits(idle_s=2, cpu_s=3)) as parser:
        [working] = [pid for pid, line in children().items() if line.split("\0")[4] == "pdf"]
        slow = asyncio.create_task(parser(endless_pdf(), media_type="", file_name=""))
        await wait_until_busy(working)
        # As if others had the processor most of the time, for longer than a rest may take.
        for _ in range(6):
            os.kill(working, signal.SIGSTOP)
            await asyncio.sleep(0.9)
            os.kill(working, signal.SIGCONT)
            await asyncio.sleep(0.05)
        assert not slow.done()
        with pytest.raises(InvalidInputError, match="more than 3 s of CPU"):
            await slow


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"<html>" + b"<b>x</b>" * (8 * MIB // 8), "text/html"),
        (pdf(b"BT /F1 1 Tf " + b"(%s) Tj\n" % (b"a" * 36) * (40 * MIB // 44)), "application/pdf"),
    ],
    ids=["html", "pdf"],
)
async def test_memory_eater_ends_at_the_memory_limit(data, media_type):
    # Twice what a child of any format needs to come up.
    limits = ParserLimits(memory_bytes=160 * MIB)
    assert await find_refusal(data, limits, media_type) == ParseFailure.PARSER_MEMORY_LIMIT


async def test_text_past_the_output_limit_is_refused():
    limits = ParserLimits(output_bytes=20_000)
    for data in (
        b"<html><p>" + b"word " * 10_000,
        pdf(b"BT /F1 9 Tf (%s) Tj ET" % (b"a" * 30_000)),
    ):
        assert await find_refusal(data, limits) == ParseFailure.PARSER_OUTPUT_LIMIT
    escaped = "<html><p>" + "\U0001f469" * 5_000
    assert await find_refusal(escaped.encode(), limits) == ParseFailure.PARSER_OUTPUT_LIMIT


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (pdf(b"") + bytes(2000), ParserLimits(document_bytes=1000)),
        (b"plain " * 500, ParserLimits(text_bytes=1000)),
        (b"<html>" + b"word " * 500, ParserLimits(text_bytes=1000)),
    ],
)
async def test_size_is_checked_first(data, limits):
    assert await find_refusal(data, limits) == ParseFailure.DOCUMENT_TOO_LARGE


async def test_html_nested_too_deeply_is_refused_not_cut_short():
    data = b"<html>" + b"<div>" * 100_000 + b"the end"
    assert await find_refusal(data, ParserLimits()) == ParseFailure.DOCUMENT_DAMAGED


async def test_entities_and_links_are_neither_expanded_nor_fetched(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("top secret")
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 20}">' for n in range(1, 9))
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        data = (
            f'<!DOCTYPE html SYSTEM "{url}" [<!ENTITY e0 "boom"><!ENTITY f SYSTEM "file://{secret}">'
            f'{bomb}]><html><link rel=stylesheet href="{url}"><img src="{url}"><p>&e8;&f;</p>safe'
        )
        async with Parser(ParserLimits()) as parser:
            document = await parser(data.encode(), media_type="text/html", file_name="")
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert "safe" in document.text
    assert "top secret" not in document.text
    assert "boom" * 2 not in document.text


async def test_neighbours_go_on_while_one_document_hangs():
    async with Parser(ParserLimits(children=2)) as parser:
        hanging = asyncio.create_task(parser(endless_pdf(), media_type="", file_name=""))
        for _ in range(5):
            assert (await parser(HTML, media_type="", file_name="")).title == "Fine"
        assert not hanging.done()
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging


async def test_child_that_dies_fails_its_document_alone():
    async with Parser(ParserLimits()) as parser:
        [working] = [pid for pid, line in children().items() if line.split("\0")[4] == "pdf"]
        dying = asyncio.create_task(parser(endless_pdf(), media_type="", file_name=""))
        await wait_until_busy(working)
        os.kill(working, signal.SIGSEGV)
        with pytest.raises(InvalidInputError) as refusal:
            await dying
        assert refusal.value.reason == ParseFailure.PARSER_CRASHED
        assert (await parser(HTML, media_type="", file_name="")).title == "Fine"


async def test_child_that_dies_idle_costs_a_retry_not_a_document():
    async with Parser(ParserLimits()) as parser:
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        idle = [starting.result()._process for starting in parser._ready.values()]
        async with asyncio.timeout(20):
            while any(process.returncode is None for process in idle):
                await asyncio.sleep(0.01)
        with pytest.raises(UnavailableError) as failure:
            await parser(HTML, media_type="", file_name="")
        assert failure.value.reason == "PARSER_UNAVAILABLE"
        assert (await parser(HTML, media_type="", file_name="")).title == "Fine"


async def test_cancelled_document_leaves_no_process():
    async with Parser(ParserLimits()) as parser:
        before = descriptors()
        for delay_s in (0, 0.001, 0.02, 0.2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await parser(endless_pdf(), media_type="", file_name="")
        assert len(children()) <= 3
        await parser(HTML, media_type="", file_name="")
        assert descriptors() <= before
    assert children() == {}


PARENT = """
import asyncio, sys
from ingest.parsing.jail.jailed import JailedChild, ParserLimits
async def main():
    child = await JailedChild.start("html", ParserLimits())
    await child.read_report()
    print(child._process.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_child_dies_with_its_parent():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (
        not Path(f"/proc/{child}/cmdline").exists()
        or not Path(f"/proc/{child}/cmdline").read_text()
    )


# What an intruder would try, and the control that is to stop it; no jail without a parent's id.
PROBE = """
import json, os, socket, sys
from ingest.parsing.jail import sandbox
port, secret, parent = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
here = ("127.0.0.1", port)
attempts = {
    "own_network": (
        lambda: socket.create_connection(here, timeout=1),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", here),
    ),
    "resource_limits": (
        lambda: bytearray(600 << 20),
        lambda: [os.dup(0) for _ in range(100)],
    ),
    "files_and_signals": (
        lambda: open(secret).read(),
        lambda: os.listdir("/"),
        lambda: open(f"/proc/{os.getppid()}/environ").read(),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
        lambda: os.kill(os.getppid(), 0),
        lambda: os.unlink(secret),
    ),
    "no_capabilities": (lambda: os.setuid(12345),),
}
report = {}
if parent:
    report = sandbox.enter(sandbox.Bounds(512 << 20, 5, 64), parent) | sandbox.seal()
succeeded = []
for control, tries in attempts.items():
    for number, attempt in enumerate(tries):
        try:
            attempt()
        except (OSError, MemoryError):
            continue
        succeeded.append([control, number])
print(json.dumps([report, succeeded]))
"""


def probe_jail(secret: Path, parent: int) -> tuple[dict[str, str], list[list[str | int]]]:
    secret.write_text("theirs")
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = (str(server.getsockname()[1]), str(secret), str(parent))
        probe = subprocess.run(
            [sys.executable, "-I", "-c", PROBE, *arguments],
            capture_output=True,
            check=True,
            env={},
            timeout=30,
        )
    report, succeeded = json.loads(probe.stdout)
    return report, succeeded


def test_intruder_gets_nothing_a_held_control_guards(tmp_path):
    secret = tmp_path / "other-tenant"
    report, succeeded = probe_jail(secret, os.getpid())
    assert [attempt for attempt in succeeded if not report[attempt[0]]] == []
    assert report["resource_limits"] == report["no_new_privileges"] == ""
    assert report["files_and_signals"] or secret.read_text() == "theirs"


def test_without_the_jail_the_same_intruder_gets_everything(tmp_path):
    _, succeeded = probe_jail(tmp_path / "other-tenant", 0)
    assert len(succeeded) == (11 if os.getuid() == 0 else 10)


# As an unprivileged user, to whom alone the kernel applies this limit.
THREADS = """
import json, os, sys, threading
from ingest.parsing.jail import sandbox
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
report = sandbox.enter(sandbox.Bounds(512 << 20, 5, 64), os.getppid()) | sandbox.seal()
report |= sandbox.limit_processes(int(sys.argv[1]), report)
gate, started = threading.Event(), 0
for _ in range(40):
    try:
        threading.Thread(target=gate.wait, daemon=True).start()
    except RuntimeError:
        break
    started += 1
print(json.dumps([report, started]), flush=True)
os._exit(0)  # the end of a thread loads a library, and no file can be read
"""


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (8, 7)])
def test_number_of_threads_is_limited(limit, expected):
    command = [sys.executable, "-I", "-c", THREADS, str(limit)]
    probe = subprocess.run(command, capture_output=True, check=True, env={}, timeout=30)
    report, started = json.loads(probe.stdout)
    assert started == (40 if report["no_processes"] else expected)
    assert bool(report["no_processes"]) == bool(limit and report["own_users"])


# A user namespace that allows no network namespace inside, as a container host may be set up.
REFUSING = """
import ctypes, json, os
from pathlib import Path
from ingest.parsing.jail import sandbox
uid = os.getuid()
if ctypes.CDLL(None).unshare(sandbox.CLONE_NEWUSER) == 0:
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/sys/user/max_net_namespaces").write_text("0")
print(json.dumps(sandbox.enter(sandbox.Bounds(512 << 20, 5, 64), os.getppid())))
"""


def test_control_the_kernel_refuses_is_reported():
    command = [sys.executable, "-I", "-c", REFUSING]
    refusing = subprocess.run(command, capture_output=True, check=True, timeout=30)
    report = json.loads(refusing.stdout)
    assert report["own_network"]
    assert report["resource_limits"] == report["no_new_privileges"] == ""


async def test_damaged_documents_end_in_text_or_a_typed_refusal():
    choose = random.Random(11)
    seeds = [
        pdf(b"BT /F1 12 Tf (some text) Tj ET"),
        HTML,
        b"# Title\n\n* a [b](c) `d`\n\n|e|f|\n|-|-|\n",
    ]
    reasons = set()
    async with Parser(ParserLimits(wall_s=20)) as parser:
        for turn in range(36):
            data = bytearray(seeds[turn % 3])
            for _ in range(choose.randint(1, 12)):
                data[choose.randrange(8, len(data))] = choose.randrange(256)
            if choose.random() < 0.3:
                del data[choose.randrange(20, len(data)) :]
            try:
                await parser(bytes(data), media_type="", file_name="x.md" if turn % 3 == 2 else "")
                reasons.add("text")
            except InvalidInputError as refusal:
                reasons.add(refusal.reason)
    assert "text" in reasons
    assert reasons <= {"text", *ParseFailure} - {ParseFailure.PARSER_CRASHED}


async def test_child_that_floods_its_pipe_is_stopped():
    child = await JailedChild.start("html", ParserLimits())
    try:
        await child.read_report()
        child._reader.feed_data((1 << 31).to_bytes(4))
        with pytest.raises(InvalidInputError) as refusal:
            [frame async for frame in child.ask(TASK, HTML)]
        assert refusal.value.reason == ParseFailure.PARSER_OUTPUT_LIMIT
    finally:
        await child.end()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["title", "text", "pages", "chunks", "failure", "detail"]), inner
        )
    ),
)


def frame(**message):
    return json.dumps(message).encode()


def read_reply(*frames):
    """The document these frames make, or the reason there is none."""
    reply = Reply(MediaType.PDF, ChunkSettings(target_chars=10, max_chars=20))
    try:
        documents = [reply.add(each) for each in frames]
    except InvalidInputError as refusal:
        return refusal.reason
    return next((document for document in documents if document is not None), None)


@given(
    st.lists(
        st.binary(max_size=60)
        | JSON.map(lambda value: json.dumps(value).encode())
        | st.sampled_from(
            [
                frame(text="some words of text"),
                frame(pages=[[1, 0]]),
                frame(chunks=[[0, 4]]),
                frame(chunks=[[0, 4, "AAABAAAAAAABAAEA"]]),
                frame(title="t"),
            ]
        ),
        max_size=6,
    )
)
def test_forged_reply_is_believed_only_in_shape(frames):
    found = read_reply(*frames)
    if isinstance(found, CutDocument):
        for one in found.chunks:
            assert one.text == found.text[one.start : one.end]
            assert one.text == one.text.strip() != ""
            assert one.gap.strip() == ""
    else:
        assert found in (None, *ParseFailure)


def lines(*lines):
    return binascii.b2a_base64(pack(Line(*line) for line in lines), newline=False).decode()


TEXT, TITLE = frame(text="some words of text"), frame(title="", signature="")


@pytest.mark.parametrize(
    "frames",
    [
        [b"[" * 100_000],
        [b'{"title":' * 50_000],
        [b"1" * 10_000],
        [b'{"failure": "X", "detail": ""}'],
        [frame(title="before any text")],
        [TEXT, frame(title="before any chunk")],
        [TEXT, TEXT],
        [frame(text="a" * 40_000)],
        [frame(text="")],
        [frame(text="nothing \u202e hidden")],
        [frame(text="no \x00")],
        [b'{"text": "no \\ud800"}'],
        [TEXT, frame(chunks=[[0, 4], [3, 9]])],
        [TEXT, frame(chunks=[[0, 19]])],
        [TEXT, frame(chunks=[[4, 4]])],
        [TEXT, frame(chunks=[[-4, 4]])],
        [TEXT, frame(chunks=[[4, 10]])],
        [TEXT, frame(chunks=[[0, 5]])],
        [TEXT, frame(chunks=[[0.0, 4.0]])],
        [TEXT, frame(chunks=[[False, True]])],
        [TEXT, frame(chunks=[["a", "b"]])],
        [TEXT, frame(chunks=[[1, 2, 3]])],
        [TEXT, frame(chunks=[[0, 4, lines(), lines()]])],
        [TEXT, frame(chunks=[[0, 4, None]])],
        [TEXT, frame(chunks=[[0, 4, "no base64"]])],
        [TEXT, frame(chunks=[[0, 4, "\xe9\xe9\xe9\xe9"]])],
        [TEXT, frame(chunks=[[0, 4, lines((0, 4, 1, 1, 9, 9))[:-4]]])],
        [TEXT, frame(chunks=[[0, 4, lines((0, 5, 1, 1, 9, 9))]])],
        [TEXT, frame(chunks=[[0, 4, lines((2, 2, 1, 1, 9, 9))]])],
        [TEXT, frame(chunks=[[0, 4, lines((3, 2, 1, 1, 9, 9))]])],
        [TEXT, frame(chunks=[[0, 4, lines((0, 2, 1, 1, 9, 9), (1, 3, 1, 1, 9, 9))]])],
        [TEXT, frame(chunks=[[0, 4, lines((0, 4, 9, 1, 9, 9))]])],
        [TEXT, frame(chunks=[[0, 4, lines((0, 4, 1, 9, 9, 1))]])],
        [TEXT, frame(pages=[[1, 4], [2, 3]])],
        [TEXT, frame(pages=[[1, 4], [1, 5]])],
        [TEXT, frame(pages=[[0, 4]])],
        [TEXT, frame(chunks=[[0, 4]]), frame(text="more")],
        [TEXT, frame(notes=[["NO_SUCH_CODE", ""]])],
        [TEXT, frame(notes=[["TEXT_REPAIRED"]])],
        [TEXT, frame(notes=[["TEXT_REPAIRED", 7]])],
        [TEXT, frame(notes=[["TEXT_REPAIRED", ""]]), frame(notes=[["TEXT_REPAIRED", ""]])],
        [TEXT, frame(notes=[["TEXT_REPAIRED", ""]] * 100)],
        [TEXT, frame(chunks=[[5, 18]]), frame(title="left out before")],
        [TEXT, frame(chunks=[[0, 4], [11, 18]]), frame(title="left out between")],
        [TEXT, frame(chunks=[[0, 13]]), frame(title="left out behind")],
    ],
)
def test_reply_no_child_of_ours_writes_is_a_crash(frames):
    assert read_reply(*frames) == ParseFailure.PARSER_CRASHED


def test_lines_stay_with_their_chunk():
    first, second = lines((0, 4, 1, 1, 9, 9)), lines((0, 5, 1, 9, 9, 20), (6, 7, 0, 0, 1, 65535))
    document = read_reply(TEXT, frame(chunks=[[0, 4, first], [5, 13, second], [14, 18]]), TITLE)
    assert [list(unpack(one.lines)) for one in document.chunks] == [
        [Line(0, 4, 1, 1, 9, 9)],
        [Line(0, 5, 1, 9, 9, 20), Line(6, 7, 0, 0, 1, 65535)],
        [],
    ]


def test_a_chunk_over_the_seam_of_two_parts_is_whole():
    reply = Reply(MediaType.TEXT, ChunkSettings(target_chars=10, max_chars=20))
    first, second = " " * (PART_CHARS - 2) + "aa", "bcd"
    for each in (frame(text=first), frame(text=second)):
        reply.add(each)
    seam = [[PART_CHARS - 2, PART_CHARS + 1], [PART_CHARS + 1, PART_CHARS + 3]]
    reply.add(frame(chunks=seam))
    document = reply.add(frame(title="", signature=""))
    assert [(one.gap.strip(" "), one.text) for one in document.chunks] == [("", "aab"), ("", "cd")]
    assert document.text == first + second


def test_what_has_become_chunks_is_forgotten_and_the_rest_is_not():
    reply = Reply(MediaType.TEXT, ChunkSettings(target_chars=10, max_chars=20))
    lines = [f"{number:<9}" for number in range(PART_CHARS // 2)]
    text = "\n".join(lines).rstrip()
    for start in range(0, len(text), PART_CHARS):
        reply.add(frame(text=text[start : start + PART_CHARS]))
    bounds = [(10 * number, 10 * number + len(str(number))) for number in range(len(lines))]
    half = len(bounds) // 2
    reply.add(frame(chunks=bounds[:half]))
    assert sum(map(len, reply._parts)) < 0.7 * len(text)
    reply.add(frame(chunks=bounds[half:]))
    document = reply.add(frame(title="", signature=""))
    assert document.text == text
