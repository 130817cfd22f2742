"""The check of the rule "last writer wins", with made-up evidence."""

import pytest

from tests.faults.history import DOCUMENT, History
from tests.faults.order import DELETED, LATE


@pytest.fixture
def history(tmp_path) -> History:
    return History(tmp_path)


def test_the_later_sequence_is_the_last(history):
    history.publish("old", "new")
    history.record("old", 1)
    history.record("new", 2)
    history.live(2)
    assert history.found == []


def test_a_document_is_decided_by_a_certain_last_writer_of_several(history):
    history.publish("old")
    history.record("old", 1)
    assert history.decided == 0
    history.publish("new")
    history.record("new", 2)
    assert history.decided == 1
    history.publish("unknown", acked=False)
    history.publish("newest", acked=False)
    history.record("unknown", 3)
    assert history.decided == 1
    history.record("newest", 4)
    assert history.decided == 0


def test_an_earlier_event_that_is_live_is_found(history):
    """Handled side by side: OLD became version 2 and went live over NEW."""
    history.publish("old", "new")
    history.record("new", 1, LATE)
    history.record("old", 2)
    history.live(2)
    [wrong_live, wrong_result] = history.found
    assert "v2 is live, though event new (stream sequence 2) v1 came after it" in wrong_live
    assert (
        "event new (stream sequence 2) v1 ended as VERSION_SUPERSEDED and nothing" in wrong_result
    )


@pytest.mark.parametrize("live", range(1, 20))
def test_of_twenty_in_a_row_only_the_last_may_be_live(history, live):
    names = [f"event-{number}" for number in range(1, 21)]
    history.publish(*names)
    for number, name in enumerate(names, 1):
        history.record(name, number)
    history.live(live)
    assert len(history.found) == 1
    history.live(20)
    assert history.found == []


def test_a_document_with_a_version_on_its_way_is_judged_later(history):
    history.publish("old", "new")
    history.record("old", 1)
    history.record("new", 2, "", "PREPARED")
    history.live(1)
    assert history.found == []


def test_a_late_event_ends_superseded(history):
    """NEW was handled first, so OLD never goes live; with a version of its own or without."""
    history.publish("oldest", "old", "new")
    history.record("new", 1)
    history.record("old", 2, LATE)
    history.journal.end("oldest", accepted=False, result=LATE, version=0)
    history.live(1)
    assert history.found == []


def test_a_late_event_may_be_answered_with_the_version_that_superseded_it(history):
    history.publish("old", "new")
    history.record("new", 1)
    history.record("old", 1, LATE)
    history.live(1)
    assert history.found == []


def test_an_event_that_borrows_the_live_version_is_not_the_last_writer(history):
    """OLD is live; NEW is answered as superseded by it."""
    history.publish("old", "new")
    history.record("old", 1)
    history.record("new", 1, LATE)
    history.live(1)
    assert len(history.found) == 2


def test_a_live_version_that_was_answered_as_superseded_is_found(history):
    history.publish("old", "new")
    history.record("old", 1)
    history.record("new", 2, LATE)
    history.live(2)
    assert any("and is live" in line for line in history.found)


def test_the_same_bytes_again_are_the_version_of_both(history):
    history.publish("first", "same")
    history.record("first", 1)
    history.record("same", 1)
    history.live(1)
    assert history.found == []


def test_nothing_live_after_an_accepted_upload_is_found(history):
    history.publish("only")
    history.record("only", 1)
    assert ["no version is live" in line for line in history.found] == [True]


def test_a_live_version_of_nobody_is_found(history):
    history.publish("only")
    history.record("only", 1)
    history.live(7)
    assert ["which no upload or delete explains" in line for line in history.found] == [True]


def test_without_an_acknowledgement_both_orders_are_lawful(history):
    history.publish("old", acked=False)
    history.publish("new")
    history.record("old", 2)
    history.record("new", 1, LATE)
    for live in (1, 2):
        history.live(live)
        assert [line for line in history.found if "is live, though" in line] == []


