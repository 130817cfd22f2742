"""Names made from paths and foreign ids: always allowed, never the same for two."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aquifer_cli import names
from aquifer_cli.errors import CommandError

PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
FILE_NAME = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(FILE_NAME, min_size=1, max_size=4).map("/".join)


def same_text(one: str, other: str) -> bool:
    return unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)


@given(PATHS)
@example("\udcff.txt")
@example("a" * 300)
@example("-._~")
@example("水.txt")
def test_every_path_becomes_an_allowed_id(path):
    assert PART.fullmatch(names.id_from_path(path))


@given(st.text(max_size=200))
@example("a/b")
@example("")
def test_every_foreign_id_becomes_an_allowed_id(foreign):
    assert PART.fullmatch(names.id_from_foreign(foreign))


@given(PATHS, PATHS)
@example("a/b", "a~b")
@example("a b", "a-b")
@example("Größe (1)", "Größe -1-")
@example("x" * 128, "x" * 129)
@example("a/b.txt", "a~~b.txt")
def test_two_paths_are_two_ids(one, other):
    if not same_text(one, other):
        assert names.id_from_path(one) != names.id_from_path(other)


@given(st.text(max_size=30), st.text(max_size=30))
@example("a b", names.id_from_foreign("a b"))
@example("a/b", "a~b")
def test_two_foreign_ids_are_two_ids(one, other):
    if not same_text(one, other):
        assert names.id_from_foreign(one) != names.id_from_foreign(other)


@given(PATHS)
def test_both_spellings_of_a_unicode_text_are_one_name(path):
    spellings = {unicodedata.normalize(form, path) for form in ("NFC", "NFD")}
    assert len({names.id_from_path(spelling) for spelling in spellings}) == 1
    assert len({names.id_from_foreign(spelling) for spelling in spellings}) == 1


@given(st.from_regex(PART, fullmatch=True).filter(lambda text: names.REWRITTEN not in text))
def test_an_id_that_is_allowed_stays_as_it_is(foreign):
    assert names.id_from_foreign(foreign) == foreign
    assert names.name_from_argument(foreign) == f"collections/default/documents/{foreign}"
    whole = names.document_name("papers", foreign)
    assert names.name_from_argument(whole) == whole
    assert names.document_id(whole) == foreign


@pytest.mark.parametrize(
    ("path", "readable"),
    [
        ("report.pdf", "report.pdf"),
        ("sub/deep/report.pdf", "sub~deep~report.pdf"),
        ("Überblick & mehr/Größe.txt", "Uberblick-mehr~Gro-e.txt~~"),
        ("-x/.y", "x~y~~"),
        ("水/火", "document~~"),
    ],
)
def test_what_can_be_read_of_a_path_stays(path, readable):
    made = names.id_from_path(path)
    assert made == readable if names.REWRITTEN not in readable else made.startswith(readable)


@pytest.mark.parametrize(
    "text", ["", "collections/a", "collections/a/documents/", "collections/a b/documents/c"]
)
def test_what_is_no_name_is_refused_before_it_is_sent(text):
    with pytest.raises(CommandError) as refusal:
        names.name_from_argument(text)
    assert (refusal.value.reason, refusal.value.exit_code) == ("DOCUMENT_NAME", 2)


@pytest.mark.parametrize(
    "path", ["minutes of may.txt", "sub/a b.txt", "水.txt", "x" * 129, "sub/a.txt"]
)
def test_a_file_is_addressed_by_the_path_it_was_sent_as(path):
    sent = names.document_name("papers", names.id_from_path(path))
    assert names.name_from_argument(path, "papers") == sent
    # Also by the id that a list shows, which holds what no path may.
    assert names.name_from_argument(names.document_id(sent), "papers") == sent
    assert names.name_from_argument(sent, "other") == sent


@pytest.mark.parametrize("text", ["", "a b", "-a", "x" * 129, "a/b"])
def test_what_is_no_collection_is_refused(text):
    with pytest.raises(CommandError) as refusal:
        names.check_collection(text)
    assert refusal.value.reason == "COLLECTION_NAME"
