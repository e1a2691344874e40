"""Filters, and patterns that name their tokens."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_client import Client, Settings
from nats_client.decoding.decode import decode
from nats_client.decoding.raw import Raw
from nats_client.errors import SubjectError
from nats_client.subjects import (
    ENVELOPE,
    Pattern,
    check_bucket,
    check_filter,
    check_key,
    check_stream_name,
    check_subject,
    filters_of,
    matches_any,
    parse_pattern,
    parse_patterns,
    token_columns,
)
from nats_client.table.window import Window
from tests.nats import running_server

word = st.text("abcxyz019-_$é", min_size=1, max_size=4)
name = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True).filter(lambda name: name not in ENVELOPE)


@st.composite
def patterns(draw: st.DrawFn) -> tuple[list[str], dict[str, int]]:
    """The tokens of a filter, and the place of the token for each name."""
    tokens = draw(st.lists(st.one_of(word, st.just("*")), min_size=1, max_size=6))
    if draw(st.booleans()):
        tokens.append(">")
    wild = [i for i, token in enumerate(tokens) if token in "*>"]
    named = draw(st.lists(st.sampled_from(wild), unique=True)) if wild else []
    names = draw(st.lists(name, unique=True, min_size=len(named), max_size=len(named)))
    return tokens, dict(zip(names, named, strict=True))


@given(patterns(), st.data())
def test_a_pattern_is_its_filter_and_reads_what_the_filter_matches(
    pattern: tuple[list[str], dict[str, int]], data: st.DataObject
) -> None:
    """Naming tokens does not change the filter, and each name reads its own token."""
    tokens, names = pattern
    written = list(tokens)
    for called, i in names.items():
        written[i] = f"{{{called}>}}" if tokens[i] == ">" else f"{{{called}}}"
    parsed = parse_pattern(".".join(written))
    assert parsed.filter == ".".join(tokens)
    subject: list[str] = []
    for token in tokens:
        subject += data.draw(
            st.lists(word, min_size=1, max_size=1 if token == "*" else 4)
            if token in "*>"
            else st.just([token])
        )
    columns = token_columns(parsed.names, [".".join(subject)])
    expected = {
        called: [".".join(subject[i:]) if tokens[i] == ">" else subject[i]] for called, i in names.items()
    }
    assert columns == expected


@pytest.mark.parametrize("subject", ["a", "a.*.b", ">", "a.>", "$KV.b.>"])
def test_a_plain_filter_is_as_it_is(subject: str) -> None:
    """A subject without braces is its own filter, and names no token."""
    assert parse_pattern(subject) == Pattern(subject)


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("metrics.{}", "'metrics.{}' has empty braces. Name the token, as in 'metrics.{kind}'"),
        ("metrics.{>}", "has empty braces"),
        ("a.{x}.{x}", "names two tokens 'x'. Use different names."),
        (
            "a.b{x}",
            "The token 'b{x}' of the subject 'a.b{x}' is not valid. A name in braces must be the whole token",
        ),
        ("a.{x", "The token '{x'"),
        ("a.{{x}}", "The token '{{x}}'"),
        ("a.{x}y", "Use * to match tokens"),
        ("{rest>}.b", "The token '{rest>}' of the subject '{rest>}.b' matches all remaining tokens"),
        ("a.{_subject}", "names a token '_subject', which is a column of every row."),
        ("{_seq}.{_time}", "'_seq'"),
        ("a.{two words}", "names a token 'two words', which is not a column name"),
        ("a.{1st}", "letters, digits and underscores"),
        ("a..{x}", "The subject 'a..{x}' is not valid"),
        ("a.>.{x}", "is not valid"),
        ("a.b*.{x}", "is not valid"),
        ("", "is not valid"),
        (5, "The subject 5 is not valid"),
    ],
)
def test_what_cannot_be_read_is_told(subject: str, said: str) -> None:
    """The error for an invalid pattern names the mistake and how to correct it."""
    with pytest.raises(SubjectError, match=re.escape(said)):
        parse_pattern(subject)


def window(*messages: tuple[str, bytes]) -> Window:
    """A window of these subjects and payloads, in batches of three."""
    made = Window()
    for first in range(0, len(messages), 3):
        part = messages[first : first + 3]
        seqs = list(range(first + 1, first + 1 + len(part)))
        batch, _, bad = decode(Raw(seqs, seqs, [s for s, _ in part], [p for _, p in part]), "json", None)
        assert not bad
        made.append(batch)
    return made


def test_tokens_are_columns() -> None:
    """Named tokens are text columns from the first row on, also if a message has several rows."""
    rows = window(
        ("m.cpu.a.b", b"1"),
        ("m.ram.c", b"[2, 3]"),
        ("m.cpu.c", b"4"),
        ("m.cpu.a.b", b"5"),
    )
    snapshot = rows.snapshot().named(parse_pattern("m.{kind}.{rest>}").names)
    assert snapshot.columns == {"_subject": "text", "kind": "text", "rest": "text", "value": "number"}
    assert snapshot.frame()["kind"].tolist() == ["cpu", "ram", "ram", "cpu", "cpu"]
    assert snapshot.frame()["rest"].tolist() == ["a.b", "c", "c", "c", "a.b"]
    assert snapshot.latest("value", by="rest").to_dict() == {"a.b": 5, "c": 4}


def test_a_payload_field_keeps_its_value_beside_a_token() -> None:
    """A payload cannot overwrite a token; its field of that name gets "payload" in front."""
    held = window(("m.one", b'{"host": "two", "n": {"host": 7}}')).snapshot()
    rows = held.named(parse_pattern("m.{host}").names).frame()
    assert held.frame()["host"].tolist() == ["two"]
    assert rows["host"].tolist() == ["one"]
    assert rows["payloadhost"].tolist() == ["two"]
    assert rows["n.host"].tolist() == [7]


def test_tokens_outlive_removal_and_older_rows_in_front() -> None:
    """Each row keeps its own tokens when other rows are removed, or older ones are put in front."""
    rows = window(*[(f"m.x{i}", b"1") for i in range(10, 20)])
    rows.remove(np.array([3, 5]))
    rows.prepend(window(*[(f"m.x{i}", b"1") for i in range(4)]))
    frame = rows.snapshot().named(("", "x")).frame()
    assert frame["x"].tolist() == [subject[2:] for subject in frame["_subject"]]
    assert len(frame) == 12


def test_names_are_part_of_a_feed(tmp_path: Path) -> None:
    """Pages that name the tokens of one filter differently share one consumer and one window; each has its
    own names."""
    with running_server(tmp_path) as server, Client(Settings(url=server.url)) as client:
        server.add_stream("S", ["s.>"])
        server.publish("s.one.two", b'{"n": 1}')
        server.publish("s.one", b'{"n": 2}')
        feed = client.feed("S", "s.{a}.{b}")
        assert client.feed("S", "s.{a}.{b}") is feed
        other, plain = client.feed("S", "s.{b}.{a}"), client.feed("S", "s.*.*")
        assert other is not feed
        assert other.window is plain.window is feed.window
        for i in range(50):
            client.feed("S", f"s.{{name{i}}}.*")
        assert len(client.feeds()) == 1
        every = client.feed("S", "{all>}")
        assert feed.wait(30)
        assert every.wait(30)
        assert feed.frame()[["a", "b", "n"]].to_numpy().tolist() == [["one", "two", 1]]
        assert other.frame()[["b", "a", "n"]].to_numpy().tolist() == [["one", "two", 1]]
        assert list(plain.frame()) == ["_subject", "_seq", "n"]
        assert len(client.feeds()) == 2
        assert every.frame()["all"].tolist() == ["s.one.two", "s.one"]
        assert feed.health.name == "S s.*.*"


CHECKS: list[Callable[[str], object]] = [
    check_filter,
    check_subject,
    check_stream_name,
    check_bucket,
    check_key,
    lambda text: parse_pattern(text).filter,
]
hostile = (
    st.text(st.sampled_from("ab.*>{} \t\r\n\0$\ud800💥/\\"), max_size=12) | st.text() | st.just("a" * 5000)
)


@pytest.mark.parametrize("check", CHECKS)
@given(hostile)
def test_what_passes_is_one_word_of_the_protocol(check: Callable[[str], object], text: str) -> None:
    """Any text from a URL is either refused with an error or is a single word of the protocol. It is short
    enough for its line to stay below the server's 4,096 bytes."""
    try:
        passed = check(text)
    except SubjectError:
        return
    assert isinstance(passed, str)
    assert passed
    assert not set(passed) & set(" \t\r\n\0")
    assert len(passed.encode()) <= 1000


