"""Sends files that are to be attached to a conversation, and waits until they are indexed."""

from collections.abc import Sequence
from pathlib import Path

from aquifer_cli import names
from aquifer_cli.client import Client
from aquifer_cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_USAGE, HINTS, CommandError
from aquifer_cli.outcome import TEMPORARY, Outcome
from aquifer_cli.parts import measure
from aquifer_cli.screen import Screen
from aquifer_cli.sending import Sending
from aquifer_cli.sources import Item, display_path, find_files

# Of a conversation; query has the same limit.
ATTACHED_MAX = 100
# Nothing is wrong with the file.
UNFINISHED = {"ACCEPTED", "PREPARED", "NOT_SENT"}


async def send_files(
    client: Client,
    screen: Screen,
    paths: Sequence[Path],
    collection: str,
    *,
    attached: Sequence[str] = (),
) -> list[str]:
    """Uploads files and waits until they are indexed; returns the names of their documents.

    `attached` are names of documents that are attached already.

    The name of a document is made from the name and the content of its file: in a collection that
    many use, a file takes no document of another one, and the same file again is not sent again.

    Raises:
        CommandError: PATH_UNKNOWN, NOT_A_FILE, FILE_UNREADABLE; DOCUMENTS_COUNT, nothing is sent;
            the reason of the service for the first file that does not become searchable.
    """
    found = [await _make_item(path, collection) for path in paths]
    items = list({item.header.document: item for item in found}.values())
    if not items:
        return []
    count = len({*attached, *(item.header.document for item in items)})
    if count > ATTACHED_MAX:
        raise CommandError(
            "DOCUMENTS_COUNT",
            f"a conversation has at most {ATTACHED_MAX} documents, not {count}",
            hint=HINTS["DOCUMENTS_COUNT"] if attached else "attach fewer files",
            exit_code=EXIT_USAGE,
        )
    outcomes = await Sending(screen, items, wait=True, as_json=_as_json).run(client)
    for one in outcomes:
        if not one.failed:
            screen.note(f"indexed {one.path} as {one.document}")
    failures = [_explain(one) for one in outcomes if one.failed]
    for failure in failures[1:]:
        screen.note(f"{failure.reason}: {failure.detail}")
    if failures:
        raise failures[0]
    return [one.document for one in outcomes]


def _find_item(path: Path, collection: str) -> Item:
    if path.is_dir():
        raise CommandError(
            "NOT_A_FILE",
            f"{display_path(path)} is a folder",
            hint="`aquifer upload` takes folders, and `aquifer chat -c` searches a collection",
            exit_code=EXIT_USAGE,
        )
    [item] = find_files([path], collection)
    return item


async def _make_item(path: Path, collection: str) -> Item:
    item = _find_item(path, collection)
    try:
        with item.open() as stream:
            _, sha256 = await measure(stream)
    except OSError as error:
        detail = f"{item.path}: {error.strerror or error}"
        raise CommandError("FILE_UNREADABLE", detail, exit_code=EXIT_USAGE) from error
    document = names.id_from_content(item.header.file_name, sha256)
    item.header.document = names.document_name(collection, document)
    return item


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {"step": "file", **outcome.as_json()}


def _explain(failed: Outcome) -> CommandError:
    """What is wrong with a file, and what to do."""
    hint = HINTS.get(failed.reason, "try another file")
    if failed.state in UNFINISHED or failed.reason in TEMPORARY:
        hint = "the same command goes on"
    elif failed.reason == "LABELS_FORBIDDEN":
        hint = "`--attach-to` names another collection"
    elif failed.state == "FAILED":
        hint = f"try another file; `aquifer delete {failed.document}` removes this one"
    return CommandError(
        failed.reason,
        f"{failed.path} was not attached: {failed.detail or failed.state.lower()}",
        hint=hint,
        exit_code=EXIT_UNAVAILABLE if failed.unreachable else EXIT_FAILED,
    )
