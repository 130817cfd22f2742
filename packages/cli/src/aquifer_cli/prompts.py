"""Prompts: their names, their versions, and where their templates come from."""

import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path
from typing import Final

from aquifer.query.v1.prompt_service_pb2 import (
    CreatePromptRequest,
    DeletePromptRequest,
    GetPromptRequest,
    ListPromptsRequest,
    ListPromptVersionsRequest,
    Prompt,
    UpdatePromptRequest,
)
from aquifer_cli.client import Client
from aquifer_cli.errors import EXIT_USAGE, CommandError

PAGE: Final = 1_000
TEMPLATE_MAX_CHARS: Final = 8_000
_PREFIX: Final = "prompts/"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_REFERENCE: Final = re.compile(rf"{_ID.pattern}(?:@[1-9][0-9]{{0,17}})?")


def make_name(text: str) -> str:
    """The resource name for an id or a resource name.

    Raises:
        CommandError: PROMPT_NAME.
    """
    return _check_name(text, _ID, "an id, as `aquifer prompts list` shows them")


def make_reference(text: str) -> str:
    """The resource name, also with a version: `support`, `support@3`; empty stays empty.

    Raises:
        CommandError: PROMPT_NAME.
    """
    return _check_name(text, _REFERENCE, "an id, or ID@VERSION") if text else ""


def read_id(prompt: Prompt) -> str:
    """Its id."""
    return prompt.name.removeprefix(_PREFIX)


def read_template(file: Path) -> str:
    """The text of a file, or of standard input for `-`, without line ends at its end.

    Raises:
        CommandError: FILE_UNREADABLE; PROMPT_INVALID for one that is too long.
    """
    try:
        if str(file) == "-":
            text = sys.stdin.read(4 * TEMPLATE_MAX_CHARS)
        else:
            with file.open(encoding="utf-8") as source:
                text = source.read(4 * TEMPLATE_MAX_CHARS)
    except (OSError, UnicodeError) as error:
        raise CommandError("FILE_UNREADABLE", f"{file}: {error}", exit_code=EXIT_USAGE) from error
    template = text.rstrip("\r\n")
    if len(template) > TEMPLATE_MAX_CHARS:
        raise CommandError(
            "PROMPT_INVALID",
            f"{file}: a template has at most {TEMPLATE_MAX_CHARS:,} characters",
            exit_code=EXIT_USAGE,
        )
    return template


async def get(client: Client, name: str) -> Prompt:
    """A prompt in its newest version, or in the one that the name tells."""
    found: Prompt = await client.call(client.prompts.GetPrompt, GetPromptRequest(name=name))
    return found


async def create(client: Client, given: Prompt) -> Prompt:
    """Creates a prompt."""
    request = CreatePromptRequest(prompt=given)
    created: Prompt = await client.call(client.prompts.CreatePrompt, request)
    return created


async def update(client: Client, given: Prompt, expected_version: int) -> Prompt:
    """Adds a version to a prompt."""
    request = UpdatePromptRequest(prompt=given, expected_version=expected_version)
    changed: Prompt = await client.call(client.prompts.UpdatePrompt, request)
    return changed


async def delete(client: Client, name: str) -> None:
    """Deletes a prompt with its versions."""
    await client.call(client.prompts.DeletePrompt, DeletePromptRequest(name=name))


async def list_prompts(client: Client) -> AsyncIterator[Prompt]:
    """All prompts of the tenant and the built-in one, by id."""
    token = ""
    while True:
        request = ListPromptsRequest(page_size=PAGE, page_token=token)
        page = await client.call(client.prompts.ListPrompts, request)
        for one in page.prompts:
            yield one
        token = page.next_page_token
        if not token:
            return


async def list_versions(client: Client, name: str) -> AsyncIterator[Prompt]:
    """All versions of a prompt, newest first."""
    token = ""
    while True:
        request = ListPromptVersionsRequest(parent=name, page_size=PAGE, page_token=token)
        page = await client.call(client.prompts.ListPromptVersions, request)
        for one in page.versions:
            yield one
        token = page.next_page_token
        if not token:
            return


def as_json(prompt: Prompt) -> dict[str, object]:
    """A version of a prompt for programs."""
    dated = prompt.HasField("create_time")
    return {
        "prompt": read_id(prompt),
        "version": prompt.version,
        "template": prompt.template,
        "description": prompt.description,
        "built_in": prompt.built_in,
        "creator": prompt.creator,
        "create_time": prompt.create_time.ToDatetime(tzinfo=UTC).isoformat() if dated else None,
    }


def render_time(prompt: Prompt) -> str:
    """When the version was created; empty for a built-in one."""
    if not prompt.HasField("create_time"):
        return ""
    return prompt.create_time.ToDatetime(tzinfo=UTC).isoformat(" ", "seconds")


def _check_name(text: str, pattern: re.Pattern[str], wanted: str) -> str:
    prompt_id = text.removeprefix(_PREFIX)
    if not pattern.fullmatch(prompt_id):
        raise CommandError(
            "PROMPT_NAME",
            f"{text!r} does not name a prompt",
            hint=f"give {wanted}",
            exit_code=EXIT_USAGE,
        )
    return _PREFIX + prompt_id
