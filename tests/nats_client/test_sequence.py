"""Whatever a consumer sends, each message is delivered once and in order, or the consumer is in doubt."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nats_client.connection.arrivals import BEFORE, Arrived, MessageBlock
from nats_client.streams.sequence import AnotherStreamError, DoubtError, Position, Taken, Tracker

Ack = tuple[int, int, int, int]
"""Stream sequence, consumer sequence, time of storage, messages still to come."""
STATUS = {"Status": "100", "Description": "Idle Heartbeat"}


def stored(seq: int) -> int:
    """The time at which an undisturbed stream stored the message."""
    return 1_000 + 10 * seq


def subject_of(seq: int) -> bytes:
    """One of three subjects."""
    return b"s.%d" % (seq % 3)


def acks_of(seqs: list[int]) -> list[Ack]:
    """What a new consumer reports with these messages."""
    return [(seq, at + 1, stored(seq), len(seqs) - at - 1) for at, seq in enumerate(seqs)]


def single(ack: Ack, *, domain: bool = False) -> Arrived:
    """One message as it arrives by itself."""
    seq, order, when, pending = ack
    before = b"$JS.ACK.hub.account.S.c.1" if domain else b"$JS.ACK.S.c.1"
    tail = b".token" if domain else b""
    reply = b"%s.%d.%d.%d.%d%s" % (before, seq, order, when, pending, tail)
    return subject_of(seq), reply, b"%d" % seq, None


def block(acks: list[Ack]) -> MessageBlock:
    """Messages as they arrive together."""
    return MessageBlock(
        [BEFORE + subject_of(seq) for seq, *_ in acks],
        np.array(acks, dtype=np.int64).reshape(-1, 4),
        [b"%d" % seq for seq, *_ in acks],
    )


def heartbeat(sent: int) -> Arrived:
    """A heartbeat of a consumer that has sent so many messages."""
    return b"inbox", b"", b"", STATUS | {"Nats-Last-Consumer": str(sent)}


def arrive(acks: list[Ack], sizes: list[int]) -> list[Arrived | MessageBlock]:
    """The same messages in parts of these sizes: a size of 1 by itself, in either version of the reply
    subject; a larger one together."""
    parts: list[Arrived | MessageBlock] = []
    at = 0
    while at < len(acks):
        size = sizes[len(parts) % len(sizes)]
        part = acks[at : at + size]
        parts.append(single(part[0], domain=at % 2 == 0) if size == 1 else block(part))
        at += size
    return parts


def disturb(acks: list[Ack], faults: list[tuple[str, int]]) -> list[Ack]:
    """The messages as they arrive if some are lost, doubled or moved."""
    acks = list(acks)
    for fault, place in faults:
        if not acks:
            break
        at = place % len(acks)
        if fault == "lose":
            del acks[at]
        elif fault == "double":
            acks.insert(at, acks[at])
        else:
            acks.insert(0, acks.pop(at))
    return acks


FAULTS = st.lists(st.tuples(st.sampled_from(["lose", "double", "move"]), st.integers(0, 40)), max_size=3)
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=4)


@given(
    st.sets(st.integers(1, 60), min_size=1, max_size=40),
    st.lists(st.tuples(FAULTS, st.sets(st.integers(1, 60), max_size=6), st.integers(0, 9)), max_size=5),
    SIZES,
    st.sampled_from([None, ">", "s.*"]),
)
@example({1, 2, 3}, [([("lose", 2)], set(), 0)], [5], None)
def test_each_message_once_in_order_or_a_doubt(
    held: set[int], tries: list[tuple[list[tuple[str, int]], set[int], int]], sizes: list[int], subject: str
) -> None:
    """Messages may be lost, doubled, moved or purged, and the consumer recreated any number of times. All
    messages that the stream still holds are delivered, each once and in order. A consumer whose messages did
    not arrive as sent is put in doubt. Without a filter, each message that was purged unread is counted."""
    delivered: list[int] = []
    at, gone = Position(), 0
    for faults, purged, split in [*tries, ([], set(), 0)]:
        tracker, at = Tracker(None), Position(at.last, known_at=at.known_at)
        held = held - purged
        sent = acks_of([seq for seq in sorted(held) if seq >= at.last])
        arrived = disturb(sent, faults)
        parts = [*arrive(arrived, sizes), heartbeat(len(sent))]
        doubt = None
        for batch in (parts[:split], parts[split:]):
            taken = tracker.take(batch, at, subject)
            at, doubt = taken.at, taken.doubt
            delivered += taken.raw.seq
            gone += sum(count for count, _, _ in taken.gone)
            assert [b"%d" % seq for seq in taken.raw.seq] == taken.raw.payload
            assert [subject_of(seq).decode() for seq in taken.raw.seq] == taken.raw.subject
            assert list(map(stored, taken.raw.seq)) == list(taken.raw.received)
            if doubt:
                break
        assert bool(doubt) == (arrived != sent)
        assert delivered == sorted(set(delivered))
    assert held <= set(delivered)
    if subject is None and delivered:
        assert len(delivered) + gone == delivered[-1] - delivered[0] + 1
    else:
        assert not gone


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 12)), min_size=1, max_size=12),
    st.integers(-1, 10),
    st.one_of(st.none(), st.integers(1, 30)),
    st.sampled_from([None, ">"]),
)
def test_a_run_is_the_same_as_its_messages_one_by_one(
    said: list[tuple[int, int]], last: int, until: int | None, subject: str | None
) -> None:
    """A block of messages gives the same result as its messages one by one, even if their sequences make no
    sense."""
    acks = [(seq, order, stored(seq), len(said)) for seq, order in said]
    before = Position(last, known_at=stored(last) if last >= 0 else None)
    together = Tracker(until).take([block(acks)], before, subject)
    each = Tracker(until).take([single(ack) for ack in acks], before, subject)
    assert together == each


@given(st.sets(st.integers(1, 40), min_size=1), st.integers(1, 40), SIZES)
def test_nothing_from_the_end_on_is_taken(held: set[int], until: int, sizes: list[int]) -> None:
    """With an end, exactly the messages before it are delivered, and the position shows when the end is
    reached."""
    sent = acks_of(sorted(held))
    taken = Tracker(until).take(arrive(sent, sizes), Position(), ">")
    assert list(taken.raw.seq) == [seq for seq in sorted(held) if seq < until]
    assert (taken.at.last == until - 1) == (max(held) >= until or until - 1 in held)


@pytest.mark.parametrize("together", [False, True])
def test_the_last_message_must_be_the_same_again(together: bool) -> None:
    """A consumer sends the last known message once more. If its storage time is the same, it is not delivered
    again; if not, the stream is another one, and nothing of it is delivered."""
    read = Position(7, known_at=stored(7))
    sound = acks_of([7, 8])
    parts: list[Arrived | MessageBlock] = [block(sound)] if together else list(map(single, sound))
    assert list(Tracker(None).take(parts, read, None).raw.seq) == [8]
    other = [(seq, order, when + 1, pending) for seq, order, when, pending in sound]
    parts = [block(other)] if together else list(map(single, other))
    with pytest.raises(AnotherStreamError):
        Tracker(None).take(parts, read, None)
    assert read == Position(7, known_at=stored(7))


def test_what_was_not_asked_for_is_a_doubt() -> None:
    """A message whose subject the filter does not match puts the consumer in doubt."""
    parts: list[list[Arrived | MessageBlock]] = [[single(acks_of([1])[0])], [block(acks_of([1]))]]
    for batch in parts:
        with pytest.raises(DoubtError, match=r"'s\.1', which its filter does not match"):
            Tracker(None).take(batch, Position(), "other.*")


def test_status_messages() -> None:
    """Flow control requires a reply. A heartbeat that reports more messages than have arrived is a doubt; an
    idle consumer's heartbeat means that none is pending. Any other status is a doubt."""
    behind = Position(3, expected=4, pending=9)

    def taken(reply: bytes, headers: dict[str, str]) -> Taken:
        return Tracker(None).take([(b"inbox", reply, b"", headers)], behind, None)

    asked = taken(b"$JS.FC.S.c.1", STATUS)
    assert (asked.replies, asked.doubt, asked.at.pending) == (["$JS.FC.S.c.1"], None, 9)
    stalled = taken(b"", STATUS | {"Nats-Consumer-Stalled": "$JS.FC.S.c.2", "Nats-Last-Consumer": "3"})
    assert (stalled.replies, stalled.doubt, stalled.at.pending) == (["$JS.FC.S.c.2"], None, 9)
    idle = taken(b"", STATUS | {"Nats-Last-Consumer": "3"})
    assert (idle.replies, idle.doubt, idle.at.pending) == ([], None, 0)
    missing = taken(b"", STATUS | {"Nats-Last-Consumer": "5"})
    assert missing.doubt == "consumer sequences 4 to 5 are missing"
    ended = taken(b"", {"Status": "409", "Description": "Consumer Deleted"})
    assert ended.doubt == "the server reports status 409 Consumer Deleted"


def test_what_is_behind_a_doubt_is_not_taken() -> None:
    """Messages that arrived before a doubt are delivered; later ones are not."""
    sent = acks_of([1, 2, 3, 4])
    for parts in ((block([*sent[:2], sent[3]]),), (block(sent[:2]), single(sent[3]), block(sent[2:3]))):
        taken = Tracker(None).take(parts, Position(), None)
        assert list(taken.raw.seq) == [1, 2]
        assert taken.at.last == 2
        assert taken.doubt == "consumer sequence 3 is missing"
