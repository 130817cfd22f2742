"""Answers by quoting: the sentences that bear on the question, word for word, or a refusal."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from typing_extensions import override

from inference.domain import (
    Finish,
    FinishReason,
    Generated,
    GenerationDelta,
    Lane,
    ModelCard,
    ModelKind,
    Passage,
    Question,
    Quote,
    Usage,
)
from inference.engines.sentences import Sentence, sentences, stem, words
from inference.usecases import Embedder, Generator, Matrix

LEAD_IN = "The documents say:"
REFUSAL = "The documents given do not answer this question."

QUOTES_MAX = 4
# Embedding is the cost of an answer; beyond so many sentences the words alone decide.
EMBEDDED_MAX = 64

_OVERLAP_WEIGHT = 0.8
# A word that only the heading holds speaks for a sentence three quarters as loudly.
_HEADING_SHARE = 0.75
_RANK_WEIGHT = 0.15
# A further quote must come this close to the best one, and not repeat what was quoted.
_QUOTE_MIN_SHARE = 0.75
_REPETITION_WEIGHT = 0.3
_SAME_LIKENESS = 0.95

# Logistic fit of the best support on answerable questions against questions about other collections
# (SQuAD 2.0, Cranfield, CACM, CISI; 1 to 20 passages). Refusing below 0.35 keeps 98 % of the former
# and turns away 95 % of the latter.
_CONFIDENCE_SLOPE = 19.0
_CONFIDENCE_CENTRE = 0.75
CONFIDENCE_MIN = 0.35


class Vocabulary(Protocol):
    """What a tokenizer knows of words."""

    def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of every text."""

    def rarity(self, word: str) -> float:
        """From 0, for the commonest words, to 1 for those the vocabulary lacks."""


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A sentence, its word stems in order, and those of the headings above it."""

    passage: Passage
    rank: int
    span: Sentence
    stems: Sequence[str]
    heading: frozenset[str]

    @property
    def text(self) -> str:
        return self.passage.text[self.span.start : self.span.end]


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """`support` says whether the passages bear on the question at all, `score` which is best."""

    candidate: _Candidate
    support: float
    score: float
    vector: Matrix


@dataclass(frozen=True, slots=True)
class _QuestionTerms:
    """How much each stem of the question tells sentences apart, 1 in all; which are neighbours."""

    weights: Mapping[str, float]
    pairs: frozenset[tuple[str, str]]

    def support(self, candidate: _Candidate) -> float:
        """What the words say for a sentence, before the meaning is looked at."""
        held = frozenset(candidate.stems)
        own = sum(weight for word, weight in self.weights.items() if word in held)
        lent = sum(self.weights.get(word, 0.0) for word in candidate.heading - held)
        words_held = own + _HEADING_SHARE * lent
        return _OVERLAP_WEIGHT * words_held + _RANK_WEIGHT / (1 + candidate.rank)

    def closeness(self, candidate: _Candidate) -> float:
        """More for words that stand side by side as they do in the question: not any stage, two."""
        shared = self.pairs.intersection(pairwise(candidate.stems))
        return _OVERLAP_WEIGHT * sum(min(map(self.weights.__getitem__, pair)) for pair in shared)


class Extractive(Generator):
    """Scores every sentence of the passages and quotes the best, or refuses.

    What supports a sentence is its cosine to the question, the share of the question's words that
    it holds, rare ones counting more, those of its headings less, and a little the rank of its
    passage. Which is best also depends on words that are neighbours in the question too. The best
    is quoted first, then what comes near it. The same question and passages always give the same
    answer.
    """

    def __init__(self, embedder: Embedder, vocabulary: Vocabulary) -> None:
        self._embedder = embedder
        self._vocabulary = vocabulary

    @property
    @override
    def card(self) -> ModelCard:
        return ModelCard(
            name="extractive",
            kind=ModelKind.GENERATE,
            engine="extractive",
            generative=False,
            description="quotes the best-supported sentences; composes, computes, translates none",
        )

    @override
    async def generate(self, question: Question) -> AsyncGenerator[Generated, None]:
        input_tokens, asked, found = await asyncio.to_thread(self._read, question)
        ranked = await self._rank(question, asked, found)
        confidence = _confidence(ranked)
        if confidence < CONFIDENCE_MIN:
            yield GenerationDelta(text=REFUSAL)
            usage = self._usage(input_tokens, [REFUSAL])
            yield Finish(reason=FinishReason.NO_ANSWER, usage=usage, confidence=confidence)
            return
        said = [LEAD_IN]
        reason = FinishReason.STOP
        yield GenerationDelta(text=LEAD_IN)
        for sentence in (one.candidate for one in _choose_quotes(ranked)):
            if not self._is_within([*said, sentence.text], question.max_output_tokens):
                reason = FinishReason.LENGTH
                break
            said.append(sentence.text)
            yield GenerationDelta(text=f"\n{sentence.text}")
            yield Quote(
                passage=sentence.passage.index,
                start=sentence.span.start,
                end=sentence.span.end,
                text=sentence.text,
            )
        usage = self._usage(input_tokens, said)
        yield Finish(reason=reason, usage=usage, confidence=confidence)

    def _read(self, question: Question) -> tuple[int, _QuestionTerms, list[_Candidate]]:
        """Tokens read, what the question asks for, and the sentences worth embedding."""
        found = [
            _Candidate(
                passage,
                rank,
                span,
                _stems(passage.text[span.start : span.end]),
                frozenset(_stems(passage.text[slice(*span.heading)])),
            )
            for rank, passage in enumerate(question.passages)
            for span in sentences(passage.text)
        ]
        asked = self._weigh_terms(question.text, found)
        support = [asked.support(candidate) for candidate in found]
        best = sorted(range(len(found)), key=lambda at: (-support[at], at))[:EMBEDDED_MAX]
        read = [question.text, *(passage.text for passage in question.passages)]
        return sum(self._vocabulary.count_tokens(read)), asked, [found[at] for at in sorted(best)]

    def _weigh_terms(self, question: str, found: Sequence[_Candidate]) -> _QuestionTerms:
        holding = Counter(word for candidate in found for word in set(candidate.stems))
        weights: dict[str, float] = {}
        for word in words(question):
            held = holding[stem(word)]
            idf = math.log(1 + (len(found) - held + 0.5) / (held + 0.5))
            weight = idf * (0.2 + self._vocabulary.rarity(word))
            weights[stem(word)] = max(weight, weights.get(stem(word), 0.0))
        total = sum(weights.values())
        return _QuestionTerms(
            weights={word: weight / total for word, weight in weights.items()},
            pairs=frozenset(pairwise(_stems(question))),
        )

    async def _rank(
        self, question: Question, asked: _QuestionTerms, found: Sequence[_Candidate]
    ) -> list[_Scored]:
        """Every candidate with its full score, best first."""
        if not found:
            return []
        texts = [question.text, *(candidate.text for candidate in found)]
        vectors = await self._embedder.embed(texts, Lane.INTERACTIVE)
        scored: list[_Scored] = []
        for candidate, vector in zip(found, vectors[1:], strict=True):
            support = asked.support(candidate) + float(vector @ vectors[0])
            # Rounded, so that near ties fall to reading order and not to the last bits of a cosine.
            score = round(support + asked.closeness(candidate), 4)
            scored.append(_Scored(candidate, support, score, vector))
        return sorted(scored, key=lambda one: -one.score)

    def _is_within(self, said: Sequence[str], max_tokens: int | None) -> bool:
        return max_tokens is None or sum(self._vocabulary.count_tokens(said)) <= max_tokens

    def _usage(self, input_tokens: int, said: Sequence[str]) -> Usage:
        written = sum(self._vocabulary.count_tokens(said))
        return Usage(input_tokens=input_tokens, output_tokens=written)


def _stems(text: str) -> list[str]:
    return [stem(word) for word in words(text)]


def _confidence(ranked: Sequence[_Scored]) -> float:
    """The chance that the passages are about the question, from the best support alone."""
    if not ranked:
        return 0.0
    best = round(max(one.support for one in ranked), 4)
    return 1 / (1 + math.exp(-_CONFIDENCE_SLOPE * (best - _CONFIDENCE_CENTRE)))


def _choose_quotes(ranked: Sequence[_Scored]) -> list[_Scored]:
    """At most `QUOTES_MAX`: each time the best that repeats least of what is chosen (MMR)."""
    chosen: list[_Scored] = []
    rest = [one for one in ranked if one.score >= _QUOTE_MIN_SHARE * ranked[0].score]

    def likeness(one: _Scored) -> float:
        return max((float(one.vector @ other.vector) for other in chosen), default=0.0)

    while rest and len(chosen) < QUOTES_MAX:
        chosen.append(max(rest, key=lambda one: one.score - _REPETITION_WEIGHT * likeness(one)))
        rest = [one for one in rest if likeness(one) < _SAME_LIKENESS]
    return chosen
