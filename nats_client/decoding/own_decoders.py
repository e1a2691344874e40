"""Custom decoders: each is a file NAME.py in the folder, with a function decode(payload).

The function may also take the subject, and the headers as a dict: decode(payload, subject, headers). It
returns a value as in JSON, which may also contain times, bytes and decimals. It runs in a separate process.
"""

import atexit
import contextlib
import pickle
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import environment
from ..errors import SettingsError, one_of
from .decoder import Answer, Decoder, Question
from .schema_files import FileVersion, file_version, files_with

PATIENCE = 1.0
"""Seconds that one message may take."""
START = 10.0
"""Seconds that loading the file may take."""
MOST_HUNG = 3
"""Messages in a row that may hang before the decoder rests."""
REST = 10.0
"""Seconds that a decoder rests after it has hung MOST_HUNG times in a row, or could not be loaded."""
AT_ONCE = 200
"""Messages sent to the process in one part."""
LARGEST_ANSWER = 1 << 27


def own_names() -> list[str]:
    """Names of the decoders in the folder."""
    return [file.stem for file in files_with(".py") if file.stem.isidentifier()]


def decoder_file(name: str) -> Path:
    """The file of the decoder `name`. Raises SettingsError if there is none."""
    known = {file.stem: file for file in files_with(".py")}
    if name not in known:
        raise SettingsError(f"There is no decoder {name!r}. " + one_of(name, known, what="decoder"))
    return known[name]


def own_decoder(name: str) -> Decoder:
    """The decoder `name` of the folder. Raises SettingsError if there is none."""
    return _decoder_in(decoder_file(name))


@lru_cache(maxsize=64)
def _decoder_in(file: Path) -> Decoder:
    return Decoder(_alone, many=OwnDecoder(file).each)


def _alone(payload: bytes) -> Any:
    raise ValueError("a custom decoder decodes many messages at once")


class OwnDecoder:
    """One file, and the process that runs it. Thread-safe."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._version: FileVersion = (0, 0)
        self._hung = 0
        self._rests_until = 0.0
        self._why = ""
        _all.append(self)

    def each(self, questions: Sequence[Question]) -> list[Answer]:
        """Decode messages. Takes at most MOST_HUNG times PATIENCE longer than the decoder itself."""
        with self._lock:
            if (now := file_version(self.file)) != self._version:
                self._end()
                self._version, self._hung, self._rests_until = now, 0, 0.0
            found: list[Answer] = []
            while len(found) < len(questions):
                part = questions[len(found) : len(found) + AT_ONCE]
                if time.monotonic() < self._rests_until:
                    found += [(False, self._why)] * (len(questions) - len(found))
                    break
                found += self._asked(part)
            return found

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _asked(self, part: Sequence[Question]) -> list[Answer]:
        """Answers for the messages of `part`, up to the first that hangs; none if the process does not
        start."""
        if self._process is None and not self._start():
            return []
        assert self._process is not None
        assert self._process.stdin is not None
        content = pickle.dumps(list(part), protocol=5)
        try:
            self._process.stdin.write(struct.pack("<I", len(content)) + content)
            self._process.stdin.flush()
        except OSError:
            return [self._lost("its process ended")]
        found: list[Answer] = []
        for _ in part:
            try:
                answer = self._answers.get(timeout=PATIENCE)
            except queue.Empty:
                return [*found, self._lost(f"it did not finish within {PATIENCE:g} s")]
            if answer is None:
                return [*found, self._lost("its process ended")]
            self._hung = 0
            found.append(answer if answer[0] else (False, self._said(answer[1])))
        return found

    def _said(self, why: str) -> str:
        return f"the decoder {self.file.stem!r} failed: {why}"

    def _lost(self, why: str) -> Answer:
        """End the process because it did not answer a message. Returns the answer for that message."""
        self._end()
        self._hung += 1
        if self._hung >= MOST_HUNG:
            self._rest(f"{why}, {self._hung} times in a row, so it rests for {REST:g} s")
        return False, self._said(why)

    def _rest(self, why: str) -> None:
        self._why, self._rests_until = self._said(why), time.monotonic() + REST
        self._hung = 0

    def _start(self) -> bool:
        self._answers = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("own_process.py")),
                str(self.file),
                str(environment.DECODER_MEMORY.read()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        threading.Thread(target=self._read, args=(self._process, self._answers), daemon=True).start()
        try:
            answer = self._answers.get(timeout=START)
        except queue.Empty:
            answer = (False, f"it was not loaded within {START:g} s")
        if answer is None or not answer[0]:
            self._end()
            self._rest("its process ended" if answer is None else str(answer[1]))
            return False
        return True

    @staticmethod
    def _read(process: "subprocess.Popen[bytes]", answers: "queue.SimpleQueue[Answer | None]") -> None:
        assert process.stdout is not None
        with contextlib.suppress(OSError, ValueError, EOFError, struct.error, pickle.UnpicklingError):
            for part in _parts(process.stdout):
                answers.put(part)
        answers.put(None)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def _parts(stream: Any) -> Iterator[Answer]:
    while head := stream.read(4):
        (length,) = struct.unpack("<I", head)
        if length > LARGEST_ANSWER:
            return
        yield pickle.loads(stream.read(length))  # noqa: S301 - from a process that runs the owner's code


_all: list[OwnDecoder] = []


@atexit.register
def close_all() -> None:
    """End all processes."""
    for each in _all:
        each.close()
