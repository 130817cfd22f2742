"""The step NEAR_DUPLICATES: documents of a collection with almost the same text get a note."""

import asyncio

import pytest

from aquifer.ingest.v1.document_events_pb2 import DocumentDeleted, DocumentIndexed
from aquifer.query.v1.passage_events_pb2 import VersionSearchable
from chassis.base.labels import hold
from ingest.collections import CollectionSettings
from ingest.cutting import chunk_id
from ingest.document_messages import to_document
from ingest.notes import Note
from ingest.signature import BANDS, NUMBERS
from ingest.steps import Step
from services.ingest.tests.conftest import CHUNKS, NAME, TENANT, Rig, messages

TEXT = " ".join(f"Pump {number} delivers {number * 7} litres." for number in range(60))
EDITED = TEXT.replace("Pump 30 ", "Valve 30 ")
OTHER_TEXT = " ".join(f"Invoice {number} is due on day {number * 3}." for number in range(60))
TWIN = "collections/reports/documents/q1"
AWAY = "collections/minutes/documents/a"
PAGE = f"<!doctype html><title>Pumps</title><p>{TEXT}</p>"
STEPS = (Step.NEAR_DUPLICATES,)


async def create(
    rig: Rig, *collections: str, tenant: str = TENANT, steps: tuple[Step, ...] = STEPS
) -> None:
    for collection in collections or ("reports",):
        given = CollectionSettings(steps=steps)
        await rig.wired.rpc.create_collection.run(tenant, collection, given)


async def index(rig: Rig, name: str = NAME, text: str = TEXT) -> list[Note]:
    """Uploads a version all the way; its notes."""
    number = await rig.index_version(text.encode(), name=name)
    return [Note(*note) for note in rig.version(number, name=name)["notes"]]


@pytest.fixture(params=["rig", "quick"])
def either(request: pytest.FixtureRequest) -> Rig:
    """One that parses every document, and one that cuts small text when it is accepted."""
    rig: Rig = request.getfixturevalue(request.param)
    return rig


async def test_the_later_of_two_similar_documents_names_the_other(either: Rig):
    await create(either)
    assert await index(either, TWIN) == []
    assert await index(either, f"{NAME}-b", OTHER_TEXT) == []
    [note] = await index(either, text=EDITED)
    assert note.code == "NEAR_DUPLICATES"
    start, _, name = note.detail.rpartition(" ")
    assert (start[:17], name) == ("version 1: text 0", "q1")
    assert 0.8 <= float(start.split()[3]) < 1
    assert (either.count("signatures"), either.count("signature_bands")) == (3, 3 * BANDS)


async def test_the_result_event_has_the_note_and_a_repetition_has_it_too(rig: Rig):
    await create(rig)
    await index(rig, TWIN)
    await rig.event(TEXT.encode())
    await rig.prepare()
    [result] = messages(await rig.searchable())
    assert isinstance(result, DocumentIndexed)
    assert [(note.code, note.detail) for note in result.notes] == [
        ("NEAR_DUPLICATES", "version 1: text 1.00 like q1")
    ]
    [again] = messages(await rig.event(TEXT.encode()))
    assert again == result


async def test_a_parsed_document_is_compared_with_plain_text(rig: Rig):
    await create(rig)
    await index(rig, TWIN)
    [note] = await index(rig, text=PAGE)
    assert note.detail.endswith("like q1")
    [row, _] = rig.rows.execute("SELECT signature FROM signatures").fetchall()
    assert len(bytes(row["signature"])) == NUMBERS.size


async def test_the_most_similar_are_named_first_and_no_more_than_three(rig: Rig):
    await create(rig)
    texts = {f"q1-{n}": TEXT + f" More words {n}." * n for n in range(5)}
    for name, text in texts.items():
        await rig.index_version(text.encode(), name=f"collections/reports/documents/{name}")
    [note] = await index(rig)
    assert note.detail.startswith("version 1: text 1.00 like q1-0, 0.9")
    named = [part.rpartition(" ")[2] for part in note.detail.split(", ")]
    assert len(named) == 3
    assert set(named) < texts.keys()


async def test_only_live_documents_of_the_same_collection_and_tenant_are_named(rig: Rig):
    await create(rig, "reports", "minutes")
    await create(rig, tenant="globex")
    await index(rig, AWAY)
    async with rig.begin("globex") as work:
        await work.tenants.admit()
    await rig.upload(TEXT.encode(), name=TWIN, tenant="globex")
    rejected, deleted, changed = (f"{TWIN}-{number}" for number in range(3))
    await rig.upload(TEXT.encode(), name=rejected)
    await rig.prepare(name=rejected)
    await rig.reject(name=rejected)
    await index(rig, deleted)
    await rig.delete(deleted)
    await index(rig, changed)
    await index(rig, changed, OTHER_TEXT)
    assert await index(rig) == []


