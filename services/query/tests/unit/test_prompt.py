"""Templates are text with a closed set of placeholders; names mean a prompt or a version of it."""

import pytest

from chassis.base.errors import FailedPreconditionError, InvalidInputError, NotFoundError
from query.prompt import (
    DEFAULT,
    DESCRIPTION_MAX_CHARS,
    PLACEHOLDERS,
    TEMPLATE_MAX_CHARS,
    Content,
    Reference,
    fill,
    is_reference,
    read_new_id,
    read_own_id,
    read_reference,
)

VALUES = {"today": "2026-07-29", "refusal": "No answer: {today}."}


def test_placeholders_are_filled_once_and_double_braces_are_braces():
    filled = fill("On {today} say {{{refusal}}}, {{today}} and }}{{.", VALUES)
    assert filled == "On 2026-07-29 say {No answer: {today}.}, {today} and }{."
    assert set(VALUES) == set(PLACEHOLDERS)


@pytest.mark.parametrize(
    ("template", "position"),
    [
        ("a {question}", 3),
        ("{passages}", 1),
        ("{}", 1),
        ("{today", 1),
        ("today}", 6),
        ("{today!r}", 1),
        ("{today.__class__}", 1),
        ("{ today }", 1),
        ("ok {{ }", 7),
        ("{{today}", 8),
        ("{TODAY}", 1),
    ],
)
def test_anything_else_in_braces_is_refused_where_it_stands(template, position):
    with pytest.raises(InvalidInputError) as refused:
        Content(template=template)
    assert refused.value.reason == "PROMPT_INVALID"
    assert refused.value.facts == {"position": str(position)}


@pytest.mark.parametrize(
    ("template", "description"),
    [
        ("", ""),
        (" \n", ""),
        ("x" * (TEMPLATE_MAX_CHARS + 1), ""),
        ("a\0b", ""),
        ("x", "a\0b"),
        ("x", "y" * (DESCRIPTION_MAX_CHARS + 1)),
    ],
)
def test_content_has_bounds(template, description):
    with pytest.raises(InvalidInputError) as refused:
        Content(template=template, description=description)
    assert refused.value.reason == "PROMPT_INVALID"


def test_content_at_its_bounds_is_accepted():
    assert Content(template="x" * TEMPLATE_MAX_CHARS, description="y" * DESCRIPTION_MAX_CHARS)


def test_names_mean_a_prompt_or_a_version_of_it():
    assert read_reference("prompts/support") == Reference(prompt_id="support")
    assert read_reference("prompts/a.b~C-1@12") == Reference(prompt_id="a.b~C-1", version=12)
    assert read_reference("") == Reference(prompt_id=DEFAULT.prompt_id)
    assert read_reference(DEFAULT.name) == Reference(prompt_id="default", version=1)


@pytest.mark.parametrize(
    "name",
    [
        "support",
        "prompts/",
        "prompts/-a",
        "prompts/a@0",
        "prompts/a@01",
        "prompts/a@",
        "prompts/a@1@2",
        "prompts/a@9999999999999999999",
        "prompts/a@\u0663",
        "prompts/a/b",
        "prompts/a\n",
    ],
)
def test_what_is_no_name_is_no_prompt(name):
    assert not is_reference(name)
    with pytest.raises(NotFoundError) as unknown:
        read_reference(name)
    assert unknown.value.reason == "PROMPT_UNKNOWN"


def test_only_own_prompts_without_a_version_are_changed():
    assert read_own_id("prompts/a") == read_new_id("prompts/a") == "a"
    for read in (read_own_id, read_new_id):
        with pytest.raises(FailedPreconditionError) as refused:
            read("prompts/default")
        assert refused.value.reason == "PROMPT_BUILT_IN"
    with pytest.raises(NotFoundError):
        read_own_id("prompts/a@1")
    with pytest.raises(InvalidInputError) as invalid:
        read_new_id("prompts/a@1")
    assert invalid.value.reason == "PROMPT_NAME"
