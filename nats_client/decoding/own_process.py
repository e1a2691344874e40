"""Runs a custom decoder in a separate process, which can be killed when the decoder hangs.

    python own_process.py FILE BYTES

reads lists of messages from its standard input and answers each message with a value, or with the reason why
there is none. Each part is a pickle, after its length in four bytes (little-endian). BYTES is the memory
limit of the process.
"""

import contextlib
import faulthandler
import importlib.util
import inspect
import os
import pickle
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

STUCK = 10.0
"""Seconds after which a hanging process ends itself, in case the app that would kill it is gone."""


def loaded(file: str, name: str) -> Any:
    """The module in `file`."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def function_in(file: str) -> Callable[[bytes, str, dict[str, str]], Any]:
    """The function `decode` of `file`, called with only as many arguments as it takes."""
    module = loaded(file, "own_decoder")
    own = getattr(module, "decode", None)
    if not callable(own):
        raise ValueError("there is no function decode(payload)")
    count = len(inspect.signature(own).parameters)
    return lambda payload, subject, headers: own(*(payload, subject, headers)[:count])


def send(answers: BinaryIO, value: Any) -> None:
    """Write one part."""
    content = pickle.dumps(value, protocol=5)
    answers.write(struct.pack("<I", len(content)) + content)


def main() -> None:
    """Answer until the standard input ends."""
    questions = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Keep what the decoder prints out of the answers.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    plain = loaded(os.path.join(os.path.dirname(__file__), "plain_values.py"), "plain_values").plain  # noqa: PTH118, PTH120
    try:
        decode = function_in(sys.argv[1])
        send(answers, (True, None))
    except BaseException as error:
        send(answers, (False, f"{type(error).__name__}: {str(error)[:200]}"))
        answers.flush()
        return
    answers.flush()
    armed = 0.0
    while head := questions.read(4):
        for payload, subject, headers in pickle.loads(questions.read(struct.unpack("<I", head)[0])):  # noqa: S301 - from the app itself
            if time.monotonic() - armed > STUCK / 4:
                armed = time.monotonic()
                faulthandler.dump_traceback_later(STUCK, exit=True, file=sys.stderr)
            try:
                send(answers, (True, plain(decode(payload, subject, headers))))
            except Exception as error:
                send(answers, (False, f"{type(error).__name__}: {str(error)[:200]}"))
            answers.flush()
        faulthandler.cancel_dump_traceback_later()
        armed = 0.0


if __name__ == "__main__":
    main()
