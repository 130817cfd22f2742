"""Shows dead letters to people and programs."""

import json
import time
from collections.abc import Sequence
from datetime import UTC

from aquifer.ops.v1.dead_letter_service_pb2 import DeadLetter, GetDeadLetterResponse
from aquifer_cli import bodies
from aquifer_cli.dead_letters import Ref, Summary
from aquifer_cli.layout import Row
from aquifer_cli.screen import Screen
from aquifer_cli.show import render_size

SHOWN = 20
RAW_SHOWN_BYTES = 2_000
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
# Reasons that only a changed event, or a newer version of this software, can remove.
_OF_THE_EVENT = frozenset(
    {
        "EVENT_CONTENT_TYPE",
        "EVENT_HEADER_MISSING",
        "EVENT_SPEC_VERSION",
        "EVENT_UNDECODABLE",
        "SCHEMA_UNSUPPORTED",
        "TENANT_MISMATCH",
        "UPLOAD_EVENT_ID",
    }
)


def summary_json(ref: Ref, letter: DeadLetter) -> dict[str, object]:
    """A dead letter without its body, for programs."""
    return {
        "id": str(ref),
        "service": ref.service,
        "event": letter.event_type,
        "event_id": letter.event_id,
        "tenant": letter.tenant,
        "document": letter.document,
        "reason": letter.reason,
        "detail": letter.detail,
        "deliveries": letter.attempts,
        "age_s": round(_age_s(letter), 1),
        "first_time": letter.first_time.ToDatetime(tzinfo=UTC).isoformat(),
        "dead_time": letter.dead_time.ToDatetime(tzinfo=UTC).isoformat(),
        "trace_id": letter.trace_id,
        "size_bytes": letter.size_bytes,
    }


def show_list(screen: Screen, letters: Sequence[tuple[Ref, DeadLetter]], *, more: bool) -> None:
    """A table, with the document and the detail below each line."""
    screen.table(
        ["id", "reason", "event", "tenant", "age", "deliveries"],
        [
            Row(
                cells=(
                    str(ref),
                    letter.reason,
                    letter.event_type.rpartition(".")[2],
                    letter.tenant,
                    render_age(_age_s(letter)),
                    letter.attempts,
                ),
                below=": ".join(filter(None, [letter.document, letter.detail])),
            )
            for ref, letter in letters
        ],
    )
    if more:
        screen.note("and more; --json lists all, --service, --tenant and --reason choose")
    elif not letters:
        screen.say("no dead letters")
    else:
        screen.note("next: `aquifer dead-letters show ID` says more of one, and what to do")


def details_json(ref: Ref, response: GetDeadLetterResponse, *, content: bool) -> dict[str, object]:
    """A dead letter with headers and body, for programs; undecodable bytes only with `content`."""
    letter = response.dead_letter
    body = bodies.decode(letter.event_type, response.headers, response.payload, content=content)
    raw = bodies.encode_raw(response.payload) if content and body is None else None
    return {
        **summary_json(ref, letter),
        "headers": dict(response.headers),
        "body": body,
        "body_base64": raw,
        "next": advise(ref, letter),
    }


def show_details(
    screen: Screen, ref: Ref, response: GetDeadLetterResponse, *, content: bool
) -> None:
    """Why it is there, what it contains and what to do next."""
    letter = response.dead_letter
    screen.say(f"{ref}  {letter.reason}", style="bold")
    screen.fill(letter.detail, "    ")
    facts = {
        "event": f"{letter.event_type} {letter.event_id}",
        "subject": letter.subject,
        "tenant": letter.tenant,
        "document": letter.document,
        "published": f"{letter.first_time.ToDatetime(tzinfo=UTC):%Y-%m-%d %H:%M:%S} UTC",
        "given up": f"{letter.dead_time.ToDatetime(tzinfo=UTC):%Y-%m-%d %H:%M:%S} UTC, after "
        f"{letter.attempts} {'delivery' if letter.attempts == 1 else 'deliveries'}",
        "trace": letter.trace_id,
    }
    for name, value in facts.items():
        if value:
            screen.say(f"{name:<10}{value}")
    screen.say("headers", style="bold")
    for name, value in sorted(response.headers.items()):
        screen.say(f"    {name}: {value}")
    body = bodies.decode(letter.event_type, response.headers, response.payload, content=content)
    screen.say(f"body, {render_size(letter.size_bytes)}", style="bold")
    if body is not None:
        for line in json.dumps(body, ensure_ascii=False, indent=2).splitlines():
            screen.say(f"    {line}")
    elif content:
        screen.say(f"    {response.payload[:RAW_SHOWN_BYTES]!r}")
    else:
        screen.say("    cannot be decoded; --content shows its bytes")
    screen.note(f"next: {advise(ref, letter)}")


def advise(ref: Ref, letter: DeadLetter) -> str:
    """What an operator can do about it."""
    if letter.reason in _OF_THE_EVENT:
        return (
            "its producer must correct it and publish it under a new ce-id; then "
            f"`aquifer dead-letters discard {ref}`"
        )
    if letter.reason == "TENANT_UNKNOWN":
        return (
            f"`aquifer tenants create {letter.tenant}` if the tenant is right, then "
            f"`aquifer dead-letters replay {ref}`"
        )
    if letter.reason in {"ATTEMPTS_EXHAUSTED", "CRASH_LOOP"}:
        cause = f"look for {letter.trace_id or letter.event_id} in the log of {ref.service}"
    else:
        cause = f"docs/status-codes.md explains {letter.reason}; fix the cause"
    return f"{cause}, then `aquifer dead-letters replay {ref}`, or discard it"


def show_summary(screen: Screen, summary: Summary, verb: str) -> None:
    """The result of each if they are few, otherwise those that failed; and how many there were."""
    failed = summary.failed.total()
    few = failed + len(summary.done) <= SHOWN
    screen.table(
        ["id", "result"],
        [Row(cells=(str(ref), verb.upper())) for ref in summary.done if few]
        + [
            Row(cells=(str(ref), "FAILED"), below=f"{error.reason}: {error.detail}")
            for ref, error in summary.failures[:SHOWN]
        ],
    )
    if failed > SHOWN:
        screen.note(f"and {failed - SHOWN:,} more; --json lists all")
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary.failed.most_common())
    done = f"{len(summary.done):,} {verb}"
    screen.say(f"{done}, {failed:,} failed: {reasons}" if failed else done)


def render_age(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h` or `2 d`."""
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


def _age_s(letter: DeadLetter) -> float:
    return time.time() - letter.dead_time.ToMilliseconds() / 1_000