@pytest.mark.parametrize(
    ("check", "longest"),
    [(check_filter, 1000), (check_stream_name, 255), (check_bucket, 252), (check_key, 1000)],
)
def test_longest(check: Callable[[str], str], longest: int) -> None:
    """A name of `longest` bytes is accepted. One more byte is an error, whose text is short."""
    assert check("a" * longest) == "a" * longest
    with pytest.raises(SubjectError) as refused:
        check("a" * (longest + 1))
    assert len(str(refused.value)) < 300


def test_long_subjects_cost_nobody_the_connection(tmp_path: Path) -> None:
    """A filter, a name or a key that is too long is refused before it is sent: the server would end the
    connection that all viewers share."""
    with running_server(tmp_path) as server:
        server.add_stream("S", ["s.>"])
        with Client(Settings(url=server.url)) as client:
            assert client.wait(30)
            since = client.state.since
            longest = client.feed("S", "s." + "x" * 998)
            for ask in (
                lambda: client.feed("S", "s." + "x" * 5000),
                lambda: client.feed("S", "s." + "💥" * 400),
                lambda: client.feed("x" * 5000),
                lambda: client.values("x" * 5000),
                lambda: client.history("b", "x" * 5000),
                lambda: client.subjects("S", "x" * 5000),
            ):
                with pytest.raises(SubjectError):
                    ask()
            assert longest.wait(30)
            assert longest.health.phase == "following"
            assert client.state.status == "connected"
            assert client.state.since == since


