"""Checks the invariants: compares what clients were promised with what the stores contain."""

from collections import Counter
from collections.abc import Iterable, Iterator

from tests.faults.evidence import FINAL, Evidence, Place, Row
from tests.faults.journal import Facts, Journal
from tests.faults.load import COLLECTION
from tests.faults.order import order_violations

# The setting of the campaign's collection.
KEPT_MAX = 2
DEAD_HEADERS = ("Consumer", "Subject", "Reason", "Attempts", "First-Time")


def violations(journal: Journal, evidence: Evidence) -> list[str]:
    """Every broken promise, one line each; an empty list is what we want."""
    return [
        *_lost(journal, evidence),
        *unsettled(evidence),
        *_phantoms(journal, evidence),
        *_doubled(evidence),
        *_stores_differ(evidence),
        *_kept_differ(evidence),
        *_histories_differ(evidence),
        *_signatures_differ(evidence),
        *_live_versions_differ(evidence),
        *_descriptions_differ(evidence),
        *_updates_lost(journal, evidence),
        *order_violations(journal, evidence),
        *_deleted_remains(journal, evidence),
        *_receipts_differ(evidence),
        *_results_missing(evidence),
        *_dead_letters_incomplete(evidence),
    ]


def _lost(journal: Journal, evidence: Evidence) -> Iterator[str]:
    """An acknowledged upload ends as a version, and stays one unless its delete was asked for."""
    known = {(row["document"], row["version"]): row for row in evidence.versions}
    gone = journal.touched_by_delete()
    for operation, facts in journal.accepted().items():
        document, version = str(facts["document"]), facts["version"]
        row = known.get((document, version))
        if row is None:
            yield f"lost: {operation} was accepted as {document} v{version}, no such version"
        elif row["state"] in {"DELETED", "DELETING"}:
            if document not in gone:
                yield f"lost: {document} v{version} is deleted, nobody asked for it"
        elif row["sha256"] != facts["sha256"]:
            yield f"lost: {document} v{version} holds other bytes than were accepted"


def unsettled(evidence: Evidence) -> Iterator[str]:
    for row in evidence.versions:
        name = f"{row['document']} v{row['version']}"
        if row["state"] not in FINAL:
            yield f"stuck: {name} is {row['state']}"
        if row["description_due_at"] is not None:
            yield f"stuck: the description of {name} is not confirmed"
        if row["state"] == "FAILED" and not row["reason"]:
            yield f"unexplained: {name} failed without a reason"
    yield from _deletions_unfinished(evidence)
    yield from _queued(evidence)


def _queued(evidence: Evidence) -> Iterator[str]:
    """Work that waits somewhere."""
    if evidence.unfinished_profiles:
        yield f"stuck: {evidence.unfinished_profiles} indexes are not complete or not removed"
    for durable, left in evidence.unsettled.items():
        yield f"stuck: {durable} has {left} events neither acknowledged nor dead"
    if evidence.pending_updates:
        yield f"stuck: points of {evidence.pending_updates} documents are not updated yet"
    if evidence.pending_removals:
        yield f"stuck: points of {evidence.pending_removals} versions are not removed yet"
    if evidence.fetches:
        yield f"stuck: {evidence.fetches} uploads by reference are not fetched yet"
    for service, left in evidence.outbox.items():
        if left:
            yield f"stuck: {left} events in the outbox of {service}"


def _deletions_unfinished(evidence: Evidence) -> Iterator[str]:
    for row in evidence.collection_deletions:
        if row["finished_at"] is None:
            yield f"stuck: deletion {row['number']} of collection {row['collection_id']}"


def _phantoms(journal: Journal, evidence: Evidence) -> Iterator[str]:
    for name in {row["document"] for row in evidence.versions} - journal.sent():
        yield f"phantom: nobody sent {name}"


