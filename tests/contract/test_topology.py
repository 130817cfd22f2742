"""Streams, durables and grants follow from the contract, and nothing is granted beyond it."""

from aquifer.services import NAMES
from chassis.events import topology


def test_every_event_has_a_stream_and_a_tenant():
    for event in topology.events():
        assert topology.stream_name(event)
        assert "tenant" in event.fields_by_name, event.full_name


def test_every_consumer_is_a_service():
    assert {durable.service for durable in topology.durables()} <= set(NAMES)


def test_a_work_queue_has_one_consumer_for_each_event():
    for event in topology.events():
        if topology.stream_name(event).startswith(("WORK_", "UPLOADS")):
            assert len(topology.options(event).consumers) == 1, event.full_name


def test_facts_carry_no_document_text():
    for event in topology.events():
        if topology.stream_name(event).startswith("FACTS_"):
            names = {field.name for field in event.fields}
            assert not names & {"text", "content", "chunks", "vectors"}, event.full_name


def test_a_service_publishes_its_own_events_and_the_work_it_takes_from_packs():
    consumed = {one.subject: one.service for one in topology.durables() if "WORK_" in one.stream}
    for service, grant in topology.permissions().items():
        if service in NAMES:
            events = {s for s in grant.publish if s.startswith("aquifer.") and ".v1." in s}
            others = {s for s in events if s.split(".")[1] != service}
            assert others == {
                subject
                for subject, consumer in consumed.items()
                if consumer == service and subject.split(".")[1] != service
            }


def test_no_service_may_touch_streams_or_consumers():
    for service in NAMES:
        for granted in topology.permissions()[service].publish:
            own = (
                "$JS.ACK.",
                *(f"aquifer.{kind}.{service}." for kind in ("dead", "cache", "state")),
            )
            assert ">" not in granted or granted.startswith(own)
            assert not granted.startswith(
                ("$JS.API.STREAM.CREATE", "$JS.API.CONSUMER.CREATE", "$JS.API.CONSUMER.DURABLE")
            )


def test_an_upstream_system_reaches_its_own_tenant_alone():
    grant = topology.upstream_permissions("acme")
    assert {subject.split(".")[3] for subject in grant.publish} == {
        "DocumentUploaded",
        "DocumentRemoved",
        "DocumentDescribed",
    }
    assert {subject.rsplit(".", 1)[-1] for subject in grant.publish} == {"acme"}
    heard = [subject for subject in grant.subscribe if subject.startswith("aquifer.")]
    assert {subject.rsplit(".", 1)[-1] for subject in heard} == {"acme"}
    assert {subject.split(".")[3] for subject in heard} == {
        "DocumentAccepted",
        "DocumentIndexed",
        "DocumentUpdated",
        "DocumentFailed",
        "DocumentDeleted",
        "CollectionDeleted",
        "TenantDeletionRequested",
        "TenantDeleted",
    }