def test_an_unacknowledged_event_still_comes_after_what_was_acknowledged_before(history):
    history.publish("old")
    history.publish("new", acked=False)
    history.record("old", 2)
    history.record("new", 1)
    history.live(2)
    assert len(history.found) == 1


def test_an_event_published_twice_has_both_places(history):
    """OLD, NEW, OLD again: whichever copy of OLD was handled first decides."""
    history.publish("old", "new", "old")
    history.record("old", 1)
    history.record("new", 2)
    for live in (1, 2):
        history.live(live)
        assert history.found == []


def test_sequences_of_two_stores_are_not_compared(history):
    """The broker lost its store: the new stream counts from 1 and comes later all the same."""
    history.sequence = 40
    history.publish("old")
    history.record("old", 1)
    history.journal.lose_store("nats")
    history.sequence = 0
    history.publish("new")
    history.record("new", 2)
    history.live(2)
    assert history.found == []
    history.live(1)
    assert len(history.found) == 1


def test_a_copy_acknowledged_around_the_loss_has_no_certain_place(history):
    history.journal.begin("old", kind="event", document=DOCUMENT)
    [number] = history.journal.publish(["old"])
    history.journal.lose_store("nats")
    history.journal.acknowledge("old", number, 41)
    history.publish("new")
    history.record("old", 1)
    history.record("new", 2)
    history.live(1)
    assert len(history.found) == 1, "its acknowledgement came before the other was published"


def test_an_acceptance_before_the_call_comes_before_it(history):
    history.publish("event")
    history.record("event", 2)
    history.answer("event", 2)
    history.call("call", 1)
    history.live(2)
    [line] = history.found
    assert "though upload call v1 came after it" in line
    history.live(1)
    assert history.found == []


def test_a_reply_before_the_publication_comes_before_it(history):
    history.call("call", 2)
    history.publish("event")
    history.record("event", 1)
    history.live(2)
    [line] = history.found
    assert "though event event (stream sequence 1) v1 came after it" in line


def test_an_event_acknowledged_before_the_call_comes_before_it(history):
    """It is handled only after the call was accepted."""
    history.publish("event")
    history.call("call", 1)
    history.record("event", 2)
    history.answer("event", 2)
    history.live(2)
    [line] = history.found
    assert "though upload call v1 came after it" in line
    history.live(1)
    assert history.found == []


def test_an_event_acknowledged_during_a_call_may_come_before_or_after(history):
    history.journal.begin("call", kind="upload", document=DOCUMENT)
    history.publish("event")
    history.record("call", 1)
    history.answer("call", 1)
    history.record("event", 2)
    for live in (1, 2):
        history.live(live)
        assert history.found == []


def test_an_event_without_an_acknowledgement_may_come_after_a_later_call(history):
    history.publish("event", acked=False)
    history.call("call", 1)
    history.record("event", 2)
    history.answer("event", 2)
    for live in (1, 2):
        history.live(live)
        assert history.found == []


def test_an_event_acknowledged_before_a_delete_is_deleted(history):
    history.publish("event")
    history.delete("delete")
    history.record("event", 1)
    history.live(1)
    assert len(history.found) == 1
    history.live(0)
    assert history.found == []


def test_an_event_that_is_older_than_an_accepted_one_is_older_than_the_call_after_that(history):
    """OLD is still on its way when NEW is accepted and a call comes after NEW."""
    history.publish("old", "new")
    history.record("new", 1)
    history.answer("new", 1)
    history.call("call", 2)
    history.record("old", 3)
    history.live(3)
    [line] = history.found
    assert "came after it" in line
    history.live(2)
    assert history.found == []


def test_two_calls_in_turn(history):
    history.call("first", 1)
    history.call("second", 2)
    history.live(1)
    assert len(history.found) == 1


def test_two_calls_that_overlap_may_come_in_either_order(history):
    for name in ("one", "two"):
        history.journal.begin(name, kind="upload", document=DOCUMENT)
    for version, name in enumerate(("one", "two"), 1):
        history.record(name, version)
        history.answer(name, version)
    for live in (1, 2):
        history.live(live)
        assert history.found == []


