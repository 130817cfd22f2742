"""Prompts: what a tenant tells models that write, its versions, and the rules of both."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chassis.base.errors import (
    FailedPreconditionError,
    FieldViolation,
    InvalidInputError,
    NotFoundError,
)
from query.names import RESOURCE_ID

TEMPLATE_MAX_CHARS: Final = 8_000
DESCRIPTION_MAX_CHARS: Final = 1_000
PROMPTS_MAX: Final = 1_000
# Ids of deleted prompts included, whose numbers are kept.
IDS_MAX: Final = 10_000
VERSIONS_MAX: Final = 1_000
PLACEHOLDERS: Final = ("today", "refusal")

_NAME: Final = re.compile(f"prompts/({RESOURCE_ID})")
_REFERENCE: Final = re.compile(rf"{_NAME.pattern}(?:@([1-9]\d{{0,17}}))?", re.ASCII)
_BRACES: Final = re.compile(r"\{\{|\}\}|\{([a-z]*)\}|[{}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A prompt as it is named for use; version 0 is the newest one."""

    prompt_id: str
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a version of a prompt says, and what it is for.

    Raises:
        InvalidInputError: PROMPT_INVALID.
    """

    template: str
    description: str = ""

    def __post_init__(self) -> None:
        if not self.template.strip() or len(self.template) > TEMPLATE_MAX_CHARS:
            raise _invalid_error(
                "template", f"1 to {TEMPLATE_MAX_CHARS} characters, not only white space"
            )
        if len(self.description) > DESCRIPTION_MAX_CHARS:
            raise _invalid_error("description", f"at most {DESCRIPTION_MAX_CHARS} characters")
        if "\x00" in self.template + self.description:
            raise _invalid_error("template", "no NUL, neither here nor in the description")
        _check_braces(self.template)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptVersion:
    """A version of a prompt; a built-in one has neither creator nor time."""

    prompt_id: str
    version: int
    content: Content
    creator: str = ""
    created_at: datetime | None = None

    @property
    def name(self) -> str:
        """The resource name with the version."""
        return f"{make_name(self.prompt_id)}@{self.version}"


def make_name(prompt_id: str) -> str:
    """The resource name, without a version."""
    return f"prompts/{prompt_id}"


def read_new_id(name: str) -> str:
    """The id in the resource name of a prompt that is to be created.

    Raises:
        InvalidInputError: PROMPT_NAME.
        FailedPreconditionError: PROMPT_BUILT_IN.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise InvalidInputError(
            "PROMPT_NAME",
            "use a name of the form prompts/{prompt}",
            fields=[FieldViolation("prompt.name", _NAME.pattern)],
        )
    return _refuse_built_in(found[1])


def read_own_id(name: str) -> str:
    """The id in the resource name of a prompt that is to be changed; it has no version.

    Raises:
        NotFoundError: PROMPT_UNKNOWN.
        FailedPreconditionError: PROMPT_BUILT_IN.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise unknown_prompt_error()
    return _refuse_built_in(found[1])


def read_reference(name: str) -> Reference:
    """The prompt that a resource name means, with or without a version; empty: the built-in one.

    Raises:
        NotFoundError: PROMPT_UNKNOWN, also for what is no such name.
    """
    if not name:
        return Reference(prompt_id=DEFAULT.prompt_id)
    found = _REFERENCE.fullmatch(name)
    if found is None:
        raise unknown_prompt_error()
    return Reference(prompt_id=found[1], version=int(found[2] or 0))


def is_reference(name: str) -> bool:
    """Whether a text may name a prompt."""
    return not name or _REFERENCE.fullmatch(name) is not None


def fill(template: str, values: Mapping[str, str]) -> str:
    """A template with values in its placeholders; what is in a value is never replaced."""

    def replace(found: re.Match[str]) -> str:
        return found[0][0] if found[1] is None else values[found[1]]

    return _BRACES.sub(replace, template)


def unknown_prompt_error() -> NotFoundError:
    """The same error for what never existed, was deleted, or belongs to another tenant."""
    return NotFoundError(
        "PROMPT_UNKNOWN",
        "the tenant has no prompt, or no version of it, with this name; name another one, or none"
        " for the built-in prompt",
    )


def _refuse_built_in(prompt_id: str) -> str:
    if prompt_id == DEFAULT.prompt_id:
        raise FailedPreconditionError(
            "PROMPT_BUILT_IN", "this prompt is part of the software; create one with another id"
        )
    return prompt_id


def _check_braces(template: str) -> None:
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    for found in _BRACES.finditer(template):
        if found[0] in ("{", "}") or (found[1] is not None and found[1] not in PLACEHOLDERS):
            position = found.start() + 1
            raise _invalid_error(
                "template",
                f"at character {position}: there are {known}, and {{{{ or }}}} for a brace",
                position=position,
            )


def _invalid_error(field: str, wanted: str, **facts: object) -> InvalidInputError:
    return InvalidInputError(
        "PROMPT_INVALID",
        f"{field} of the prompt: {wanted}",
        fields=[FieldViolation(f"prompt.{field}", wanted)],
        **facts,
    )


# Give it another number when its text changes: stored answers name it.
DEFAULT: Final = PromptVersion(
    prompt_id="default",
    version=1,
    content=Content(
        template="You answer questions from passages of documents. Answer briefly, in the language"
        " of the question.",
        description="Used where no prompt is named.",
    ),
)
