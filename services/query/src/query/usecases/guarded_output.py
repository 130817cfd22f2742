"""Holds an answer back until it is checked, so that nothing leaves that a check stops."""

from collections.abc import Iterator, Sequence

from query.answer import Citation, Delta
from query.guardrail import Action, Finding, Outcome, Verdict, join, redact, shift
from query.guardrail_records import observe
from query.usecases.guardrails import Guard

# What is found and is at most so long, never leaves: so much of the end of a text waits.
HELD_CHARS = 256
# New text that is worth another look.
STEP_CHARS = 64
LOOK_SHARE = 4

Part = Delta | Citation


class GuardedOutput:
    """The text of one answer on its way to the caller.

    A guard that needs the whole answer holds back all of it. Once a guard stops the answer, nothing
    more is released. Without guards everything is released at once.
    """

    def __init__(self, guards: Sequence[Guard]) -> None:
        self._streamed = [guard for guard in guards if not guard.whole]
        self._whole = [guard for guard in guards if guard.whole]
        self._counts = {guard.name: 0 for guard in guards}
        self._failed: set[str] = set()
        self._text = ""
        self._citations: list[tuple[int, Citation]] = []
        # Released already; what stands before a word decides whether it is one.
        self._before = ""
        self._unseen_chars = 0
        self.blocked = False

    async def add(self, part: Part) -> Sequence[Part]:
        """What may leave after this part.

        Raises:
            UnavailableError: GUARDRAIL_FAILED.
        """
        if isinstance(part, Citation):
            self._citations.append((len(self._text), part))
        else:
            self._text += part.text
            self._unseen_chars += len(part.text)
        if self._whole or self.blocked:
            return ()
        if not self._streamed:
            return list(self._take(len(self._text), ()))
        # All that is held is looked at again, so what is held back for long is looked at rarely.
        if self._unseen_chars < max(STEP_CHARS, len(self._text) // LOOK_SHARE):
            return ()
        return await self._release(len(self._text) - HELD_CHARS)

    async def end(self) -> tuple[Sequence[Part], list[Verdict]]:
        """The rest of what may leave, and the verdicts.

        Raises:
            UnavailableError: GUARDRAIL_FAILED.
        """
        for guard in () if self.blocked else self._whole:
            findings = await guard.inspect(self._text) if self._text else ()
            if findings is None:
                self._failed.add(guard.name)
            else:
                self._note(guard, len(findings))
        left = () if self.blocked else await self._release(len(self._text))
        guards = [*self._streamed, *self._whole]
        verdicts = [self._judge(guard) for guard in guards]
        for verdict in verdicts:
            observe(verdict)
        return left, verdicts

    async def _release(self, limit: int) -> Sequence[Part]:
        """Checks all of the text that is held, and releases its first `limit` characters.

        What is found across that limit waits for its end.
        """
        if limit < 0:
            return ()
        self._unseen_chars = 0
        found: list[tuple[Guard, Finding]] = []
        for guard in self._streamed:
            findings = await guard.inspect(self._before + self._text)
            if findings is None:
                self._failed.add(guard.name)
            else:
                found += [(guard, one) for one in shift(findings, len(self._before))]
        for one in reversed(join(one for _, one in found)):
            if one.start < limit < one.end:
                limit = one.start
        complete = [(guard, one) for guard, one in found if one.end <= limit]
        for guard, _ in complete:
            self._note(guard, 1)
        if self.blocked:
            return ()
        redacted = [one for guard, one in complete if guard.action is Action.REDACT]
        return list(self._take(limit, join(redacted)))

    def _take(self, limit: int, redacted: Sequence[Finding]) -> Iterator[Part]:
        """The first `limit` characters with their citations, each behind its text."""
        start = 0
        for offset, citation in self._citations:
            if offset > limit:
                break
            end = max([offset, *(one.end for one in redacted if one.start < offset < one.end)])
            yield from self._cut(start, end, redacted)
            yield citation
            start = max(start, end)
        yield from self._cut(start, limit, redacted)
        self._citations = [
            (offset - limit, citation) for offset, citation in self._citations if offset > limit
        ]
        self._before = (self._before + self._text[:limit])[-HELD_CHARS:] if self._streamed else ""
        self._text = self._text[limit:]

    def _cut(self, start: int, end: int, redacted: Sequence[Finding]) -> Iterator[Delta]:
        if start < end:
            inside = [one for one in redacted if start <= one.start < end]
            yield Delta(text=redact(self._text[start:end], shift(inside, start)))

    def _note(self, guard: Guard, count: int) -> None:
        self._counts[guard.name] += count
        if count and guard.action is Action.BLOCK:
            self.blocked = True

    def _judge(self, guard: Guard) -> Verdict:
        verdict = guard.judge(self._counts[guard.name])
        if verdict.outcome is Outcome.PASSED and guard.name in self._failed:
            return guard.make_failed()
        return verdict
