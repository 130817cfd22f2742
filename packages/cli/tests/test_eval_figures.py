"""Figures of rankings and answers, their intervals, and what is said of two runs."""

import math

import pytest

from aquifer_cli.evaluation import report
from aquifer_cli.evaluation.figures import Measured, compare, estimate
from aquifer_cli.evaluation.intervals import (
    Difference,
    Judged,
    compare_aurocs,
    compare_means,
    estimate_auroc,
    estimate_mean,
)
from aquifer_cli.evaluation.retrieval import Rankings
from aquifer_cli.evaluation.scores import score


def test_figures_of_a_ranking_follow_their_definitions():
    others = [f"x{number}" for number in range(20)]
    ranked = {
        # Relevant at ranks 1, 3 and 12, of four.
        "q1": ["a", "x0", "b", *others[1:9], "c"],
        "q2": others,
        "q3": [],
        "unjudged": ["a"],
    }
    judged = {
        "q1": {"a": 1, "b": 2, "c": 1, "d": 1, "x0": 0, "x1": -1},
        "q2": {"x3": 1},
        "q3": {"a": 1},
        "unjudged": {"a": 0},
        "not asked": {"a": 1},
    }
    values = score(ranked, judged)
    best = 2 + 1 / math.log2(3) + 1 / math.log2(4) + 1 / math.log2(5)
    assert values["nDCG@10"] == pytest.approx(
        {"q1": (1 + 2 / math.log2(4)) / best, "q2": 1 / math.log2(5), "q3": 0}
    )
    assert values["Recall@10"] == pytest.approx({"q1": 0.5, "q2": 1, "q3": 0})
    assert values["Recall@100"] == pytest.approx({"q1": 0.75, "q2": 1, "q3": 0})
    assert values["MRR@10"] == pytest.approx({"q1": 1, "q2": 0.25, "q3": 0})


def test_a_relevant_document_below_rank_10_has_no_reciprocal_rank():
    ranked = {"q": [*(f"x{number}" for number in range(10)), "a"]}
    values = score(ranked, {"q": {"a": 1}})
    assert (values["MRR@10"]["q"], values["Recall@10"]["q"], values["Recall@100"]["q"]) == (0, 0, 1)


def test_the_order_of_a_ranking_is_kept():
    assert score({"q": ["a", "z"]}, {"q": {"a": 1}})["MRR@10"] == {"q": 1}
    assert score({"q": ["z", "a"]}, {"q": {"a": 1}})["MRR@10"] == {"q": 0.5}


def test_hits_are_counted():
    rankings = Rankings(ranked={"q1": ["a", "x"], "q2": [], "q3": ["x"]}, failures=())
    assert (rankings.count_empty(), rankings.count_foreign({"a"})) == (1, 2)


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    # Half ones: the standard error of 100 questions is 0.05.
    one = estimate_mean([0.0, 1.0] * 50)
    assert (one.value, one.questions) == (0.5, 100)
    assert one.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.012)
    assert one.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.012)
    assert one == estimate_mean([0.0, 1.0] * 50)


def test_of_two_questions_the_interval_covers_all_and_of_one_there_is_none():
    two = estimate_mean([0.0, 1.0])
    assert (two.low, two.value, two.high) == (0, 0.5, 1)
    one = estimate_mean([0.25])
    assert (one.low, one.value, one.high) == (None, 0.25, None)


def test_a_difference_is_paired_by_question():
    # Far apart by question, and each better by 0.1: unpaired intervals would hide it.
    theirs = {str(number): number / 50 for number in range(40)}
    ours = {question: value + 0.1 for question, value in theirs.items()} | {"more": 0.0}
    one = compare_means(ours, theirs)
    assert one is not None
    assert (one.value, one.low, one.high) == pytest.approx((0.1, 0.1, 0.1))
    assert (one.p, one.questions) == (pytest.approx(2 / 10_001), 40)


def test_equal_runs_have_a_p_of_one_and_runs_without_common_questions_no_difference():
    one = compare_means({"a": 1.0, "b": 0.5}, {"a": 1.0, "b": 0.5})
    assert one == Difference(value=0.0, low=0.0, high=0.0, p=1.0, questions=2)
    assert compare_means({"a": 1.0}, {"b": 1.0}) is None


def test_the_p_of_a_difference_is_the_share_of_resamples_beyond_zero():
    # The mean of -1 and 3 drawn twice is -1, 1, 1 or 3: a quarter is at most 0.
    one = compare_means({"a": 0.0, "b": 3.0}, {"a": 1.0, "b": 0.0})
    assert one is not None
    assert one.p == pytest.approx(0.5, abs=0.03)


def answered(above, below):
    pairs = [(value, True) for value in above] + [(value, False) for value in below]
    return {
        str(number): Judged(answerable=kind, confidence=value)
        for number, (value, kind) in enumerate(pairs)
    }


def test_auroc_counts_pairs_in_the_right_order_and_half_of_equal_ones():
    one = estimate_auroc(list(answered([0.9, 0.5], [0.5, 0.1]).values()))
    assert one is not None
    assert (one.value, one.questions) == (3.5 / 4, 4)
    assert one.low is not None
    assert one.high is not None
    assert one.low <= one.value <= one.high == 1
    certain = estimate_auroc(list(answered([0.9, 0.8], [0.5, 0.1]).values()))
    assert certain is not None
    assert (certain.low, certain.value, certain.high) == (1, 1, 1)
    assert estimate_auroc(list(answered([0.9], []).values())) is None


def test_aurocs_are_compared_over_the_same_questions():
    good = answered([0.6, 0.7, 0.8] * 10, [0.1, 0.2, 0.3] * 10)
    bad = answered([0.1, 0.2, 0.3] * 10, [0.6, 0.7, 0.8] * 10)
    one = compare_aurocs(good, bad)
    assert one is not None
    assert (one.value, one.low, one.high, one.questions) == (1, 1, 1, 60)
    assert compare_aurocs(good, good) == Difference(value=0, low=0, high=0, p=1, questions=60)
    assert compare_aurocs(good, answered([0.5], [])) is None


def test_a_figure_without_a_question_is_none():
    ours = Measured(means={"a": {"1": 1.0, "2": 0.0}, "b": {}}, has_auroc=True)
    figures = estimate(ours)
    assert list(figures) == ["a", "b", "abstention_auroc"]
    assert figures["b"] is figures["abstention_auroc"] is None
    assert compare(ours, ours)["b"] is None


@pytest.mark.parametrize(
    ("figure", "value", "low", "high", "said"),
    [
        ("nDCG@10", 0.02, 0.01, 0.03, "This run is better than a.json by nDCG@10"),
        ("nDCG@10", -0.02, -0.03, -0.01, "This run is worse than a.json by nDCG@10"),
        ("nDCG@10", 0.02, -0.01, 0.05, "No difference of nDCG@10 from a.json is shown"),
        ("nDCG@10", 0.0, 0.0, 0.0, "No difference of nDCG@10 from a.json is shown"),
        ("nDCG@10", 0.02, None, None, "Nothing can be told from one question"),
    ],
)
def test_the_verdict_follows_the_interval(figure, value, low, high, said):
    one = Difference(value=value, low=low, high=high, p=0.01, questions=9)
    assert report.decide(figure, one, "a.json").startswith(said)


def test_without_common_questions_nothing_is_decided():
    assert report.decide("nDCG@10", None, "a.json").startswith("Nothing can be told")
