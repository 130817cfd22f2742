"""The forms by which a single word is found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import regex  # type: ignore[import-untyped]

from query.words.folding import fold, transcribe
from query.words.languages import list_languages, stem

# Shorter words have too many that look alike.
SPELLING_MIN_CHARS: Final = 5
PIECE_CHARS: Final = 5
# A longer run of letters is no word; its pieces would fill the caches.
PIECES_OF_CHARS: Final = range(6, 65)
WORDS_KEPT: Final = 8_192

# Written before a term, so that it equals no term of another kind.
SKELETON_MARK: Final = "~"
LETTERS_MARK: Final = "="
PIECE_MARK: Final = "_"

_VOWELS: Final = regex.compile(r"[aeiouyаеиоуыэюяіїєαεηιουω]")
_REPEATED: Final = regex.compile(r"(.)\1+")


@dataclass(frozen=True, slots=True, kw_only=True)
class WordForms:
    """Forms of a word, all in lower case and without optional marks.

    `stems` are never empty: that of the language of the text, or, in a question of an unclear
    language, those of every language of its script. `form` is the word itself, "" if it is its
    stem. `keys` are what it shares with words spelled nearly alike, `pieces` what it shares with
    compounds that contain it.
    """

    stems: Sequence[str]
    form: str
    keys: Sequence[str]
    pieces: Sequence[str]


@lru_cache(maxsize=WORDS_KEPT)
def read_word(word: str, language: str, *, every_language: bool) -> WordForms:
    """The forms of a word in lower case; it has letters only.

    With `every_language` an unclear `language` means all of its script, and else the usual one.
    """
    word = word.replace("ß", "ss")
    spoken = list_languages(word)
    chosen = [language] if language in spoken else spoken if every_language else spoken[:1]
    bare = fold(word)
    stems = list(dict.fromkeys(fold(stem(word, one)) for one in chosen)) or [bare]
    return WordForms(
        stems=stems,
        form="" if bare in stems else bare,
        keys=list(_list_keys(bare)) if spoken else (),
        pieces=list(_list_pieces(bare)),
    )


def read_transcribed(word: str, language: str) -> WordForms | None:
    """The forms of a word whose umlauts are written as two letters; None if it has none."""
    transcribed = transcribe(word)
    if transcribed == fold(word):
        return None
    return read_word(transcribed, language, every_language=False)


def _list_keys(word: str) -> Iterator[str]:
    """Its first letter and consonants, and its set of letters: most slips leave one of them."""
    if len(word) >= SPELLING_MIN_CHARS:
        consonants = _REPEATED.sub(r"\1", _VOWELS.sub("", word[1:]))
        yield SKELETON_MARK + word[0] + consonants.removeprefix(word[0])
        yield LETTERS_MARK + "".join(sorted(set(word)))


def _list_pieces(word: str) -> Iterator[str]:
    if len(word) in PIECES_OF_CHARS:
        for start in range(len(word) - PIECE_CHARS + 1):
            yield PIECE_MARK + word[start : start + PIECE_CHARS]
