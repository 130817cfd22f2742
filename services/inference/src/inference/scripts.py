"""Tells whether a model has learned the script in which a text is written."""

import unicodedata
from collections.abc import Collection
from typing import Final

# A text may quote other scripts.
KNOWN_SHARE_MIN: Final = 0.5


def is_known(text: str, scripts: Collection[str]) -> bool:
    """Whether at least half of the letters of a text are of these scripts.

    A script is the first word of its letters' names in Unicode, in capitals: LATIN, CJK. None means
    every script. A text without letters is known.
    """
    if not scripts or (text.isascii() and "LATIN" in scripts):
        return True
    letters = [sign for sign in text if sign.isalpha()]
    known = sum(unicodedata.name(sign, "").partition(" ")[0] in scripts for sign in letters)
    return known >= KNOWN_SHARE_MIN * len(letters)