def test_a_call_without_an_answer_may_take_effect_at_any_later_time(history):
    history.journal.begin("call", kind="upload", document=DOCUMENT)
    history.journal.end("call", accepted=False, code="DEADLINE_EXCEEDED")
    history.publish("event")
    history.record("event", 1)
    history.record("call", 2)
    for live in (1, 2):
        history.live(live)
        assert history.found == []


def test_a_delete_is_a_writer(history):
    history.call("before", 1)
    history.delete("delete")
    assert history.found == []
    history.live(1)
    assert ["though delete delete came after it" in line for line in history.found] == [True]


def test_an_upload_after_a_delete_is_live(history):
    history.delete("delete")
    history.call("after", 1)
    [line] = history.found
    assert "no version is live, though upload after v1 came after it" in line
    history.live(1)
    assert history.found == []


def test_a_delete_without_an_answer_may_have_happened(history):
    history.call("before", 1)
    history.delete("delete", answered=False)
    for live in (0, 1):
        history.live(live)
        assert history.found == []


def test_a_late_event_does_not_bring_a_deleted_document_back(history):
    """NEW was accepted, then deleted; OLD, published before NEW, is handled only now."""
    history.publish("old", "new")
    history.record("new", 1, "DELETED", "DELETED")
    history.answer("new", 1)
    history.delete("delete")
    history.record("old", 2)
    history.live(2)
    assert len(history.found) == 1
    history.live(0)
    assert history.found == []


def test_a_version_that_failed_for_a_reason_leaves_the_one_before_live(history):
    history.call("good", 1)
    history.publish("bad")
    history.record("bad", 2, "PARSE_FAILED", "FAILED")
    history.live(1)
    assert history.found == []


def test_an_acknowledged_event_of_which_nothing_came_is_lost(history):
    history.publish("kept")
    history.journal.end("kept", accepted=False, code="NO_ANSWER")
    assert [line.startswith("lost: upload event kept") for line in history.found] == [True]


def test_an_event_lost_with_the_store_may_be_published_again(history):
    history.publish("gone")
    history.journal.lose_store("nats")
    assert history.found == []
    history.publish("gone")
    history.record("gone", 1)
    history.live(1)
    assert history.found == []


def test_an_event_that_was_refused_is_not_lost(history):
    history.publish("refused")
    history.journal.end("refused", accepted=False, result="BACKLOG_FULL", version=0)
    assert history.found == []


def test_an_event_that_was_refused_need_not_be_live(history):
    history.call("first", 1)
    history.publish("refused")
    history.evidence.uploads.append(
        {"request_id": "refused", "version": 0, "result": "BACKLOG_FULL"}
    )
    history.journal.end("refused", accepted=False, result="BACKLOG_FULL", version=0)
    history.live(1)
    assert history.found == []


def test_the_journal_keeps_the_order_of_publication_and_the_sequences(history):
    history.publish("old", "new", "old")
    history.publish("unknown", acked=False)
    copies = history.journal.copies
    assert [copy.sequence for copy in copies["old"]] == [1, 3]
    assert [copy.place for copy in copies["unknown"]] == [None]
    assert copies["old"][0].begun < copies["new"][0].begun < copies["old"][1].begun
    text = history.journal.path.read_text()
    assert text.index('"publish": "old"') < text.index('"publish": "new"')
    assert '"ack": "new", "copy": 0, "sequence": 2, "store": 0' in text


def test_an_event_that_a_deletion_of_its_collection_met_may_be_refused(history):
    history.publish("late")
    history.delete("delete", answered=False)
    history.journal.end("late", accepted=False, result=DELETED, version=0)
    assert history.found == []


def test_an_event_refused_with_a_collection_that_was_deleted_before_it_is_found(history):
    history.delete("delete")
    history.publish("new")
    history.journal.end("new", accepted=False, result=DELETED, version=0)
    assert ["and no delete came after" in line for line in history.found] == [True]


def test_an_event_refused_with_a_collection_that_nobody_deleted_is_found(history):
    history.publish("new")
    history.journal.end("new", accepted=False, result=DELETED, version=0)
    assert ["and no delete came after" in line for line in history.found] == [True]
