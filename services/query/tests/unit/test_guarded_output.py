"""However an answer is cut into pieces, what leaves is what a check of the whole would let pass."""

import asyncio
import itertools
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from query.answer import Citation, Delta
from query.checks.personal_data import PersonalDataCheck
from query.domain import Passage, Version
from query.guardrail import Action, Stage, redact
from query.usecases.guarded_output import GuardedOutput
from query.usecases.guardrails import Guard

PASSAGE = Passage(
    version=Version(document="collections/c/documents/d", number=1),
    ordinal=0,
    chunk_id=UUID(int=0),
    text="x",
    title="",
    start=0,
    end=1,
    page=0,
    ingest_trace_id="",
)
PIECES = st.sampled_from(
    [
        "The impeller runs on. ",
        "ada@example.org",
        " DE89 3704 0044 0532 0130 00 ",
        " 4111 1111 1111 1111 ",
        ", ",
        "\n",
        "a long sentence about nothing that has a form of its own, and so it goes on " * 3,
        "\N{DROPLET}",
        " 12 ",
    ]
)


def citation(number: int) -> Citation:
    return Citation(marker=f"[{number}]", passage=PASSAGE, quote="x", start=0, end=1)


async def send(text: str, cuts: list[int], marks: list[int], action: Action):
    """What leaves of a text that comes in pieces, with citations at places of it."""
    check = PersonalDataCheck()
    output = GuardedOutput(
        [
            Guard(
                name="one",
                check=check,
                stage=Stage.OUTPUT,
                action=action,
                closed=True,
                deadline_s=5.0,
            )
        ]
    )
    sent = []
    edges = sorted({0, len(text), *(one % (len(text) + 1) for one in [*cuts, *marks])})
    places = sorted(one % (len(text) + 1) for one in marks)
    for number, place in enumerate(places):
        if place == 0:
            sent += await output.add(citation(number))
    for start, end in itertools.pairwise(edges):
        sent += await output.add(Delta(text=text[start:end]))
        for number, place in enumerate(places):
            if place == end:
                sent += await output.add(citation(number))
    rest, [verdict] = await output.end()
    return [*sent, *rest], verdict, await check.inspect(text)


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(PIECES, max_size=12),
    cuts=st.lists(st.integers(0, 5_000), max_size=30),
    marks=st.lists(st.integers(0, 5_000), max_size=5),
)
def test_what_leaves_is_the_redaction_of_the_whole(pieces, cuts, marks):
    text = "".join(pieces)
    sent, verdict, found = asyncio.run(send(text, cuts, marks, Action.REDACT))
    said = "".join(part.text for part in sent if isinstance(part, Delta))
    assert said == redact(text, found)
    assert bool(verdict.count) == bool(found)
    cited = [part.marker for part in sent if isinstance(part, Citation)]
    assert cited == [f"[{number}]" for number in range(len(marks))]


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(PIECES, max_size=12), cuts=st.lists(st.integers(0, 5_000), max_size=30))
def test_a_stopped_answer_ends_before_what_stopped_it(pieces, cuts):
    text = "".join(pieces)
    sent, _, found = asyncio.run(send(text, cuts, [], Action.BLOCK))
    said = "".join(part.text for part in sent if isinstance(part, Delta))
    limit = min((one.start for one in found), default=len(text))
    assert text.startswith(said)
    assert len(said) == len(text) if not found else len(said) <= limit
