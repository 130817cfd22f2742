"""Every file that a page names or links to exists, and so does the heading a link leads to."""

import re
from pathlib import Path

import pytest

from tests.contract.reasons import ROOT

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("deploy/*.md"),
        *ROOT.glob("services/*/*.md"),
    ]
)
LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
NAMED = re.compile(r"`((?:docs|deploy|packages|protos|services|tests|tools)/[^`\s]*)`")
PLACEHOLDER = re.compile(r"<\w+>")


def anchors(page: Path) -> set[str]:
    """The anchors that a viewer makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def broken(page: Path) -> list[str]:
    text, found = page.read_text(), []
    for link in LINK.finditer(text):
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        if not target.exists():
            found.append(link["path"])
        elif link["anchor"] and link["anchor"] not in anchors(target):
            found.append(f"{link['path']}#{link['anchor']}")
    # A name with a placeholder is right when at least one file fits it.
    named = [(name, PLACEHOLDER.sub("*", name).rstrip("/")) for name in NAMED.findall(text)]
    return found + [name for name, pattern in named if not any(ROOT.glob(pattern))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page):
    assert broken(page) == []


def test_there_are_pages():
    assert len(PAGES) > 20


def test_what_does_not_exist_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One heading\n[a](gone.md) [b](#one-heading) [c](#none) `docs/gone.md` `docs/events.md`"
        " `services/<name>/README.md` `services/<name>/gone.md` [web](https://example.org/gone)\n"
    )
    assert broken(page) == ["gone.md", "#none", "docs/gone.md", "services/<name>/gone.md"]