def _doubled(evidence: Evidence) -> Iterator[str]:
    """One chunk for each ordinal of a live version; one point for each place."""
    counts = Counter(place for _, place in evidence.points)
    for place, count in counts.items():
        if count > 1:
            yield f"doubled: {count} points at {place}"
    live = {
        (row["tenant_id"], row["document"], row["version"]): row["chunk_count"]
        for row in evidence.versions
        if row["state"] == "INDEXED"
    }
    ordinals: dict[tuple[str, str, int], list[int]] = {}
    for row in evidence.chunks:
        key = (row["tenant_id"], row["document"], row["version"])
        ordinals.setdefault(key, []).append(row["ordinal"])
    for key, chunk_count in live.items():
        if sorted(ordinals.get(key, [])) != list(range(chunk_count)):
            yield f"incomplete: chunks of {key} are not 0..{chunk_count - 1}"


def _places(rows: Iterable[Row]) -> set[Place]:
    return {Place(r["tenant_id"], r["document"], r["version"], r["ordinal"]) for r in rows}


def _stores_differ(evidence: Evidence) -> Iterator[str]:
    """Live chunks of ingest = passages of query = points, place by place and text by text."""
    live = {
        (row["tenant_id"], row["document"], row["version"])
        for row in evidence.versions
        if row["state"] == "INDEXED"
    }
    past = {_key(row) for row in evidence.superseded}
    chunks = _places(r for r in evidence.chunks if _key(r) in live)
    passages = _places(evidence.passages)
    shown = _places(r for r in evidence.passages if _key(r) not in past)
    points = {place for _, place in evidence.points}
    for name, left, right in (
        ("chunk without passage", chunks, shown),
        ("passage without live chunk", shown, chunks),
        ("live passage without live point", shown, {place for _, place in evidence.live_points}),
        ("live point without live passage", {place for _, place in evidence.live_points}, shown),
        ("passage without point", passages, points),
        ("point without passage", points, passages),
        *_compare_beside(evidence, passages),
    ):
        for place in sorted(left - right):
            yield f"{name}: {place}"
    texts = {_content(r) for r in evidence.chunks if _key(r) in live}
    for row in evidence.passages:
        if _key(row) not in past and _content(row) not in texts:
            yield f"other text: passage {row['chunk_id']} differs from its chunk"
        if str(row["point_id"]) not in evidence.vectors:
            yield f"without vector: passage {row['chunk_id']}"
    of_point = {str(r["point_id"]): r["tenant_id"] for r in evidence.passages}
    for point_id, place in evidence.points:
        if of_point.get(point_id, place.tenant) != place.tenant:
            yield f"foreign label: point {point_id} is labelled {place.tenant}"


def _kept_differ(evidence: Evidence) -> Iterator[str]:
    """Kept versions are few, and have their bytes and text; other superseded ones have neither."""
    contents = {_key(row): row["sha256"] for row in evidence.contents}
    texts: dict[tuple[str, str, int], list[str]] = {}
    for row in sorted(evidence.chunks, key=lambda row: int(row["ordinal"])):
        texts.setdefault(_key(row), []).append(row["text"])
    same: dict[tuple[str, str, str], list[str]] = {}
    for row in evidence.versions:
        key, name = _key(row), f"{row['document']} v{row['version']}"
        stored = contents.get(key) == row["sha256"] or row["object_key"] in evidence.objects
        if row["kept"] and not stored:
            yield f"lost: the bytes of {name}, which is kept"
        if row["kept"] and len(texts.get(key, ())) != row["chunk_count"]:
            yield f"lost: the text of {name}, which is kept"
        if row["state"] == "SUPERSEDED" and not row["kept"] and (key in contents or key in texts):
            yield f"left: data of {name}, which is not kept"
        # So a version that was rolled back to reads like the one whose bytes it has.
        if key in texts and texts[key] != same.setdefault(
            (row["document"], row["sha256"], row["media_type"]), texts[key]
        ):
            yield f"other text: {name} differs from a version with the same bytes"
    counts = Counter(row["document"] for row in evidence.versions if row["kept"])
    for document, count in counts.items():
        if count > KEPT_MAX:
            yield f"left: {count} versions of {document} are kept, not {KEPT_MAX}"


