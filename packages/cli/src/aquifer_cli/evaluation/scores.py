"""Figures of a ranking: nDCG and recall by trec_eval, the reciprocal rank by that of MS MARCO."""

from collections.abc import Mapping, Sequence
from typing import Final

import ir_measures
from ir_measures import RR, R, nDCG

from aquifer_cli.evaluation.files import Judgments

DEPTH: Final = 100
MEASURES: Final = {
    "nDCG@10": nDCG @ 10,
    "Recall@10": R @ 10,
    "Recall@100": R @ DEPTH,
    "MRR@10": RR @ 10,
}


def score(ranked: Mapping[str, Sequence[str]], judged: Judgments) -> dict[str, dict[str, float]]:
    """Each figure of each question that was ranked and has a relevant document.

    Args:
        ranked: document ids by question id, best first.
        judged: the relevance of documents.

    Returns:
        By the name of the figure, values from 0 to 1 by question id.
    """
    counted = {
        question: dict(judged[question])
        for question in ranked
        if any(relevance > 0 for relevance in judged.get(question, {}).values())
    }
    # Ranks and not scores: the library would order documents of equal scores by their ids.
    run = {
        question: {document: float(-rank) for rank, document in enumerate(ranked[question])}
        for question in counted
    }
    names = {str(measure): name for name, measure in MEASURES.items()}
    values: dict[str, dict[str, float]] = {name: dict.fromkeys(counted, 0.0) for name in MEASURES}
    for one in ir_measures.iter_calc(list(MEASURES.values()), counted, run):
        values[names[str(one.measure)]][one.query_id] = float(one.value)
    return values
