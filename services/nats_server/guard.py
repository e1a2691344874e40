"""Run a program that never outlives the process that started it, however that process dies.

    python -S -E guard.py GRACE_SECONDS PROGRAM [ARGUMENT ...]

The starter has the other end of this program's standard input. At end of file, which also happens when the
starter is killed, the guarded program gets SIGTERM and, GRACE_SECONDS later, SIGKILL. This file imports
little, and only from the standard library: a guard costs a few MB.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

# pragma: no cover in this file: it runs without site packages, so nothing can count its lines

PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)


def die_with_guard() -> Callable[[], None] | None:
    """A hook for the guarded process: on Linux the kernel kills it when the guard itself is killed."""
    if sys.platform != "linux":
        return None
    import ctypes

    libc = ctypes.CDLL(None)  # loaded before the fork: little is safe between fork and exec
    guard = os.getpid()

    def hook() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # the guard died before the call above
            os._exit(1)

    return hook


def end(program: subprocess.Popen[bytes], grace: float) -> None:
    """Terminate the program, and kill it if it has not ended after `grace` seconds."""
    program.terminate()
    try:
        program.wait(grace)
    except subprocess.TimeoutExpired:
        program.kill()


def main() -> int:
    """Start the program, wait until it ends, and return its exit status as a shell would."""
    grace, command = float(sys.argv[1]), sys.argv[2:]
    # The kernel's signal fires when the *thread* that forked ends. So fork in the main thread, before
    # starting any other.
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_guard())

    def watch_starter() -> None:
        while os.read(0, 4096):
            pass
        end(program, grace)

    ending = threading.Thread(target=watch_starter, daemon=True)
    ending.start()

    def on_signal(signum: int, frame: object) -> None:
        # In another thread, because Popen.wait() in this one holds the lock that end() needs.
        threading.Thread(target=end, args=(program, grace), daemon=True).start()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    status = program.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
