"""Answers questions with verbatim sentences of the passages, or refuses."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Protocol

from typing_extensions import override

from chassis.base.errors import InvalidInputError
from inference.domain import (
    QUESTION_MAX_CHARS,
    Capability,
    InputType,
    Lane,
    ModelCard,
    ModelKind,
)
from inference.engines.sentences import Sentence, sentences, stem, words
from inference.generation import (
    CitationMark,
    Finish,
    FinishReason,
    Generation,
    Passage,
    Step,
    TextDelta,
    Usage,
)
from inference.ports import Embedder, Generator, Matrix, Reranker, TokenCounter

LEAD_IN = "The documents say:"
REFUSAL = "The documents given do not answer this question."

QUOTES_MAX = 5
# Embedding is most of the cost of an answer; the words select the sentences to embed.
EMBEDDED_MAX = 64
# Sentences of each text that are embedded to score it.
RERANKED_EACH = 2

_OVERLAP_WEIGHT = 0.8
# The weight of a word that only the heading of a sentence contains.
_HEADING_SHARE = 0.75
_RANK_WEIGHT = 0.15
# A sentence is quoted if it reaches this share of the best score and does not repeat a quote. One
# quote of each passage, with the good sentences next to it, has the answer more often than the best
# sentences of all (SQuAD 2.0: 0.92 against 0.90).
_QUOTE_MIN_SHARE = 0.6
_SAME_LIKENESS = 0.95

# Logistic fit of the best support on answerable questions against questions about other collections
# (SQuAD 2.0, Cranfield, CACM, CISI; 1 to 20 passages). Refusing below 0.35 answers 98 % of the
# former and refuses 95 % of the latter.
_CONFIDENCE_SLOPE = 19.0
_CONFIDENCE_CENTRE = 0.75
CONFIDENCE_MIN = 0.35


class Vocabulary(Protocol):
    """The word statistics of a tokenizer."""

    def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """The number of tokens of every text."""

    def rarity(self, word: str) -> float:
        """0 for the most common words to 1 for words not in the vocabulary."""


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A sentence, its word stems in order, and the stems of the headings above it.

    `rank` is the number of its passage, `place` what counts of it for the score.
    """

    passage: Passage
    rank: int
    place: int
    span: Sentence
    stems: Sequence[str]
    heading: frozenset[str]

    @property
    def text(self) -> str:
        return self.passage.text[self.span.start : self.span.end]


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """`support` shows if the passages are about the question, `score` which sentence is best."""

    candidate: _Candidate
    support: float
    score: float
    vector: Matrix


@dataclass(frozen=True, slots=True)
class _Quote:
    """Adjacent sentences of a passage: characters `start` to `end` of its text."""

    rank: int
    start: int
    end: int
    text: str

    def holds(self, candidate: _Candidate) -> bool:
        """Whether it contains a sentence of its passage."""
        return self.start <= candidate.span.start and candidate.span.end <= self.end


@dataclass(frozen=True, slots=True)
class _QuestionTerms:
    """The weights of the stems of a question, 1 in sum, and its pairs of adjacent stems."""

    weights: Mapping[str, float]
    pairs: frozenset[tuple[str, str]]

    def support(self, candidate: _Candidate) -> float:
        """The score of a sentence by its words and the rank of its passage, without its vector."""
        held = frozenset(candidate.stems)
        own = sum(weight for word, weight in self.weights.items() if word in held)
        lent = sum(self.weights.get(word, 0.0) for word in candidate.heading - held)
        words_held = own + _HEADING_SHARE * lent
        return _OVERLAP_WEIGHT * words_held + _RANK_WEIGHT / (1 + candidate.place)

    def closeness(self, candidate: _Candidate) -> float:
        """A bonus for words that are adjacent in the sentence and in the question (`stage two`)."""
        shared = self.pairs.intersection(pairwise(candidate.stems))
        return _OVERLAP_WEIGHT * sum(min(map(self.weights.__getitem__, pair)) for pair in shared)


