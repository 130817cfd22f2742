"""Chunks cover the text, keep their bounds and fall between sentences."""
# ruff: noqa: RUF001 (text of many scripts is the subject)

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.chunking import Chunk, ChunkSettings, chunk
from ingest.outline import NO_OUTLINE, Outline

from .growth import assert_linear


@dataclass(frozen=True)
class Page:
    number: int
    start_char: int


@dataclass(frozen=True)
class Document:
    text: str
    pages: tuple[Page, ...] = ()
    outline: Outline = NO_OUTLINE


SETTINGS = ChunkSettings()
SENTENCES = (
    "The boundary layer separates behind the shock.",
    "Does the transition depend on the Reynolds number?",
    "Results agree with theory (see Fig. 3) within two per cent.",
    "Dr. Smith, e.g. in the U.S. report, disagrees!",
)


def prose(characters: int, seed: int = 7) -> str:
    choose = random.Random(seed)
    paragraphs, size = [], 0
    while size < characters:
        paragraph = " ".join(choose.choice(SENTENCES) for _ in range(choose.randint(2, 9)))
        paragraphs.append(paragraph)
        size += len(paragraph) + 2
    return "\n\n".join(paragraphs)


def check(text: str, chunks: list[Chunk], settings: ChunkSettings) -> None:
    assert [one.ordinal for one in chunks] == list(range(len(chunks)))
    reached = 0
    for one in chunks:
        assert one.start >= reached
        assert one.gap == text[reached : one.start]
        assert not one.gap.strip()
        assert one.text == text[one.start : one.end]
        assert one.text.strip()
        assert one.text == one.text.rstrip()
        indentation = one.text[: -len(one.text.lstrip())]
        assert not indentation or text[one.start - 1 : one.start] in ("", "\n")
        assert "\n" not in indentation
        assert len(one.text) <= settings.max_chars
        reached = one.end
    assert not text[reached:].strip()


ALPHABET = st.sampled_from(
    [
        *'abcXYZ019.,;!?()"-|',
        " ",
        " ",
        "\n",
        "\n\n",
        "\t",
        "。",
        "！",
        "é",
        "👩",
        "et al. ",
        "Fig. ",
    ]
)


@given(
    st.lists(ALPHABET, max_size=600).map("".join),
    st.integers(1, 120).flatmap(lambda most: st.tuples(st.integers(1, most), st.just(most))),
)
def test_chunks_cover_the_text_in_order_and_within_bounds(text, sizes):
    settings = ChunkSettings(target_chars=sizes[0], max_chars=sizes[1])
    chunks = chunk(Document(text), settings)
    check(text, list(chunks), settings)
    assert list(chunks) == list(chunk(Document(text), settings))


@given(st.text(max_size=5_000))
def test_any_text_is_covered_at_the_default_sizes(text):
    check(text, list(chunk(Document(text), SETTINGS)), SETTINGS)


@pytest.mark.parametrize("text", ["", "   ", "\n\n\n"])
def test_text_of_blanks_has_no_chunks(text):
    assert list(chunk(Document(text), SETTINGS)) == []


@pytest.mark.parametrize("size", [1, 900, 1_000, 1_200])
def test_abstract_stays_whole(size):
    text = prose(size)[:size].strip()
    assert [one.text for one in chunk(Document(text), SETTINGS)] == [text]


def test_prose_is_cut_between_sentences_near_the_target():
    text = prose(200_000)
    chunks = chunk(Document(text), SETTINGS)
    check(text, list(chunks), SETTINGS)
    assert all(one.text.endswith((".", "?", "!")) for one in chunks)
    assert all(one.text.startswith(tuple(sentence[:9] for sentence in SENTENCES)) for one in chunks)
    lengths = [len(one.text) for one in chunks]
    assert 900 <= sum(lengths) / len(lengths) <= 1_100
    assert min(lengths) > 400


def test_no_crumb_is_left_for_the_last_chunk():
    for size in range(1_201, 4_000, 61):
        text = prose(size, seed=size)
        assert min(len(one.text) for one in chunk(Document(text), SETTINGS)) > 300


def test_heading_stays_with_what_it_heads():
    body = ("A sentence of the body that is long enough to count. " * 17).strip()
    text = f"{body}\n\nResults and discussion\n\n{body}\n\nConclusion\n\n{body}"
    chunks = chunk(Document(text), SETTINGS)
    assert not any(one.text.endswith(("Results and discussion", "Conclusion")) for one in chunks)
    assert any(one.text.startswith("Results and discussion\n") for one in chunks)


