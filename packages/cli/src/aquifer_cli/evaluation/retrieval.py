"""Searches for each question, and measures the ranking of the documents."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from aquifer_cli import ask as asking
from aquifer_cli import names
from aquifer_cli.client import Client
from aquifer_cli.evaluation.calls import Failure, ask_each
from aquifer_cli.evaluation.figures import Measured
from aquifer_cli.evaluation.files import Judgments, Question
from aquifer_cli.evaluation.scores import DEPTH, score


@dataclass(frozen=True, slots=True, kw_only=True)
class Rankings:
    """Document ids of each question, best first, by question id; and what failed."""

    ranked: Mapping[str, Sequence[str]]
    failures: Sequence[Failure]

    def count_empty(self) -> int:
        """Questions without any hit."""
        return sum(not ranking for ranking in self.ranked.values())

    def count_foreign(self, known: Collection[str]) -> int:
        """Hits that are documents of other files in the collection."""
        return sum(
            document not in known for ranking in self.ranked.values() for document in ranking
        )


async def rank(
    client: Client, questions: Sequence[Question], *, collection: str, done: Callable[[], None]
) -> Rankings:
    """Ranks at most `DEPTH` documents for each question; `done` is called after each.

    Raises:
        CommandError: the key is not accepted, or every question has failed.
    """

    async def search(question: Question) -> list[str]:
        hits = await asking.search(
            client, question.text, collections=[collection], limit=DEPTH, one_per_document=True
        )
        return [names.document_id(hit.passage.document) for hit in hits]

    ranked, failures = await ask_each(questions, search, done=done)
    return Rankings(ranked=ranked, failures=failures)


def measure(ranked: Mapping[str, Sequence[str]], judged: Judgments) -> Measured:
    """The figures of each question that has a relevant document."""
    return Measured(means=score(ranked, judged))