class Extractive(Generator, Reranker, TokenCounter):
    """Scores every sentence of the passages and quotes the best ones, or refuses.

    The support of a sentence combines its cosine to the question, the words of the question it
    contains (rare words count more, words of its headings less), and a little of the rank of its
    passage. The score adds a bonus for words that are also adjacent in the question. The best
    sentence is quoted first, then those of other passages with a similar score, each together with
    the good sentences next to it. The same question and passages always give the same answer.
    The question is the last message of the user; other messages, stop texts and sampling change
    nothing.
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
            description="quotes the best sentences; does not write, calculate or translate",
            capabilities=frozenset(
                {
                    Capability.GENERATE,
                    Capability.QUOTES,
                    Capability.RERANK,
                    Capability.COUNT_TOKENS,
                }
            ),
        )

    @override
    async def generate(self, request: Generation) -> AsyncGenerator[Step, None]:
        question, passages = request.question, request.passages
        _check_question(question)
        input_tokens, asked, found = await asyncio.to_thread(self._read, question, passages)
        ranked = await self._rank(question, asked, found)
        support = _confidence(ranked)
        if support < CONFIDENCE_MIN:
            yield TextDelta(REFUSAL)
            usage = self._usage(input_tokens, [REFUSAL])
            yield Finish(reason=FinishReason.NO_ANSWER, usage=usage, support=support)
            return
        said = [LEAD_IN]
        reason = FinishReason.STOP
        yield TextDelta(LEAD_IN)
        for number, (sentence, wide) in enumerate(self._choose_quotes(ranked), start=1):
            quote = wide
            if not self._is_within([*said, wide.text], request.max_output_tokens):
                quote, reason = sentence, FinishReason.LENGTH
            if not self._is_within([*said, quote.text], request.max_output_tokens):
                break
            said.append(quote.text)
            marker = f"[{number}]"
            yield TextDelta(f"\n{quote.text} {marker}")
            yield CitationMark(passage=quote.rank, marker=marker, span=(quote.start, quote.end))
            if reason is FinishReason.LENGTH:
                break
        usage = self._usage(input_tokens, said)
        yield Finish(reason=reason, usage=usage, support=support)

    @override
    async def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        """The support of each text by its best sentence; the order of the texts does not count."""
        passages = [Passage(text=text) for text in texts]
        _, asked, found = await asyncio.to_thread(self._read, question, passages, RERANKED_EACH)
        unordered = [replace(one, place=0) for one in found]
        best = [0.0] * len(texts)
        for one in await self._rank(question, asked, unordered):
            rank = one.candidate.rank
            best[rank] = max(best[rank], one.support)
        return best

    @override
    async def count(self, texts: Sequence[str]) -> Sequence[int]:
        return await asyncio.to_thread(self._vocabulary.count_tokens, texts)

    def _read(
        self, question: str, passages: Sequence[Passage], embedded_each: int = 0
    ) -> tuple[int, _QuestionTerms, list[_Candidate]]:
        """The number of input tokens, the terms of the question, and the sentences to embed.

        These are the best of all; with `embedded_each`, so many of each passage.
        """
        found = [
            _Candidate(
                passage,
                rank,
                rank,
                span,
                _stems(passage.text[span.start : span.end]),
                frozenset(_stems(passage.text[slice(*span.heading)])),
            )
            for rank, passage in enumerate(passages)
            for span in sentences(passage.text)
        ]
        asked = self._weigh_terms(question, found)
        support = [asked.support(candidate) for candidate in found]
        ordered = sorted(range(len(found)), key=lambda at: (-support[at], at))
        if embedded_each:
            seen: Counter[int] = Counter()
            best = []
            for at in ordered:
                seen[found[at].rank] += 1
                best += [at] if seen[found[at].rank] <= embedded_each else []
        else:
            best = ordered[:EMBEDDED_MAX]
        read = [question, *(passage.text for passage in passages)]
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
        self, question: str, asked: _QuestionTerms, found: Sequence[_Candidate]
    ) -> list[_Scored]:
        """All candidates with their scores, best first."""
        if not found:
            return []
        embed = partial(self._embedder.embed, lane=Lane.INTERACTIVE)
        [asked_vector], vectors = await asyncio.gather(
            embed([question], input_type=InputType.QUESTION),
            embed([candidate.text for candidate in found], input_type=InputType.PASSAGE),
        )
        scored: list[_Scored] = []
        for candidate, vector in zip(found, vectors, strict=True):
            support = asked.support(candidate) + self._likeness(asked_vector, vector)
            # Rounded, so that the reading order decides near ties, not the last bits of a cosine.
            score = round(support + asked.closeness(candidate), 4)
            scored.append(_Scored(candidate, support, score, vector))
        return sorted(scored, key=lambda one: -one.score)

    def _likeness(self, one: Matrix, other: Matrix) -> float:
        """The cosine, counted from the floor of the profile, so that embedders are comparable."""
        floor = self._embedder.profile.cosine_floor
        return (float(one @ other) - floor) / (1 - floor)

    def _choose_quotes(self, ranked: Sequence[_Scored]) -> list[tuple[_Quote, _Quote]]:
        """The best sentence of each passage that has a good one, alone and with those around it.

        The best comes first. A sentence that repeats a quoted one is left out: passages overlap.
        """
        good = [one for one in ranked if one.score >= _QUOTE_MIN_SHARE * ranked[0].score]
        chosen: dict[int, tuple[_Quote, _Quote]] = {}
        quoted: list[_Scored] = []
        for one in good:
            rank = one.candidate.rank
            if rank in chosen or len(chosen) == QUOTES_MAX or self._repeats(one, quoted):
                continue
            fresh = [
                other
                for other in good
                if other.candidate.rank == rank and not self._repeats(other, quoted)
            ]
            alone = _quote(one.candidate, [])
            wide = _quote(one.candidate, [other.candidate for other in fresh])
            chosen[rank] = (alone, wide)
            quoted += [other for other in fresh if wide.holds(other.candidate)]
        return list(chosen.values())

    def _repeats(self, one: _Scored, quoted: Sequence[_Scored]) -> bool:
        return any(self._likeness(one.vector, other.vector) >= _SAME_LIKENESS for other in quoted)

    def _is_within(self, said: Sequence[str], max_tokens: int) -> bool:
        return sum(self._vocabulary.count_tokens(said)) <= max_tokens

    def _usage(self, input_tokens: int, said: Sequence[str]) -> Usage:
        written = sum(self._vocabulary.count_tokens(said))
        return Usage(input_tokens=input_tokens, output_tokens=written)


def _quote(best: _Candidate, good: Sequence[_Candidate]) -> _Quote:
    """The sentence with the good ones around it that follow each other within its paragraph."""
    text, start, end = best.passage.text, best.span.start, best.span.end
    around = sorted((one.span for one in good), key=lambda one: one.start)
    for span in around:
        if span.start >= end and _adjoins(text[end : span.start]):
            end = span.end
    for span in reversed(around):
        if span.end <= start and _adjoins(text[span.end : start]):
            start = span.start
    return _Quote(rank=best.rank, start=start, end=end, text=text[start:end])


def _adjoins(gap: str) -> bool:
    """Whether the text between two sentences ends no paragraph."""
    return not gap.strip() and gap.count("\n") <= 1


def _check_question(question: str) -> None:
    if not question.strip():
        raise InvalidInputError(
            "MESSAGES_INVALID", "this model needs a question in the last message of the user"
        )
    if len(question) > QUESTION_MAX_CHARS:
        raise InvalidInputError(
            "PROMPT_TOO_LONG",
            f"this model takes questions of at most {QUESTION_MAX_CHARS} characters",
            max_chars=QUESTION_MAX_CHARS,
        )


def _stems(text: str) -> list[str]:
    return [stem(word) for word in words(text)]


def _confidence(ranked: Sequence[_Scored]) -> float:
    """The probability that the passages are about the question, from the best support."""
    if not ranked:
        return 0.0
    best = round(max(one.support for one in ranked), 4)
    return 1 / (1 + math.exp(-_CONFIDENCE_SLOPE * (best - _CONFIDENCE_CENTRE)))
