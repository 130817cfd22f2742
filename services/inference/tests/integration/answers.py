"""Questions, passages and what should come of them: a small own sample, and the large public sets.

The public sets are not part of the project; where a checkout has `../shared/data` beside it, they
are read there.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[4].parent / "shared" / "data"


@dataclass(frozen=True, slots=True)
class Case:
    """`answers` are strings of which a quote should hold one; empty: no passage helps."""

    kind: str
    question: str
    passages: list[str]
    answers: tuple[str, ...] = ()


LIBRARY = (
    "Readers may borrow up to twelve books for four weeks. A loan can be renewed twice, unless "
    "somebody else has reserved the title. Late returns cost twenty cents a day for each book. "
    "The reading room on the second floor is open until ten in the evening."
)
PUMP = (
    "The circulation pump draws 40 watts at its lowest setting. Before the first start, open the "
    "bleed screw until water without bubbles comes out. Never run the pump dry for more than a "
    "minute, because the ceramic bearing is cooled by the water. An error code of three short "
    "flashes means that the rotor is blocked."
)
STORKS = (
    "White storks leave the river plains in late August. They avoid long flights over the sea, "
    "since the rising air that carries them forms over land only. Most western birds cross at "
    "Gibraltar, while the eastern ones follow the Bosporus. A ringed female, called Astrid by "
    "the villagers, returned to the same chimney for nineteen years."
)
BREAD = (
    "Rye dough needs acid, or the crumb turns sticky. A sourdough starter is therefore fed with "
    "rye flour the evening before. The loaf is baked at 250 degrees for ten minutes and then at "
    "190 degrees for an hour. Let it rest for a whole day before you cut it."
)
RAILWAY = (
    "The narrow-gauge line to Hollbruck was opened in 1898 by the mining company. After the pit "
    "closed, passenger trains ran for another thirty years. Rising repair costs of the great "
    "viaduct led to the end of service in 1957. Volunteers have restored two engines since."
)
OWN_PASSAGES = [LIBRARY, PUMP, STORKS, BREAD, RAILWAY]

OWN_ANSWERABLE = [
    ("How many books can a reader borrow?", "up to twelve books"),
    ("What does it cost to return a book late?", "twenty cents a day"),
    ("Until when is the reading room open?", "ten in the evening"),
    ("How much power does the pump need?", "40 watts"),
    ("What do three short flashes mean?", "rotor is blocked"),
    ("Why must the pump not run dry?", "cooled by the water"),
    ("Why do storks avoid flying over the sea?", "forms over land only"),
    ("Where do western storks cross to the south?", "Gibraltar"),
    ("When do storks leave?", "late August"),
    ("At what temperature is rye bread baked?", "250 degrees"),
    ("How long should the loaf rest before cutting?", "a whole day"),
    ("Who built the railway to Hollbruck?", "mining company"),
    ("Why did the trains to Hollbruck stop running?", "Rising repair costs"),
]
OWN_FOREIGN = [
    "Which enzyme copies DNA before a cell divides?",
    "What is the capital of Mongolia?",
    "How does public key cryptography protect e-mail?",
    "Who painted the ceiling of the Sistine Chapel?",
    "What causes inflation in an open economy?",
    "How is lift produced by a swept wing at supersonic speed?",
    "Which garbage collector suits programs with many short-lived objects?",
    "What are the symptoms of vitamin B12 deficiency?",
    "How many moons does Jupiter have?",
    "When was the treaty of Westphalia signed?",
    "What is the difference between a violin and a viola?",
    "How do I reset a forgotten password?",
]


def own_cases() -> list[Case]:
    known = [Case("answerable", asked, OWN_PASSAGES, (said,)) for asked, said in OWN_ANSWERABLE]
    return known + [Case("foreign", asked, OWN_PASSAGES) for asked in OWN_FOREIGN]


def public_data() -> bool:
    return (DATA / "squad2-a" / "questions.jsonl").is_file()


def public_cases(count: int, passages: int, seed: int) -> list[Case]:
    """`count` cases of each kind, each with the passages a word search finds.

    answerable: SQuAD 2.0 questions; adversarial: its questions made to look answerable; domain:
    researchers' questions to the collection they were written for; foreign: any of these put to a
    collection on another subject.
    """
    chance = random.Random(seed)
    squad = _lines("squad2-a/questions.jsonl")
    collections = {
        "squad": [line["text"] for line in _lines("squad2-a/passages.jsonl")],
        **{name: _documents(name) for name in ("cranfield", "cacm", "cisi")},
    }
    asked = {
        name: [line["text"] for line in _lines(f"{name}/queries.jsonl") if len(line["text"]) < 400]
        for name in ("cranfield", "cacm", "cisi")
    }
    search = {name: WordSearch(texts) for name, texts in collections.items()}
    asked["squad"] = [line["question"] for line in squad]

    def case(kind: str, question: str, pool: str, answers: Sequence[str] = ()) -> Case:
        return Case(kind, question, search[pool].best(question, passages), tuple(answers))

    def sample(lines: list) -> list:
        return chance.sample(lines, min(count, len(lines)))

    # CACM and CISI share subjects: a question of one may well be answered by the other.
    pairs = [
        (name, pool)
        for name in asked
        for pool in collections
        if name != pool and {name, pool} != {"cacm", "cisi"}
    ]
    foreign = [(question, pool) for name, pool in pairs for question in asked[name]]
    own = [(question, name) for name in ("cranfield", "cacm", "cisi") for question in asked[name]]
    return [
        *(
            case("answerable", line["question"], "squad", line["answers"])
            for line in sample([line for line in squad if line["answerable"]])
        ),
        *(
            case("adversarial", line["question"], "squad")
            for line in sample([line for line in squad if not line["answerable"]])
        ),
        *(case("domain", question, pool) for question, pool in sample(own)),
        *(case("foreign", question, pool) for question, pool in sample(foreign)),
    ]


class WordSearch:
    """BM25 over whole texts."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts
        counts = [Counter(_words(text)) for text in texts]
        lengths = np.array([sum(count.values()) for count in counts])
        self._norm = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
        self._places: dict[str, list[tuple[int, int]]] = {}
        for place, count in enumerate(counts):
            for word, times in count.items():
                self._places.setdefault(word, []).append((place, times))

    def best(self, question: str, count: int) -> list[str]:
        scores = np.zeros(len(self._texts))
        for word in set(_words(question)):
            places = self._places.get(word, [])
            idf = np.log(1 + (len(self._texts) - len(places) + 0.5) / (len(places) + 0.5))
            for place, times in places:
                scores[place] += idf * times * 2.2 / (times + self._norm[place])
        return [self._texts[place] for place in np.argsort(-scores, kind="stable")[:count]]


def auroc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """The chance that one of `right` is above one of `wrong`; ties count half."""
    above = np.array(right)[:, None] - np.array(wrong)[None]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def _lines(name: str) -> list:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def _documents(name: str) -> list[str]:
    texts = (f"{line['title']}\n{line['text']}".strip() for line in _lines(f"{name}/corpus.jsonl"))
    return [text[:8000] for text in texts if text]


def _words(text: str) -> Iterator[str]:
    return (word[:6] for word in re.findall(r"\w+", text.lower()))
