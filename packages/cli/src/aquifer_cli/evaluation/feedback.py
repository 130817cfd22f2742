"""Answers that were rated good, as questions with judgments and accepted answers."""

import json
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aquifer.query.v1.query_service_pb2 import ExportedAnswer
from aquifer_cli import names
from aquifer_cli.evaluation.files import QRELS_HEADER, QUESTION_CHARS
from aquifer_cli.outputs import write_file

# The answer to the first question of a conversation.
FIRST_ANSWER: Final = "2"


@dataclass(slots=True)
class Rated:
    """A question, with the documents that good answers to it cite, and their quotes."""

    id: str
    documents: dict[str, None] = field(default_factory=dict)
    quotes: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class Ratings:
    """Good answers by question; `left_out` counts those that say nothing for a search.

    They continue a conversation, so their question may lean on earlier ones; or they cite nothing
    of the collection that is still there.
    """

    collection: str
    questions: dict[str, Rated] = field(default_factory=dict)
    left_out: int = 0

    async def read(self, answers: AsyncIterable[ExportedAnswer]) -> None:
        """Adds answers; those to the same question count together."""
        async for one in answers:
            if not self._add(one):
                self.left_out += 1

    def _add(self, one: ExportedAnswer) -> bool:
        question = one.answer.question.strip()
        number = one.message.rpartition("/")[2]
        cited = [
            citation
            for citation in one.answer.citations
            if citation.quote.strip()
            and citation.passage.document.startswith(names.document_name(self.collection, ""))
        ]
        if number not in ("", FIRST_ANSWER) or not cited or len(question) > QUESTION_CHARS:
            return False
        rated = self.questions.setdefault(question, Rated(one.answer.answer_id))
        for citation in cited:
            rated.documents[names.document_id(citation.passage.document)] = None
            rated.quotes[citation.quote] = None
        return True

    def write_queries(self, file: Path) -> None:
        """Writes the questions as `aquifer eval retrieval` reads them."""
        rows = [{"_id": one.id, "text": text} for text, one in self.questions.items()]
        _write_lines(file, [json.dumps(row, ensure_ascii=False) for row in rows])

    def write_judgments(self, file: Path) -> None:
        """Writes the cited documents as relevant, as `aquifer eval retrieval` reads them."""
        rows = [
            (one.id, document, "1") for one in self.questions.values() for document in one.documents
        ]
        _write_lines(file, ["\t".join(row) for row in (QRELS_HEADER, *rows)])

    def write_questions(self, file: Path) -> None:
        """Writes the quotes as accepted answers, as `aquifer eval answers` reads them."""
        rows = [
            {"_id": one.id, "question": text, "answers": list(one.quotes), "answerable": True}
            for text, one in self.questions.items()
        ]
        _write_lines(file, [json.dumps(row, ensure_ascii=False) for row in rows])


def _write_lines(file: Path, lines: list[str]) -> None:
    write_file(file, "".join(f"{line}\n" for line in lines).encode())
