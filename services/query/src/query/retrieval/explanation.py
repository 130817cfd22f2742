"""Explains the order of the candidates of a search."""

from collections.abc import Mapping

import numpy as np

from query.domain import Explained
from query.retrieval.fusion import Ranked, Scores, standardise_lists


def explain_ranking(ranked: Ranked, depth: int) -> Mapping[str, Explained]:
    """The explanation of each candidate, by point id.

    Args:
        ranked: the candidates of a search by meaning and words, or by words alone.
        depth: the maximum length of the lists of the search.
    """
    cosines, bm25s = np.array(ranked.cosines), np.array(ranked.bm25s)
    meaning, words = standardise_lists(cosines, bm25s, depth)
    if np.isnan(cosines).all():  # by words alone, where BM25 itself is the score
        words = np.nan_to_num(bm25s)
    neighbours = np.array(ranked.scores) - meaning - words
    columns = zip(
        ranked.point_ids,
        _count_ranks(cosines),
        _count_ranks(bm25s),
        meaning,
        words,
        neighbours,
        strict=True,
    )
    return {
        point_id: Explained(
            meaning_rank=meaning_rank,
            words_rank=words_rank,
            meaning=float(by_meaning),
            words=float(by_words),
            neighbours=float(lent),
            fused_rank=fused_rank,
        )
        for fused_rank, (
            point_id,
            meaning_rank,
            words_rank,
            by_meaning,
            by_words,
            lent,
        ) in enumerate(columns, start=1)
    }


def _count_ranks(scores: Scores) -> list[int]:
    """The rank of each row by its score, from 1; 0 for a row without one."""
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    ranks = np.empty(len(scores), dtype=int)
    ranks[order] = np.arange(1, len(scores) + 1)
    counted: list[int] = np.where(np.isnan(scores), 0, ranks).tolist()
    return counted
