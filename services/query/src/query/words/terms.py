"""Takes a text apart into terms.

A term is a text too: a passage is found by those that it shares with the question. Blanks separate
words, and a library finds the words of scripts without blanks. Codes, numbers and names of programs
are terms as a whole and in parts.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice, pairwise
from typing import Final, NamedTuple

import mmh3
import regex  # type: ignore[import-untyped]

from query.words.dates import find_dates
from query.words.folding import fold
from query.words.identifiers import list_parts, list_wholes
from query.words.languages import find_language, is_function_word
from query.words.word_forms import WordForms, read_transcribed, read_word

# The language shows in these first words.
LANGUAGE_WORDS: Final = 60
ACRONYM_CHARS: Final = range(2, 6)
ACRONYM_MARK: Final = "^"
GROUPS_MAX_CHARS: Final = 40
RUNS_KEPT: Final = 32_768
# A longer run is hardly a word that comes again, and would fill the cache.
RUN_KEPT_MAX_CHARS: Final = 64

# Weights in a question, relative to that of a word.
FORM_WEIGHT: Final = 0.3
OTHER_STEM_WEIGHT: Final = 0.25
HYPHENATED_WEIGHT: Final = 0.2
NUMBER_PART_WEIGHT: Final = 0.3
SIGNS_WEIGHT: Final = 0.7
KEY_WEIGHT: Final = 0.3
PIECES_WEIGHT: Final = 0.6

_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー々〆"
_COMPLEX: Final = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_RUN: Final = regex.compile(
    rf"(?P<unspaced>[{_UNSPACED}]+)|(?P<complex>[{_COMPLEX}]+)|[^\s{_UNSPACED}{_COMPLEX}]+"
)
_PUNCTUATION: Final = '(),;:!?"'
_BEFORE: Final = regex.compile(
    r"^(?:[^\p{L}\p{N}\p{M}\p{Sc}.+#-]|\.(?!\p{L})|[+#-](?![\p{L}\p{N}\p{Sc}]))+"
)
_AFTER: Final = regex.compile(r"[^\p{L}\p{N}\p{M}+#%]+$")
_WORD: Final = regex.compile(r"[^\W\d_]+")
_APOSTROPHE: Final = regex.compile(r"['’]")
_HYPHENATED: Final = regex.compile(r"\p{L}\p{Ll}*(?:[-‐‑]\p{L}\p{Ll}*)+")
_SIGN: Final = regex.compile(r"\X")
_DIGIT: Final = regex.compile(r"\d")
# Groups that may also be written without blanks: `DE89 3704 0044`, `030 123 45`.
_GROUPS: Final = regex.compile(
    r"(?<![\w.,-])\p{Lu}{0,4}\d[\p{Lu}\d]*(?:[ \u00a0\u202f-][\p{Lu}\d]+)+(?!\w)"
)
_SIGNED: Final = regex.compile(
    r"\b(?:(?P<plus>plus|плюс)|minus|moins|menos|meno|минус)\s+(?P<number>\d[\d.,]*)",
    regex.IGNORECASE,
)


class Writing(NamedTuple):
    """How a text is written: its language, "" if unclear, and whether all words are in capitals."""

    language: str
    in_capitals: bool


@dataclass(frozen=True, slots=True)
class PassageTerms:
    """Counts of the terms of a passage by their ids, and its number of words."""

    counts: Counter[int]
    words: int


@dataclass(frozen=True, slots=True)
class Spelling:
    """What to search for instead of a word that no passage has.

    `word` are the terms of the word; `similar` are terms of words that look alike, with weights.
    """

    word: Sequence[str]
    similar: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class QuestionTerms:
    """The terms of a question with their weights, and what to use instead of unknown words."""

    weights: Mapping[str, float]
    spellings: Sequence[Spelling]


def make_id(term: str) -> int:
    """The 32-bit id of a term; two terms seldom have the same."""
    made: int = mmh3.hash(term, signed=False)
    return made


def read_passage(text: str) -> PassageTerms:
    """The terms of a passage, or of a title."""
    text = unicodedata.normalize("NFKC", text)
    writing = _find_writing(text)
    if text.isascii():
        # Most punctuation goes before the cache is asked, so that it has each word once.
        runs = [run.strip(_PUNCTUATION).rstrip(".") for run in text.split()]
        read = [_read_run(run, writing) for run in runs]
    else:
        read = [_read_match(found, writing) for found in _RUN.finditer(text)]
    counts = Counter(chain.from_iterable(ids for ids, _ in read))
    counts.update(map(make_id, _list_across(text)))
    return PassageTerms(counts, sum(words for _, words in read))


def read_question(text: str) -> QuestionTerms:
    """The terms of a question.

    Function words count only if it has nothing else.
    """
    text = unicodedata.normalize("NFKC", text)
    asked = _Asked(_find_writing(text))
    for found in _RUN.finditer(text):
        if found["unspaced"] or found["complex"]:
            asked.add_unspaced(found)
        else:
            asked.add_run(_strip(found[0]))
    for term in _list_across(text):
        asked.weights[term] += 1.0
    return QuestionTerms(asked.weights or asked.function_words, asked.spellings)


def _find_writing(text: str) -> Writing:
    words = islice(_WORD.finditer(text.lower()), LANGUAGE_WORDS)
    in_capitals = text.isupper() and len(text.split(maxsplit=1)) > 1
    return Writing(find_language({word[0] for word in words}), in_capitals)


def _read_match(found: "regex.Match[str]", writing: Writing) -> tuple[Sequence[int], int]:
    if not found["unspaced"] and not found["complex"]:
        return _read_run(found[0], writing)
    words = _segment(found[0])
    return [make_id(term) for term in chain(words, _list_sign_groups(found))], len(words)


def _read_run(run: str, writing: Writing) -> tuple[Sequence[int], int]:
    """The ids of the terms between two blanks of a passage, and its number of words."""
    read = _read_short_run if len(run) <= RUN_KEPT_MAX_CHARS else _read_any_run
    return read(run, writing)


@lru_cache(maxsize=RUNS_KEPT)
def _read_short_run(run: str, writing: Writing) -> tuple[Sequence[int], int]:
    return _read_any_run(run, writing)


def _read_any_run(run: str, writing: Writing) -> tuple[Sequence[int], int]:
    run = _strip(run)
    terms: list[str] = []
    words = 0
    parts = _list_words(run)
    if parts != [run]:
        terms += dict.fromkeys(list_wholes(run))
    for part in parts:
        word = part.lower()
        if _is_acronym(part, writing):
            terms.append(ACRONYM_MARK + word)
        if is_function_word(word, writing.language or "en"):
            terms.append(fold(word))
        elif not word.isalpha():
            terms.append(fold(word))
            words += 1
        else:
            terms += _list_forms(word, writing.language)
            words += 1
    return tuple(map(make_id, terms)), words


def _list_forms(word: str, language: str) -> Iterator[str]:
    read = read_word(word, language, every_language=False)
    transcribed = None if word.isascii() else read_transcribed(word, language)
    for forms in (read, transcribed):
        if forms:
            yield from forms.stems
            if forms.form:
                yield forms.form
            # English compounds are written apart.
            if language != "en":
                yield from forms.pieces
    yield from read.keys


@dataclass(slots=True)
class _Asked:
    """Collects the terms of a question."""

    writing: Writing
    weights: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    function_words: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    spellings: list[Spelling] = field(default_factory=list)

    def add_unspaced(self, found: "regex.Match[str]") -> None:
        words = _segment(found[0])
        self._add(words, 1.0)
        self._add(_list_sign_groups(found), SIGNS_WEIGHT)

    def add_run(self, run: str) -> None:
        parts = _list_words(run)
        if parts != [run]:
            hyphenated = _HYPHENATED.fullmatch(run)
            wholes = dict.fromkeys(list_wholes(run))
            self._add(wholes, HYPHENATED_WEIGHT if hyphenated else 1.0)
        for part in parts:
            word = part.lower()
            if _is_acronym(part, self.writing):
                self.weights[ACRONYM_MARK + word] += 1.0
            if is_function_word(word, self.writing.language or "en"):
                self.function_words[fold(word)] += 1.0
            elif not word.isalpha():
                is_part = len(parts) > 1 and word.isdecimal()
                self.weights[fold(word)] += NUMBER_PART_WEIGHT if is_part else 1.0
            else:
                self._add_word(read_word(word, self.writing.language, every_language=True))

    def _add_word(self, word: WordForms) -> None:
        self.weights[word.stems[0]] += 1.0
        self._add(word.stems[1:], OTHER_STEM_WEIGHT)
        if word.form:
            self.weights[word.form] += FORM_WEIGHT
        similar = dict.fromkeys(word.keys, KEY_WEIGHT)
        similar |= {piece: PIECES_WEIGHT / len(word.pieces) for piece in word.pieces}
        if similar:
            own = [word.stems[0], word.form] if word.form else [word.stems[0]]
            self.spellings.append(Spelling(own, similar))

    def _add(self, terms: Iterable[str], weight: float) -> None:
        for term in terms:
            self.weights[term] += weight


def _strip(run: str) -> str:
    """A run without punctuation around it; a sign of a number, `.NET` and `C++` stay."""
    stripped: str = _BEFORE.sub("", _AFTER.sub("", run))
    return stripped


def _list_words(run: str) -> Sequence[str]:
    """The words of a run as they are written; the run itself if it is one word."""
    if run.isalpha() and (run[1:].islower() or len(run) == 1):
        return [run]
    bare = run.replace("'", "").replace("’", "")
    if bare.isalpha() and not any(sign.isupper() for sign in bare[1:]):
        return [word for word in _APOSTROPHE.split(run) if word]
    return list(list_parts(run))


def _is_acronym(word: str, writing: Writing) -> bool:
    return not writing.in_capitals and word.isupper() and len(word) in ACRONYM_CHARS


def _segment(run: str) -> Sequence[str]:
    """The words of a run in a script without blanks."""
    # Imported here: it takes 10 MB, and most deployments do not need it.
    from icu4py.breakers import WordBreaker  # noqa: PLC0415

    # One dictionary has Chinese and Japanese words, and each other script has one of its own; so
    # the language given here decides nothing.
    return list(WordBreaker(run, "ja"))


def _list_sign_groups(found: "regex.Match[str]") -> Iterator[str]:
    """Pairs of signs, or groups of three where a sign is less than a syllable.

    They find words that are segmented in another way in another sentence.
    """
    if found["unspaced"]:
        for first, second in pairwise(found[0]):
            yield first + second
    else:
        signs = _SIGN.findall(found[0])
        for group in zip(signs, signs[1:], signs[2:], strict=False):
            yield "".join(group)


def _list_across(text: str) -> Iterator[str]:
    """Terms that go over blanks: dates, numbers in groups, numbers with a sign in words."""
    if not _DIGIT.search(text):
        return
    yield from find_dates(text)
    for found in _GROUPS.finditer(text):
        joined = "".join(filter(str.isalnum, found[0])).lower()
        if len(joined) <= GROUPS_MAX_CHARS:
            yield joined
    for found in _SIGNED.finditer(text):
        yield ("+" if found["plus"] else "-") + found["number"].rstrip(".,")
