"""Shows documents, outcomes and hits to people."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC

from google.protobuf.timestamp_pb2 import Timestamp

from aquifer.ingest.v1.collection_pb2 import Collection, CollectionDeletion
from aquifer.ingest.v1.document_pb2 import Document, DocumentVersion, Note
from aquifer.structs import to_json
from aquifer_cli import names
from aquifer_cli.collections import (
    DAY_S,
    count_stages,
    count_states,
    name_steps,
    receipt_counts,
)
from aquifer_cli.documents import state_name
from aquifer_cli.launch import spell_commands
from aquifer_cli.layout import Row
from aquifer_cli.metadata import show_pairs
from aquifer_cli.screen import Screen
from aquifer_cli.sources import Item
from aquifer_cli.upload import Outcome

SHOWN = 20
_UNITS = ("B", "kB", "MB", "GB", "TB")
_KILO = 1000


def show_outcomes(screen: Screen, outcomes: Sequence[Outcome]) -> None:
    """Shows all outcomes if they are few, otherwise those with problems or notes."""
    refused = [outcome for outcome in outcomes if outcome.reason or outcome.notes]
    shown = outcomes if len(outcomes) <= SHOWN else refused[:SHOWN]
    screen.table(["state", "ver", "document"], [_outcome_row(outcome) for outcome in shown])
    if len(refused) > SHOWN and len(outcomes) > SHOWN:
        screen.note(f"and {len(refused) - SHOWN:,} more; --json lists all")


def _outcome_row(outcome: Outcome) -> Row:
    document = names.document_id(outcome.document)
    # A path that the name repeats would only be noise.
    same = outcome.path.replace("/", names.FOLDER).endswith(document)
    why = f"{outcome.reason}: {outcome.detail}" if outcome.reason else ""
    why = "; ".join(filter(None, [why, *map(_render_note, outcome.notes)]))
    below = ": ".join(filter(None, ["" if same and not why else outcome.path, why]))
    return Row(cells=(outcome.state, _version(outcome.version), outcome.document), below=below)


def show_changes(screen: Screen, outcomes: Sequence[Outcome]) -> None:
    """Shows what was not unchanged, problems first, and how many there are of each kind."""
    changes = [one for one in outcomes if one.failed or one.change != "UNCHANGED"]
    changes.sort(key=lambda one: (not one.failed, one.change, one.document))
    screen.table(
        ["change", "state", "ver", "document"],
        [_change_row(outcome) for outcome in changes[:SHOWN]],
    )
    if len(changes) > SHOWN:
        screen.note(f"and {len(changes) - SHOWN:,} more; --json lists all")
    counts = Counter("FAILED" if one.failed else one.change or "SENT" for one in outcomes)
    named = {**dict.fromkeys(("NEW", "CHANGED", "UNCHANGED", "REMOVED", "FAILED"), 0), **counts}
    screen.say(", ".join(f"{count:,} {name.lower()}" for name, count in named.items()))


def _change_row(outcome: Outcome) -> Row:
    row = _outcome_row(outcome)
    return replace(row, cells=(outcome.change or "UNKNOWN", *row.cells))


def show_collections(screen: Screen, collections: Sequence[Collection]) -> None:
    """A table with the number of documents, in all and by state."""
    screen.table(
        ["collection", "documents", "indexed", "in progress", "failed"],
        [
            Row(cells=(names.collection_id(one.name), one.document_count, *count_stages(one)))
            for one in collections
        ],
    )
    if not collections:
        screen.say(spell_commands("no collections; `aquifer upload ...` adds the first one"))


def show_collection(screen: Screen, collection: Collection) -> None:
    """Its settings, one a line, and the number of its documents by state."""
    sizes, retention = collection.chunk_sizes, collection.retention
    settings = {
        "description": collection.description,
        "chunks": f"{sizes.target_chars:,} characters, {sizes.max_chars:,} at most"
        if collection.HasField("chunk_sizes")
        else "as the service cuts them",
        "retention": f"{retention.seconds / DAY_S:g} days"
        if collection.HasField("retention")
        else "none: documents stay until they are deleted",
        "versions": f"{collection.version_retention} superseded ones of each document are kept"
        if collection.version_retention
        else "superseded ones are removed",
        "steps": ", ".join(name_steps(collection)) or "none",
        "labels": " ".join(collection.access_labels) or "none",
    }
    screen.say(names.collection_id(collection.name), style="bold")
    for name, value in settings.items():
        if value:
            screen.say(f"  {name}: {value}")
    counts = [f"{count:,} {state}" for state, count in count_states(collection).items()]
    screen.say(f"  documents: {', '.join(counts) or 'none'}")


def show_deletion(screen: Screen, deletion: CollectionDeletion) -> None:
    """The receipt of a deleted collection: what was removed, by kind."""
    collection, count = names.collection_id(deletion.name), deletion.document_count
    screen.say(f"{collection}: deleted, with {count:,} {'document' if count == 1 else 'documents'}")
    screen.table(
        ["removed", "number"],
        [
            Row(cells=(name.replace("_", " "), f"{number:,}"))
            for name, number in receipt_counts(deletion).items()
        ],
    )


def show_notes(screen: Screen, items: Sequence[Item]) -> None:
    """Shows the changes made to the input."""
    notes = [(item, note) for item in items if not item.skipped for note in item.notes]
    for item, note in notes[:SHOWN]:
        screen.note(f"{item.path}: {note}")
    if len(notes) > SHOWN:
        screen.note(f"and {len(notes) - SHOWN:,} more changes of this kind")


def show_documents(screen: Screen, documents: Sequence[Document], *, chosen: bool = False) -> None:
    """A table, and how many there are in each state; `chosen`: others were left out."""
    screen.table(["state", "ver", "document"], [_document_row(d) for d in documents])
    counts = Counter(state_name(document.state) for document in documents)
    summary = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
    none = "no documents match" if chosen else "no documents; `aquifer upload ...` adds some"
    screen.say(summary or spell_commands(none))


def _document_row(document: Document) -> Row:
    chunks = document.chunk_count
    parts = f"{chunks:,} {'chunk' if chunks == 1 else 'chunks'}" if chunks else ""
    live = document.live_version not in (0, document.version)
    below = "; ".join(
        filter(
            None,
            [
                f"{document.reason}: {document.reason_detail}" if document.reason else "",
                f"searches still find v{document.live_version}" if live else "",
                f"labels {' '.join(document.labels)}" if document.labels else "",
                *map(_render_note, document.notes),
            ],
        )
    )
    named = names.document_id(document.name).endswith(document.file_name)
    aside = [parts, render_size(document.size_bytes), "" if named else document.file_name]
    return Row(
        cells=(state_name(document.state), _version(document.version), document.name),
        aside=", ".join(filter(None, [*aside, document.title])),
        below=below,
    )


def show_versions(screen: Screen, versions: Sequence[DocumentVersion]) -> None:
    """A table, the newest first."""
    screen.table(
        ["ver", "state", "", "size", "created"], [_version_row(version) for version in versions]
    )


def _version_row(version: DocumentVersion) -> Row:
    kept = "kept" if version.bytes_kept else ""
    return Row(
        cells=(
            _version(version.version),
            state_name(version.state),
            "live" if version.live else kept,
            render_size(version.size_bytes),
            _render_time(version.create_time),
        ),
        aside=version.title or version.file_name,
        below=": ".join(filter(None, [version.reason, version.reason_detail])),
    )


def show_description(screen: Screen, document: Document) -> None:
    """The title, metadata and labels of a document, as the options of `aquifer update`."""
    screen.say(f"{document.name}: {document.title or 'no title'}")
    for pair in show_pairs(to_json(document.metadata)):
        screen.say(f"  {pair}")
    if document.labels:
        screen.say(f"  labels {_render_labels(document)}")


def show_document(screen: Screen, document: Document) -> None:
    """Everything about a document, one line each; empty fields are left out."""
    live = document.live_version
    facts = {
        "document": document.name,
        "state": state_name(document.state),
        "reason": ": ".join(filter(None, [document.reason, document.reason_detail])),
        "version": f"{document.version}, searches find {_version(live) or 'none'}",
        "pinned": "uploads of other bytes are refused" if document.pinned else "",
        "file": document.file_name,
        "title": document.title,
        "type": document.media_type,
        "size": render_size(document.size_bytes),
        "chunks": f"{document.chunk_count:,}" if document.chunk_count else "",
        "labels": _render_labels(document),
        "sha256": document.sha256,
        "created": _render_time(document.create_time),
        "changed": _render_time(document.update_time),
        "trace": document.trace_id,
    }
    lines = [(label, value) for label, value in facts.items() if value]
    lines += [("metadata", pair) for pair in show_pairs(to_json(document.metadata))]
    lines += [("note", _render_note(note)) for note in document.notes]
    lines += [("same as", name) for name in document.same_content]
    for label, value in lines:
        screen.say(f"{label:<10}{value}")


def _render_labels(document: Document) -> str:
    inherited = "" if document.own_labels or not document.labels else ", those of its collection"
    return " ".join(document.labels) + inherited


def _render_note(note: Note) -> str:
    return f"{note.code}: {note.detail}"


def _render_time(time: Timestamp) -> str:
    return time.ToDatetime(tzinfo=UTC).isoformat(" ", "seconds")


def render_size(size_bytes: int) -> str:
    """`2.3 kB` for 2319."""
    value, unit = float(size_bytes), 0
    while value >= _KILO and unit < len(_UNITS) - 1:
        value, unit = value / _KILO, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{size_bytes} B"


def _version(number: int) -> str:
    return f"v{number}" if number else ""
