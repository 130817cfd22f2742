"""Documents and judged questions: a collection on disk, or a generated one."""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

GENERATED_DOCUMENTS = 1000
GENERATED_QUERIES = 100
_SEED = 7
_SYLLABLES = re.findall("[a-z]+", "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """`lines` are JSON objects with `_id`, `title`, `text`; `relevant` is by question id."""

    name: str
    lines: Sequence[str]
    queries: Sequence[tuple[str, str]]
    relevant: Mapping[str, frozenset[str]]
    whole: bool
    about: str


def load(folder: Path, documents: int | None) -> Corpus:
    """The first `documents` of the collection in `folder` (BEIR layout), or of a generated one."""
    if (folder / "corpus.jsonl").exists():
        return _read(folder, documents)
    return generate(documents or GENERATED_DOCUMENTS)


def _read(folder: Path, documents: int | None) -> Corpus:
    lines = [line for line in _lines(folder / "corpus.jsonl") if _has_text(line)]
    kept = lines[:documents]
    ids = {str(json.loads(line)["_id"]) for line in kept}
    relevant: dict[str, set[str]] = {}
    for judgment in _lines(folder / "qrels.tsv")[1:]:
        query, document, score = judgment.split("\t")
        if int(score) > 0 and document in ids:
            relevant.setdefault(query, set()).add(document)
    rows = [json.loads(line) for line in _lines(folder / "queries.jsonl")]
    return Corpus(
        name=folder.name,
        lines=kept,
        queries=[(str(row["_id"]), str(row["text"])) for row in rows if row["_id"] in relevant],
        relevant={query: frozenset(found) for query, found in relevant.items()},
        whole=len(kept) == len(lines),
        about=f"{len(kept)} of {len(lines)} documents with text of {folder.name}",
    )


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _has_text(line: str) -> bool:
    return bool(json.loads(line)["text"].strip())


def generate(documents: int) -> Corpus:
    """Made-up words in topics: questions are rare words of one document, the only one relevant."""
    rng = random.Random(_SEED)  # the same collection every time
    words = sorted({"".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4))) for _ in range(6000)})
    topics = [rng.sample(words, 120) for _ in range(40)]
    lines, queries, relevant = [], [], {}
    for number in range(1, documents + 1):
        rare = rng.sample(words, 8)
        text = _prose(rng, rng.choice(topics), rare)
        lines.append(json.dumps({"_id": str(number), "title": " ".join(rare[:4]), "text": text}))
        if number <= GENERATED_QUERIES:
            queries.append((str(number), f"what is known of {' '.join(rare[2:7])} ?"))
            relevant[str(number)] = frozenset({str(number)})
    return Corpus(
        name="generated",
        lines=lines,
        queries=queries,
        relevant=relevant,
        whole=True,
        about=f"{documents} documents made here, for want of a collection",
    )


def _prose(rng: random.Random, topic: Sequence[str], rare: Sequence[str]) -> str:
    words = [*rng.choices(topic, k=150), *rare, *rare]
    rng.shuffle(words)
    parts = iter(words)
    sentences = iter(lambda: list(islice(parts, 14)), [])
    return " ".join(f"{' '.join(sentence).capitalize()} ." for sentence in sentences)