def test_chunk_carries_the_page_it_begins_on():
    first, second, third = (prose(size, seed=size) for size in (800, 2_500, 700))
    text = f"{first}\n\n{second}\n\n{third}"
    starts = (0, len(first) + 2, len(first) + len(second) + 4)
    pages = tuple(Page(number, start) for number, start in zip((1, 2, 4), starts, strict=True))
    for one in chunk(Document(text, pages), SETTINGS):
        assert (
            one.page
            == max(
                (page for page in pages if page.start_char <= one.start),
                key=lambda page: page.number,
            ).number
        )
        inside = [page for page in pages if one.start < page.start_char < one.end]
        assert one.page_breaks == tuple((page.start_char, page.number) for page in inside)
    assert {(one.page, one.page_breaks) for one in chunk(Document(text), SETTINGS)} == {(None, ())}


def test_chunk_knows_every_page_that_begins_in_it():
    pages = (Page(1, 0), Page(2, 6), Page(5, 12))
    [one] = chunk(Document("first\nsecond\nfifth", pages), SETTINGS)
    assert (one.page, one.page_breaks) == (1, ((6, 2), (12, 5)))


@pytest.mark.parametrize(
    "text_of",
    [
        prose,
        lambda size: "a" * size,
        lambda size: "a " * (size // 2),
        lambda size: "a\n" * (size // 2),
        lambda size: "." * size,
        lambda size: "!" + ")" * size,
        lambda size: "a" + " " * size + "b",
        lambda size: ("a" * 700 + "\n \n" * 2_000) * (size // 6_700),
        lambda size: "这是一个中文文档。" * (size // 9),
    ],
    ids=["prose", "letters", "words", "lines", "stops", "brackets", "blanks", "breaks", "chinese"],
)
def test_three_megabytes_are_chunked_in_linear_time(text_of):
    def work(text: str) -> None:
        chunks = chunk(Document(text), SETTINGS)
        assert max(len(one.text) for one in chunks) <= SETTINGS.max_chars

    assert_linear(work, text_of, 3_000_000)


def test_first_line_of_a_chunk_keeps_its_indentation():
    code = "def main():\n" + "".join(f"        x{n} = call(a, {n})\n" for n in range(200))
    for one in list(chunk(Document(code), SETTINGS))[1:]:
        assert one.text.startswith("        x")
    prose_of_verses = "".join(f"    Verse number {n}, that ends here.\n\n" for n in range(200))
    for one in chunk(Document(prose_of_verses), SETTINGS):
        assert one.text.startswith("    Verse")


@pytest.mark.parametrize(
    "sign",
    ["👨\u200d👩\u200d👧\u200d👦", "🇩🇪", "👍🏽", "e\u0316\u0301\u0323", "각", "กำ"],
    ids=["family", "flag", "tone", "marks", "jamo", "thai"],
)
def test_no_chunk_begins_or_ends_inside_a_sign(sign):
    text = sign * 1_500
    chunks = chunk(Document(text), SETTINGS)
    check(text, list(chunks), SETTINGS)
    assert {len(one.text) % len(sign) for one in chunks} == {0}


@pytest.mark.parametrize(
    ("sentence", "least", "most"),
    [
        ("这是一个关于水泵的中文文档。", 250, 400),
        ("これはポンプについての文書です。", 250, 400),
        ("ปั๊มน้ำมีการรับประกันสามปี", 250, 400),
        ("Это документ о насосах. ", 700, 1_200),
        ("이것은 펌프에 관한 문서입니다. ", 700, 1_200),
    ],
)
def test_text_without_blanks_between_words_has_smaller_chunks(sentence, least, most):
    text = (sentence * 400).strip()
    chunks = chunk(Document(text), SETTINGS)
    check(text, list(chunks), SETTINGS)
    assert least <= min(len(one.text) for one in chunks)
    assert max(len(one.text) for one in chunks) <= most


def test_only_the_dense_part_of_a_mixed_text_has_smaller_chunks():
    english, chinese = prose(20_000), "这是一个关于水泵的中文文档。" * 300
    lengths = [len(one.text) for one in chunk(Document(f"{english}\n\n{chinese}"), SETTINGS)]
    assert min(lengths[:15]) > 700
    assert max(lengths[-8:]) <= 400


def test_settings_have_a_stable_key():
    assert ChunkSettings().key == "c3-1000-1200"
    assert ChunkSettings(target_chars=500, max_chars=700).key == "c3-500-700"


@pytest.mark.parametrize(("target", "most"), [(0, 10), (11, 10), (-1, 10)])
def test_settings_that_make_no_sense_are_refused(target, most):
    with pytest.raises(ValueError, match="target_chars"):
        ChunkSettings(target_chars=target, max_chars=most)
