"""Reads questions, judgments and accepted answers."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from aquifer_cli import names
from aquifer_cli.errors import EXIT_USAGE, CommandError
from aquifer_cli.jsonl import Line, read_each_line, read_lines

QUESTION_CHARS: Final = 4_000
# The library of the figures has a counter for each degree of relevance.
SCORE_MAX: Final = 1_000
QRELS_HINT = "write query-id, corpus-id and score, separated by tabs, below a line with these names"
QRELS_HEADER: Final = ("query-id", "corpus-id", "score")

Judgments = Mapping[str, Mapping[str, int]]
"""The relevance of documents by question id and document id; above 0: relevant."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question; without accepted answers if only its ranking is judged.

    `answers` are spellings of which one has to be cited. `answerable`: whether the documents answer
    it.
    """

    id: str
    text: str
    answers: Sequence[str] = ()
    answerable: bool = True


def read_queries(file: Path) -> list[Question]:
    """Questions of a JSONL file, with `_id` and `text`.

    Raises:
        CommandError: FILE_UNREADABLE, LINE_UNREADABLE, FILE_EMPTY.
    """
    seen: set[str] = set()

    def make(line: Line) -> Question:
        return Question(id=_read_id(line, seen, _QUERY_HINT), text=_read_text(line, "text"))

    return _refuse_empty(file, read_lines(file, make))


def read_questions(file: Path) -> list[Question]:
    """Questions of a JSONL file, with `_id`, `question`, `answers` and `answerable`.

    Without `answerable`, a question with accepted answers is answerable.

    Raises:
        CommandError: FILE_UNREADABLE, LINE_UNREADABLE, FILE_EMPTY.
    """
    seen: set[str] = set()

    def make(line: Line) -> Question:
        answers = line.row.get("answers")
        if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers):
            raise _line_error(line.where, '"answers" is missing or not a list', _QUESTION_HINT)
        if not all(map(str.strip, answers)):
            raise _line_error(line.where, 'one of "answers" is empty', _QUESTION_HINT)
        answerable = line.row.get("answerable", bool(answers))
        if not isinstance(answerable, bool):
            raise _line_error(line.where, '"answerable" is not true or false', _QUESTION_HINT)
        if answerable != bool(answers):
            detail = "an answerable question has answers, and no other question has"
            raise _line_error(line.where, detail, _QUESTION_HINT)
        return Question(
            id=_read_id(line, seen, _QUESTION_HINT),
            text=_read_text(line, "question"),
            answers=answers,
            answerable=answerable,
        )

    return _refuse_empty(file, read_lines(file, make))


def read_judgments(
    file: Path,
    questions: Collection[str],
    documents: Collection[str],
    *,
    unknown_hint: str = QRELS_HINT,
) -> dict[str, dict[str, int]]:
    """Judgments of a TSV file with the header `query-id corpus-id score`.

    Args:
        file: where they are.
        questions: the known question ids.
        documents: the known document ids, as Aquifer has them.
        unknown_hint: what to do about a document that is not known.

    Raises:
        CommandError: FILE_UNREADABLE, LINE_UNREADABLE, FILE_EMPTY; NOTHING_JUDGED if no document is
            relevant for any question.
    """
    judged: dict[str, dict[str, int]] = {}
    header: list[bytes] = []

    def add(where: str, line: bytes) -> None:
        if not header:
            header.append(line)
            _check_header(where, line)
            return
        query, document, score = _read_judgment(where, line)
        if query not in questions:
            raise _line_error(where, f"no question has the _id {query!r}", QRELS_HINT)
        if document not in documents:
            raise _line_error(where, f"no document has the _id {document!r}", unknown_hint)
        if judged.setdefault(query, {}).setdefault(document, score) != score:
            detail = f"{query!r} and {document!r} have another score above"
            raise _line_error(where, detail, QRELS_HINT)

    _refuse_empty(file, read_each_line(file, add))
    if not any(score > 0 for row in judged.values() for score in row.values()):
        raise CommandError(
            "NOTHING_JUDGED",
            f"{file}: no document is relevant for any question",
            hint="a relevant document has a score above 0",
            exit_code=EXIT_USAGE,
        )
    return judged


def sample(questions: Sequence[Question], limit: int, seed: int) -> Sequence[Question]:
    """`limit` questions in their order, the same ones for the same seed; 0: all."""
    if not limit or limit >= len(questions):
        return questions
    chosen = random.Random(seed).sample(range(len(questions)), limit)  # noqa: S311  # no secret
    return [questions[number] for number in sorted(chosen)]


_QUERY_HINT = 'write each line as an object with "_id" and "text"'
_QUESTION_HINT = (
    'write each line as an object with "_id", "question" and "answers", a list of texts'
)


def _read_id(line: Line, seen: set[str], hint: str) -> str:
    identifier = line.text("_id")
    if not identifier:
        raise _line_error(line.where, "the _id is empty", hint)
    if identifier in seen:
        raise _line_error(line.where, f"the _id {identifier!r} occurs twice", hint)
    seen.add(identifier)
    return identifier


def _read_text(line: Line, key: str) -> str:
    text = line.text(key)
    if not 0 < len(text.strip()) <= len(text) <= QUESTION_CHARS:
        detail = f'"{key}" has {len(text):,} characters; a question has 1 to {QUESTION_CHARS:,}'
        raise _line_error(line.where, detail, "shorten the question, or leave it out")
    return text


def _check_header(where: str, line: bytes) -> None:
    if tuple(line.strip().split(b"\t")) != tuple(name.encode() for name in QRELS_HEADER):
        raise _line_error(where, f"it is not the header {' '.join(QRELS_HEADER)}", QRELS_HINT)


def _read_judgment(where: str, line: bytes) -> tuple[str, str, int]:
    try:
        columns = line.decode().rstrip("\r").split("\t")
    except UnicodeDecodeError as error:
        raise _line_error(where, f"it is not UTF-8: {error}", QRELS_HINT) from error
    if len(columns) != len(QRELS_HEADER):
        detail = f"it has {len(columns)} columns, not {len(QRELS_HEADER)}"
        raise _line_error(where, detail, QRELS_HINT)
    query, document, text = columns
    try:
        score = int(text)
    except ValueError:
        score = SCORE_MAX + 1
    if abs(score) > SCORE_MAX:
        detail = f"the score {text[:20]!r} is not a whole number from -{SCORE_MAX} to {SCORE_MAX}"
        raise _line_error(where, detail, QRELS_HINT)
    return query, names.id_from_foreign(document), score


def _refuse_empty(file: Path, rows: list[T]) -> list[T]:
    if not rows:
        raise CommandError("FILE_EMPTY", f"{file} has no lines", exit_code=EXIT_USAGE)
    return rows


def _line_error(where: str, detail: str, hint: str) -> CommandError:
    return CommandError("LINE_UNREADABLE", f"{where}: {detail}", hint=hint, exit_code=EXIT_USAGE)
