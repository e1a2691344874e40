"""An operator's own decoders: each is a Python file with a function decode(), run in a process of its own."""

import datetime as dt
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nats_client.decoding import own_decoders, schema_files
from nats_client.decoding.decode import decode
from nats_client.decoding.decoder import Question
from nats_client.decoding.decoders import check_decoder, offered_decoders
from nats_client.decoding.own_decoders import MOST_HUNG, PATIENCE, OwnDecoder
from nats_client.decoding.raw import Raw
from nats_client.errors import SettingsError

SOUND = """
import datetime
from decimal import Decimal

def decode(payload, subject, headers):
    print("a decoder may print")
    return {
        "n": len(payload), "subject": subject, "head": headers.get("x"),
        "at": datetime.datetime(2026, 1, 2), "d": Decimal("1.5"), "raw": payload,
    }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of decoders."""
    monkeypatch.setattr(schema_files, "FOLDER", tmp_path)
    yield tmp_path
    own_decoders.close_all()


def asked(*payloads: bytes) -> list[Question]:
    """Messages without headers."""
    return [(payload, "s", {}) for payload in payloads]


def own(folder: Path, text: str) -> OwnDecoder:
    """A decoder with this text."""
    file = folder / "own.py"
    file.write_text(text)
    return OwnDecoder(file)


def test_it_is_found_by_name(folder: Path) -> None:
    """A file in the folder is offered as a decoder under its name. It receives payload, subject and headers,
    and the times, decimals and bytes that it returns become values."""
    (folder / "mine.py").write_text(SOUND)
    assert "mine" in offered_decoders()
    raw = Raw([1, 2], [10**18] * 2, ["a.b", "a.c"], [b"xyz", b""], {1: {"X": "head"}})
    batch, _, malformed = decode(raw, check_decoder("mine"), None)
    assert malformed == 0
    found = {name: values[0] for name, values in batch.values.items()}  # type: ignore[index]
    assert (found["n"], found["subject"], found["head"]) == (3, "a.b", "head")
    assert (found["d"], found["raw"]) == (1.5, "0x78797a")
    assert dt.datetime(2026, 1, 2).isoformat() in str(found["at"])


def test_it_throws(folder: Path) -> None:
    """A message for which the decoder raises is malformed, with the exception as the reason; its neighbours
    are rows."""
    decoder = own(folder, "def decode(payload):\n    return 1 / int(payload)")
    answers = decoder.each(asked(b"1", b"0", b"x", b"2"))
    assert [good for good, _ in answers] == [True, False, False, True]
    assert answers[1][1] == "the decoder 'own' failed: ZeroDivisionError: division by zero"


def test_it_hangs(folder: Path) -> None:
    """A message on which the decoder hangs is malformed after a bounded time; its neighbours are rows."""
    decoder = own(folder, "def decode(payload):\n    while payload == b'hang': pass\n    return 1")
    answers = decoder.each(asked(b"a", b"hang", b"b"))
    assert [good for good, _ in answers] == [True, False, True]
    assert "did not finish within" in answers[1][1]


def test_it_always_hangs(folder: Path) -> None:
    """A decoder that hangs several times in a row rests for a while, so a thousand messages do not take a
    thousand times its limit."""
    decoder = own(folder, "import time\ndef decode(payload):\n    time.sleep(1000)")
    start = time.monotonic()
    answers = decoder.each(asked(*[b"a"] * 1000))
    spent = time.monotonic() - start
    assert len(answers) == 1000
    assert not any(good for good, _ in answers)
    assert f"{MOST_HUNG} times in a row" in answers[-1][1]
    assert spent < 1000 * PATIENCE / 2


@pytest.mark.parametrize(
    "body", ["import os; os._exit(1)", "return [0] * 10**10", "return {'a': [[[]] * 10**6] * 1000}"]
)
def test_it_takes_too_much(folder: Path, body: str) -> None:
    """A message for which the decoder ends its process, or exceeds its memory limit, is malformed; its
    neighbours are rows."""
    decoder = own(folder, f"def decode(payload):\n    if payload: {body}\n    return 1")
    answers = decoder.each(asked(b"", b"x", b""))
    assert [good for good, _ in answers] == [True, False, True]


def test_its_memory_is_a_setting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator sets a decoder's memory limit. After a message that exceeds it, the decoder continues with
    the next message."""
    body = "def decode(payload):\n    return len(bytes(100 << 20 if payload else 0))"
    assert [good for good, _ in own(folder, body).each(asked(b"x"))] == [True]
    monkeypatch.setenv("LOOKBACK_DECODER_MEMORY", "96 MiB")
    assert [good for good, _ in own(folder, body).each(asked(b"", b"x", b""))] == [True, False, True]


@pytest.mark.parametrize("text", ["def decode(", "import nothing_of_this_name", "x = 1", "raise SystemExit"])
def test_it_cannot_be_loaded(folder: Path, text: str) -> None:
    """If a file cannot be loaded or has no function decode(), each message is malformed with the reason."""
    ((good, reason),) = own(folder, text).each(asked(b"a"))
    assert not good
    assert reason.startswith("the decoder 'own' failed: ")


def test_it_is_edited(folder: Path) -> None:
    """An edited file takes effect with the next message, even if it was broken before. Its key changes, so
    feeds with the new version are new feeds."""
    decoder = own(folder, "def decode(")
    assert not decoder.each(asked(b"a"))[0][0]
    before = check_decoder("own")
    decoder.file.write_text("def decode(payload):\n    return 2")
    os.utime(decoder.file, ns=(1, 1))
    assert decoder.each(asked(b"a")) == [(True, 2)]
    assert check_decoder("own") != before


def test_it_is_removed(folder: Path) -> None:
    """A decoder whose file is gone is refused by name."""
    with pytest.raises(SettingsError, match="There is no decoder 'mine'"):
        check_decoder("mine")


def test_other_files_are_no_decoders(folder: Path) -> None:
    """Only a file in the folder whose name is a Python identifier is a decoder."""
    (folder / "not-a-name.py").write_text(SOUND)
    assert own_decoders.own_names() == []
    for name in ("not-a-name", "../mine", "mine.py", ""):
        with pytest.raises(SettingsError):
            check_decoder(name)