def _histories_differ(evidence: Evidence) -> Iterator[str]:
    """What was live and is not deleted stays whole in the history of query."""
    counts = Counter(_key(row) for row in evidence.passages)
    versions = {_key(row): row for row in evidence.versions}
    past = {_key(row) for row in evidence.superseded}
    for key in sorted(past):
        row = versions.get(key)
        if row is None or row["state"] != "SUPERSEDED":
            yield f"left: {key} in the history, which was not superseded"
        elif counts[key] != row["chunk_count"]:
            yield f"lost: passages of {key} in the history"
    indexed = {_key(row) for row in evidence.uploads if row["result"] == "INDEXED"}
    for key, row in versions.items():
        if row["state"] == "SUPERSEDED" and key in indexed - past:
            yield f"lost: {key} from the history"


def _signatures_differ(evidence: Evidence) -> Iterator[str]:
    """The step NEAR_DUPLICATES keeps a signature of each live version of its collection only."""
    live = {
        _key(row)
        for row in evidence.versions
        if row["state"] == "INDEXED" and row["document"].startswith(f"collections/{COLLECTION}/")
    }
    signed = {_key(row) for row in evidence.signatures}
    for key in sorted(live - signed):
        yield f"lost: the signature of {key}"
    for key in sorted(signed - live):
        yield f"left: a signature of {key}, which is not live"


def _compare_beside(
    evidence: Evidence, passages: set[Place]
) -> Iterator[tuple[str, set[Place], set[Place]]]:
    """The index beside the live one, if there is one, has the same points."""
    if evidence.points_beside is not None:
        beside = {place for _, place in evidence.points_beside}
        yield "passage without point beside", passages, beside
        yield "point beside without passage", beside, passages


def _content(row: Row) -> tuple[object, ...]:
    return row["chunk_id"], row["text"], tuple(row["headings"]), row["table_header"], row["lines"]


def _key(row: Row) -> tuple[str, str, int]:
    return row["tenant_id"], row["document"], row["version"]


def _live_versions_differ(evidence: Evidence) -> Iterator[str]:
    """What ingest calls live is indexed and is what query shows."""
    states = {(r["tenant_id"], r["document"], r["version"]): r["state"] for r in evidence.versions}
    shown = {
        (r["tenant_id"], r["document"]): r["live_version"]
        for r in evidence.visible
        if r["live_version"] > r["tombstone_version"]
    }
    for row in evidence.documents:
        live, name = row["live_version"], row["name"]
        if live and states.get((row["tenant_id"], name, live)) != "INDEXED":
            yield f"wrong live version: {name} v{live} is not indexed"
        if shown.get((row["tenant_id"], name), 0) != live:
            yield f"wrong live version: query shows another version of {name} than v{live}"
    pointer = {(r["tenant_id"], r["name"]): r["live_version"] for r in evidence.documents}
    for (tenant, name, version), state in states.items():
        if state == "INDEXED" and pointer.get((tenant, name)) != version:
            yield f"two live versions: {name} v{version} is indexed and not the live one"


def _descriptions_differ(evidence: Evidence) -> Iterator[str]:
    """Passages of a live version have the title and metadata that ingest has."""
    shown = {_key(row): (row["title"], row["metadata"]) for row in evidence.descriptions}
    for row in evidence.versions:
        if row["state"] == "INDEXED":
            own = (row["title"] or row["text_title"], row["metadata"])
            if shown.get(_key(row)) != own:
                yield f"other description: {row['document']} v{row['version']} in query"


