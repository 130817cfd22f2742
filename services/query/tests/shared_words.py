"""A reranker that counts words, and the words that the tests' embedder hashes."""

import re
from collections.abc import Sequence

from typing_extensions import override

from chassis.base.errors import NotFoundError
from query.usecases.reranker import Reranker
from query.words.languages import is_function_word, stem


class SharedWords(Reranker):
    """Scores a text by its words that the question has too, as a share of its words."""

    @override
    async def score(self, model: str, question: str, texts: Sequence[str]) -> Sequence[float]:
        if model not in ("", "shared-words"):
            raise NotFoundError("MODEL_UNKNOWN", "no model has this name")
        asked = set(list_stems(question))
        words = [list_stems(text) for text in texts]
        return [len(asked.intersection(text)) / max(len(text), 1) for text in words]


def list_stems(text: str) -> list[str]:
    """Stems of the words of an English text, without function words."""
    words = re.findall(r"\w+", text.lower())
    return [stem(word, "en") for word in words if not is_function_word(word, "en")]