async def test_a_new_version_takes_the_place_of_the_old_one(rig: Rig):
    await create(rig)
    await index(rig, TWIN)
    assert [note.code for note in await index(rig)] == ["NEAR_DUPLICATES"]
    assert await index(rig, text=OTHER_TEXT) == []
    found = rig.rows.execute("SELECT document, version FROM signatures ORDER BY 1, 2").fetchall()
    assert [(row["document"], row["version"]) for row in found] == [(TWIN, 1), (NAME, 2)]
    assert rig.count("signature_bands") == 2 * BANDS
    # Its own older version is no other document.
    assert await index(rig, text=f"{OTHER_TEXT} More.") == []


async def test_a_kept_version_has_no_signature(rig: Rig):
    given = CollectionSettings(steps=STEPS, version_retention=5)
    await rig.wired.rpc.create_collection.run(TENANT, "reports", given)
    await index(rig)
    await index(rig, text=OTHER_TEXT)
    assert rig.version(1)["kept"]
    assert rig.count("signatures") == 1


async def test_a_delete_removes_the_signature_and_counts_it(rig: Rig):
    await create(rig)
    await index(rig, TWIN)
    await index(rig)
    await rig.delete()
    [event] = messages(await rig.report_purged())
    assert isinstance(event, DocumentDeleted)
    assert event.receipt.signatures == 1
    assert (rig.count("signatures"), rig.count("signature_bands")) == (1, BANDS)


async def test_it_changes_no_chunk_and_no_id(either: Rig):
    await create(either)
    await either.upload(TEXT.encode())
    await either.upload(TEXT.encode(), name=AWAY)
    for name in (NAME, AWAY):
        if either.version(name=name)["state"] == "ACCEPTED":
            await either.prepare(name=name)
    rows = either.rows.execute(
        "SELECT document, chunk_id, ordinal, text FROM chunks ORDER BY document, ordinal"
    ).fetchall()
    texts = {name: [r["text"] for r in rows if r["document"] == name] for name in (NAME, AWAY)}
    assert texts[NAME] == texts[AWAY]
    for row in rows:
        expected = chunk_id(TENANT, row["document"], 1, row["ordinal"], CHUNKS.key)
        assert row["chunk_id"] == expected
    assert either.version()["notes"] == []


async def test_it_sees_the_text_that_other_steps_leave(rig: Rig):
    await create(rig, steps=(Step.PII_MASKING, Step.NEAR_DUPLICATES))
    letters = [f"Write to {name}@example.com. {TEXT[:100]}" for name in ("jane", "john")]
    await index(rig, TWIN, letters[0])
    notes = await index(rig, text=letters[1])
    assert [note.code for note in notes] == ["PII_MASKING", "NEAR_DUPLICATES"]
    assert notes[1].detail == "version 1: text 1.00 like q1"


async def test_without_the_step_nothing_is_stored(rig: Rig):
    await index(rig, TWIN)
    assert await index(rig) == []
    assert rig.count("signatures") == 0


async def test_of_two_documents_prepared_at_once_the_last_one_indexed_names_the_other(rig: Rig):
    await create(rig)
    for name in (NAME, TWIN):
        await rig.upload(TEXT.encode(), name=name)
    await asyncio.gather(*(rig.prepare(name=name) for name in (NAME, TWIN)))
    await rig.searchable(name=TWIN)
    await rig.searchable()
    assert rig.version()["notes"] == [["NEAR_DUPLICATES", "version 1: text 1.00 like q1"]]


async def test_documents_indexed_in_one_batch_name_each_other(rig: Rig):
    await create(rig)
    for name in (NAME, TWIN):
        await rig.upload(TEXT.encode(), name=name)
        await rig.prepare(name=name)
    batch = (VersionSearchable(tenant=TENANT, document=name, version=1) for name in (NAME, TWIN))
    await rig.deliver(*batch)
    said = {name: rig.version(name=name)["notes"][0][1] for name in (NAME, TWIN)}
    assert said == {
        NAME: "version 1: text 1.00 like q1",
        TWIN: "version 1: text 1.00 like q3",
    }


async def test_a_key_with_a_list_of_labels_gets_no_names(rig: Rig):
    """The other document may have got a label since."""
    await create(rig)
    await index(rig, TWIN)
    await index(rig)
    view = await rig.get()
    [note] = to_document(view).notes
    assert note.detail == "version 1: text 1.00 like q1"
    hold(frozenset({"eng"}))
    try:
        [note] = to_document(view).notes
    finally:
        hold(None)
    assert (note.code, note.detail) == ("NEAR_DUPLICATES", "version 1: text like that of others")