def _updates_lost(journal: Journal, evidence: Evidence) -> Iterator[str]:
    """An acknowledged update holds if it began after everything else of its document had ended."""
    operations: dict[str, list[str]] = {}
    for operation, facts in journal.begun.items():
        operations.setdefault(str(facts["document"]), []).append(operation)
    newest = {row["document"]: row for row in sorted(evidence.versions, key=_number)}
    for document, known in operations.items():
        last = max(known, key=lambda one: journal.lines[one][0])
        if journal.begun[last]["kind"] != "update" or document not in newest:
            continue
        began, _ = journal.lines[last]
        ends = [journal.lines[one][1] for one in known if one != last]
        answered = all(_succeeded(journal.ended.get(one, {})) for one in known)
        alone = answered and all(end is not None and end < began for end in ends)
        if alone and newest[document]["metadata"].get("update") != last:
            yield f"lost: {last} of {document} was acknowledged"


def _succeeded(facts: Facts) -> bool:
    return any(facts.get(kind) for kind in ("accepted", "updated", "deleted"))


def _number(row: Row) -> int:
    return int(row["version"])


def _deleted_remains(journal: Journal, evidence: Evidence) -> Iterator[str]:
    """After an acknowledged delete no store holds anything of the versions it covered."""
    covered = {
        (row["tenant_id"], row["name"]): row["tombstone_version"]
        for row in evidence.documents
        if row["name"] in journal.deleted()
    }
    for name in journal.deleted() - {name for _, name in covered}:
        yield f"not deleted: {name} has no tombstone"

    def dead(tenant: str, document: str, version: int) -> bool:
        return version <= covered.get((tenant, document), 0)

    for kind, places in (
        ("chunk", _places(evidence.chunks)),
        ("passage", _places(evidence.passages)),
        ("point", {place for _, place in evidence.points}),
        ("point beside", {place for _, place in evidence.points_beside or ()}),
    ):
        for place in places:
            if dead(place.tenant, place.document, place.version):
                yield f"not deleted: {kind} at {place}"
    kept = {
        row["object_key"]
        for row in evidence.versions
        if not dead(row["tenant_id"], row["document"], row["version"])
    }
    for row in evidence.versions:
        if row["object_key"] in evidence.objects and row["object_key"] not in kept:
            yield f"not deleted: bytes of {row['document']} v{row['version']}"


def _receipts_differ(evidence: Evidence) -> Iterator[str]:
    """The receipt of a collection adds up those of the documents that its deletion removed."""
    receipts = {_key(row): row["receipt"] for row in evidence.versions if row["receipt"]}
    removed: dict[tuple[str, str, int], list[Row]] = {}
    for row in evidence.versions:
        collection = row["document"].split("/")[1]
        deletion = (row["tenant_id"], collection, row["collection_deletion"])
        removed.setdefault(deletion, []).append(row)
    for row in evidence.collection_deletions:
        name = f"deletion {row['number']} of collection {row['collection_id']}"
        own = removed.get((row["tenant_id"], row["collection_id"], row["number"]), [])
        if row["receipt"] is None:
            continue  # stuck, which is another finding
        if row["documents"] != len(own):
            yield f"receipt: {name} counts {row['documents']} documents, not {len(own)}"
        total: Counter[str] = Counter()
        for version in own:
            number = min(
                number
                for tenant, document, number in receipts
                if (tenant, document) == (version["tenant_id"], version["document"])
                and number >= version["version"]
            )
            total.update(receipts[version["tenant_id"], version["document"], number])
        if {key: count for key, count in row["receipt"].items() if count} != dict(+total):
            yield f"receipt: {name} is not the sum of its documents'"


def _results_missing(evidence: Evidence) -> Iterator[str]:
    """Every accepted upload event has its one result."""
    for row in evidence.uploads:
        if row["source"] and not row["result"]:
            yield f"no result: upload event {row['request_id']} of {row['document']}"


def _dead_letters_incomplete(evidence: Evidence) -> Iterator[str]:
    seen = Counter(headers.get("Nats-Msg-Id", "") for headers in evidence.dead_letters)
    for identifier, count in seen.items():
        if count > 1:
            yield f"doubled: {count} dead letters {identifier}"
    for headers in evidence.dead_letters:
        missing = [name for name in DEAD_HEADERS if not headers.get(f"Aquifer-Dead-{name}")]
        if missing:
            yield f"unexplained: a dead letter lacks {', '.join(missing)}"
