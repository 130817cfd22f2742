"""Rejoins words that are broken at line ends."""

import re
from collections import Counter

from ingest.parsing.outline_marks import LINE_MARK_PATTERN

_SOFT = "\xad"
_HYPHEN = "[-\u2010\ufffe\x02]"
_HYPHENATED = re.compile(
    rf"(?<![^\W\d_])([^\W\d_]++)(?:{_HYPHEN}|({_SOFT}))[ \xa0]*+\n"
    rf"((?:{LINE_MARK_PATTERN})?+)[ \xa0]*+([^\W\d_]+)"
)
_MARK = re.compile("[\ufffe\x02]")
_WORD = re.compile(r"[^\W\d_]++(?:-[^\W\d_]++)*+")


def rejoin(texts: list[str]) -> list[str]:
    """Undo hyphenation at line ends; spellings elsewhere in the document decide doubtful cases.

    The mark of the second line stays, inside of the word.
    """
    words = Counter(word for text in texts for word in _WORD.findall(text))

    def join(match: re.Match[str]) -> str:
        head, soft, mark, tail = match.groups()
        if soft:
            return f"{head}{mark}{tail}"
        if not tail[0].islower():
            return f"{head}-\n{mark}{tail}"
        # Each half is counted once for this very place.
        compound = f"{head}-{tail}" in words or (words[head] > 1 and words[tail] > 1)
        hyphen = "-" if compound and f"{head}{tail}" not in words else ""
        return f"{head}{hyphen}{mark}{tail}"

    return [_MARK.sub("-", _HYPHENATED.sub(join, text)) for text in texts]
