"""Shows what a search has found, and how its order came about."""

from collections.abc import Mapping

from aquifer.query.v1 import query_service_pb2 as pb
from aquifer_cli.ask import line_json, passage_json
from aquifer_cli.layout import Row, cut
from aquifer_cli.screen import Screen

PREVIEW_CHARS = 300
NEIGHBOUR_CHARS = 150
COPIES_SHOWN = 3
TERMS_SHOWN = 20


def show_response(screen: Screen, response: pb.SearchResponse) -> None:
    """The hits, best first, what is to know about all of them, and the explanation."""
    for rank, hit in enumerate(response.hits, 1):
        if screen.machine:
            screen.record(hit_json(rank, hit))
        else:
            _show_hit(screen, rank, hit)
    if not response.hits:
        screen.say("nothing found")
    if response.ranking == pb.RANKING_WORDS:
        screen.note("ranked by words alone: the embedding model does not know this script")
    if response.words_outdated:
        screen.note("after an update, words are being indexed again: some may miss passages")
    if response.HasField("explanation"):
        _show_explanation(screen, response)


def hit_json(rank: int, hit: pb.Hit) -> Mapping[str, object]:
    """A hit for machines."""
    return {
        "rank": rank,
        "score": hit.score,
        "cosine": hit.cosine if hit.HasField("cosine") else None,
        "bm25": hit.bm25 if hit.HasField("bm25") else None,
        "rerank_score": hit.rerank_score if hit.HasField("rerank_score") else None,
        "copy_count": hit.copy_count,
        "copies": [
            {"document": copy.document, "version": copy.version, "chunk_id": copy.chunk_id}
            for copy in hit.copies
        ],
        **passage_json(hit.passage),
        "lines": list(map(line_json, hit.lines)),
        "before": list(map(passage_json, hit.before)),
        "after": list(map(passage_json, hit.after)),
        "explanation": _explained_json(hit.explanation) if hit.HasField("explanation") else None,
    }


def explanation_json(explanation: pb.SearchExplanation) -> Mapping[str, object]:
    """The explanation of a search for machines; that of each hit is with the hit."""
    return {
        "profile": explanation.profile,
        "terms": {one.term: one.weight for one in explanation.terms},
        "stages": [
            {
                "name": one.name,
                "milliseconds": one.milliseconds,
                "passages": one.passages if one.HasField("passages") else None,
            }
            for one in explanation.stages
        ],
    }


def _explained_json(explained: pb.HitExplanation) -> Mapping[str, object]:
    return {
        "meaning_rank": explained.meaning_rank,
        "words_rank": explained.words_rank,
        "meaning": explained.meaning,
        "words": explained.words,
        "neighbours": explained.neighbours,
        "fused_rank": explained.fused_rank,
    }


def _show_hit(screen: Screen, rank: int, hit: pb.Hit) -> None:
    """The position of a passage, its beginning, its neighbours, and the documents with copies."""
    passage = hit.passage
    page = f", page {passage.page}" if passage.page else ""
    where = f"{passage.document} v{passage.version}{page}"
    screen.say(f"{rank:>2}. {where}  {hit.score:.3f}", style="bold")
    for before in hit.before:
        screen.fill(_preview(before, NEIGHBOUR_CHARS), "    ", style="dim")
    screen.fill(_preview(passage, PREVIEW_CHARS), "    ")
    for after in hit.after:
        screen.fill(_preview(after, NEIGHBOUR_CHARS), "    ", style="dim")
    for copy in hit.copies[:COPIES_SHOWN]:
        screen.say(f"    the same: {copy.document} v{copy.version}")
    if hit.copy_count > COPIES_SHOWN:
        screen.say(f"    and {hit.copy_count - COPIES_SHOWN:,} more")


def _preview(passage: pb.Passage, chars: int) -> str:
    text = " ".join(passage.text.split())
    return cut(text[:chars], None) + (" …" if len(text) > chars else "")


def _show_explanation(screen: Screen, response: pb.SearchResponse) -> None:
    explanation = response.explanation
    if screen.machine:
        screen.record({"explanation": explanation_json(explanation)})
        return
    screen.say()
    screen.table(
        ["hit", "score", "meaning", "rank", "words", "rank", "neighbours", "reranked"],
        [_explain_hit(rank, hit) for rank, hit in enumerate(response.hits, 1)],
    )
    screen.say()
    screen.table(
        ["stage", "ms", "passages"],
        [
            Row(
                cells=(
                    one.name,
                    f"{one.milliseconds:.1f}",
                    one.passages if one.HasField("passages") else "",
                )
            )
            for one in explanation.stages
        ],
    )
    shown = ", ".join(f"{one.term} {one.weight:.2f}" for one in explanation.terms[:TERMS_SHOWN])
    screen.say()
    screen.fill(f"terms of the question: {shown or 'none'}", "  ")
    screen.say(f"embedding profile: {explanation.profile}")


def _explain_hit(rank: int, hit: pb.Hit) -> Row:
    if not hit.HasField("explanation"):
        return Row(cells=(rank, f"{hit.score:.3f}", "", "", "", "", "", ""))
    explained = hit.explanation
    reranked = f"{hit.rerank_score:.3f}" if hit.HasField("rerank_score") else ""
    return Row(
        cells=(
            rank,
            f"{hit.score:.3f}",
            f"{explained.meaning:+.2f}",
            explained.meaning_rank or "-",
            f"{explained.words:+.2f}",
            explained.words_rank or "-",
            f"{explained.neighbours:+.2f}",
            reranked,
        )
    )
