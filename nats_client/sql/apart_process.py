"""Runs one checked SELECT in a process of its own; see apart.py.

The job names the tables, which are in the first file as Arrow streams. The result is written to the second
file. The module imports only DuckDB and Arrow, because each query has a process of its own and so pays for
the memory of every import.
"""

import contextlib
import json
import mmap
import os
import pickle
import resource
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from ..errors import SqlError
from ..processes import bound
from .bounded import Limits, Parameter, read
from .guard import Statement, connect

LESS_URGENT = 5
"""Added to the niceness of the process; see nice(1)."""
MOST_JOB = 1 << 20
"""Maximum bytes of a job, including its SQL and its parameters."""


@dataclass(frozen=True)
class Job:
    """What to compute."""

    statement: Statement
    parameters: dict[str, Parameter]
    limits: Limits
    memory: int
    """Bytes that it may use besides the rows that it reads."""
    tables: dict[str, tuple[int, int]]
    """Where each table begins in the first file, and its bytes there."""


def work(channel: "Connection[Any, Any]", files: list[int]) -> None:
    """Run one job from `channel`. The answer is a JSON object: empty, or with the reason of a failure."""
    job: Job = pickle.loads(channel.recv_bytes(MOST_JOB))  # noqa: S301 - from the app itself
    given, result = files
    os.nice(LESS_URGENT)
    connection = connect(f"{job.memory >> 20}MiB")
    for name, table in _tables(given, job.tables).items():
        connection.register(name, table)
    bound(address_space=job.memory, seconds=job.limits.seconds, file_size=2 * job.limits.nbytes + (1 << 20))
    with contextlib.suppress(ValueError, OSError):  # from here on it can open no file and no connection
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    said: dict[str, object] = {}
    try:
        found = read(connection, job.statement, job.parameters, job.limits)
        with open(result, "wb", buffering=0) as file, pa.ipc.new_stream(file, found.schema) as stream:  # noqa: PTH123 - a descriptor
            stream.write_table(found)
    except SqlError as error:
        said = {"limit": error.what}
    except MemoryError:
        said = {"memory": True}
    except Exception as error:
        said = {"error": str(error)}
    channel.send_bytes(json.dumps(said).encode())


def _tables(file: int, places: dict[str, tuple[int, int]]) -> dict[str, pa.Table]:
    """The tables, without copies."""
    if not places:
        return {}
    whole = pa.py_buffer(mmap.mmap(file, 0, prot=mmap.PROT_READ))
    return {name: pa.ipc.open_stream(whole.slice(*place)).read_all() for name, place in places.items()}
