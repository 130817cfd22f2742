"""Files of runs, which later runs are compared with."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from aquifer_cli.errors import EXIT_USAGE, CommandError
from aquifer_cli.evaluation.calls import Failure
from aquifer_cli.evaluation.corpus import Documents
from aquifer_cli.evaluation.intervals import CONFIDENCE, RESAMPLES, SEED, Estimate, Judged

FORMAT: Final = 1
LIBRARIES: Final = ("aquifer-cli", "ir-measures", "pytrec-eval-terrier", "scipy", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """A run as it is stored.

    Attributes:
        kind: `retrieval` or `answers`.
        time: when it ended, in UTC.
        settings: what it was asked for, with the SHA-256 of its files.
        versions: of Python and the libraries.
        documents: what became of the documents.
        counts: of questions, hits and citations.
        seconds: how long all questions took.
        failures: questions without a result.
        figures: the figures with their intervals.
        questions: by question id: `figures`, by name; of a retrieval `ranking`, the document ids,
            best first; of an answer `answerable`, `confidence`, `finish`, `model` and `cited`.
    """

    kind: str
    time: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    documents: Documents
    counts: Mapping[str, int]
    seconds: float
    failures: Sequence[Failure]
    figures: Mapping[str, Estimate | None]
    questions: Mapping[str, Mapping[str, Any]]

    def summary(self) -> dict[str, object]:
        """Everything but the single questions, for programs."""
        return {"format": FORMAT, **asdict(self), "questions": len(self.questions)}

    def encode(self) -> bytes:
        """The content of the file."""
        content = {"format": FORMAT, **asdict(self)}
        return json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRun:
    """A run that was read from a file, to be compared with."""

    name: str
    time: str
    settings: Mapping[str, Any]
    questions: Mapping[str, Mapping[str, Any]]

    def rankings(self) -> dict[str, list[str]]:
        """Document ids by question id, best first."""
        return {question: list(row["ranking"]) for question, row in self.questions.items()}

    def figures(self) -> dict[str, Mapping[str, float]]:
        """The figures of each question."""
        return {question: row["figures"] for question, row in self.questions.items()}

    def judged(self) -> dict[str, Judged]:
        """The confidence of each answer that has one, by question id."""
        return {
            question: Judged(answerable=row["answerable"], confidence=row["confidence"])
            for question, row in self.questions.items()
            if row["confidence"] is not None
        }


def read_run(file: Path, kind: str) -> OtherRun:
    """A run of this kind.

    Raises:
        CommandError: FILE_UNREADABLE, RUN_UNREADABLE.
    """
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise CommandError(
            "FILE_UNREADABLE", f"{file}: {error.strerror}", exit_code=EXIT_USAGE
        ) from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(file, f"it is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _unreadable(file, f"it has no format {FORMAT}")
    if content.get("kind") != kind:
        raise _unreadable(file, f"it is a run of {content.get('kind')!r}, not of {kind!r}")
    questions = content.get("questions")
    check = _is_ranking if kind == "retrieval" else _is_answer
    if not isinstance(questions, dict) or not all(map(check, questions.values())):
        raise _unreadable(file, "its questions are not as a run has them")
    settings = content.get("settings")
    return OtherRun(
        name=file.name,
        time=str(content.get("time", "")),
        settings=settings if isinstance(settings, dict) else {},
        questions=questions,
    )


def describe_settings(files: Mapping[str, Path], **more: object) -> dict[str, Any]:
    """The settings of a run: names and SHA-256 of its files, and further ones."""
    named = {
        name: {
            "file": file.name,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for name, file in files.items()
    }
    return {
        **named,
        **more,
        "interval": {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED},
    }


def list_changes(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The names of settings that differ."""
    return sorted(
        name
        for name in {**theirs, **ours}
        if _content(ours.get(name)) != _content(theirs.get(name))
    )


def list_versions() -> dict[str, str]:
    """Versions of what computes the figures."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def tell_time() -> str:
    """Now, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _content(setting: object) -> object:
    """A file counts by its content, whatever its name."""
    return setting.get("sha256", setting) if isinstance(setting, dict) else setting


def _is_ranking(row: object) -> bool:
    ranking = row.get("ranking") if isinstance(row, dict) else None
    return isinstance(ranking, list) and all(isinstance(one, str) for one in ranking)


def _is_answer(row: object) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("figures"), dict):
        return False
    numbers = [*row["figures"].values(), row.get("confidence") or 0.0]
    known = isinstance(row.get("answerable"), bool) and "confidence" in row
    return known and all(isinstance(one, int | float) for one in numbers)


def _unreadable(file: Path, detail: str) -> CommandError:
    return CommandError(
        "RUN_UNREADABLE",
        f"{file}: {detail}",
        hint="give a file that `aquifer eval` has written with --out",
        exit_code=EXIT_USAGE,
    )