@pytest.mark.parametrize(
    ("subjects", "joined", "names"),
    [
        ("a.>", "a.>", ()),
        (["b.*", "a.>"], "a.> b.*", ()),
        (["a.>", "a.b", "a.>"], "a.>", ()),
        (["a.b", ">"], ">", ()),
        (["a.{x}", "b.{x}"], "a.* b.*", ("", "x")),
    ],
)
def test_several_patterns(subjects: str | list[str], joined: str, names: tuple[str, ...]) -> None:
    """Several filters become one pattern, sorted, without filters that lie within others."""
    assert parse_patterns(subjects) == (joined, names)
    assert filters_of(joined) == joined.split()
    assert matches_any("a.b", joined)
    assert matches_any("c.d", joined) is (joined == ">")


@pytest.mark.parametrize(
    ("subjects", "sentence"),
    [
        ([], "The list of subjects is empty"),
        (["a.*", "*.b"], "'*.b' and 'a.*' overlap"),
        (["a.{x}", "b.{y}"], "name different tokens"),
        (["a b", "c"], "'a b' is not valid"),
        ([f"a{i}" for i in range(17)], "17 subjects are too many"),
    ],
)
def test_several_patterns_that_cannot_be(subjects: list[str], sentence: str) -> None:
    """Filters that cannot be combined are refused with the reason."""
    with pytest.raises(SubjectError, match=re.escape(sentence)):
        parse_patterns(subjects)


def test_plain_subjects_one_at_a_time() -> None:
    """Several filters of plain subjects are refused: they are read one filter at a time."""
    with (
        Client(Settings(url="nats://127.0.0.1:9")) as client,
        pytest.raises(SubjectError, match="one filter at a time"),
    ):
        client.feed(None, ["a.>", "b.>"])
