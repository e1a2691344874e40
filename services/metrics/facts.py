"""Facts of this machine and thresholds for its figures, in two key-value buckets of the demo.

The bucket `host` has facts of the machine. Changing facts are read once a minute, and written only if they
changed. The bucket `thresholds` belongs to the users of the demo: its keys are written once, and a change or
deletion is never undone.
"""

import asyncio
import json
import logging
import platform
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats.errors
import psutil
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from services.program import Trouble

HOST = KeyValueConfig(
    bucket="host", description="Lookback's demo: facts of this machine", history=10, direct=True
)
THRESHOLDS = KeyValueConfig(
    bucket="thresholds", description="Lookback's demo: what is too much", history=10, direct=True
)
TOO_MUCH = {"cpu": 90, "memory": 90}
"""Percent."""
EVERY = 60.0  # seconds between two readings of changing facts
RETRY_AFTER = 2.0  # seconds

log = logging.getLogger("services.metrics")


async def keep_buckets(nc: Client, js: JetStreamContext, replicas: int = 1) -> None:
    """Keep both buckets up to date; new ones get this number of replicas. Runs until cancelled."""
    host, thresholds = HOST.evolve(replicas=replicas), THRESHOLDS.evolve(replicas=replicas)
    lasting = await asyncio.to_thread(lasting_facts)
    trouble = Trouble(log, "The facts of this machine")
    while True:
        pause = RETRY_AFTER
        if nc.is_connected:
            try:
                await _keep_host(await _bucket(js, host), lasting | changing_facts())
                await _keep_thresholds(await _bucket(js, thresholds))
                pause = EVERY
                trouble.end()
            except (nats.errors.Error, TimeoutError) as error:
                trouble.begin(str(error) or "no answer in time")
        await asyncio.sleep(pause)


def lasting_facts() -> dict[str, Any]:
    """Facts that do not change while the machine runs."""
    booted = datetime.fromtimestamp(psutil.boot_time(), UTC)
    return {
        "host.name": socket.gethostname(),
        "host.system": f"{platform.system()} {platform.release()}",
        "host.boot_time": booted.isoformat(timespec="seconds"),
        "cpu.model": cpu_model(),
        "cpu.cores": psutil.cpu_count(),
        "memory.total_bytes": psutil.virtual_memory().total,
        "disk.total_bytes": psutil.disk_usage("/").total,
    }


def changing_facts() -> dict[str, Any]:
    """Facts that change slowly."""
    one, five, fifteen = (round(load, 2) for load in psutil.getloadavg())
    return {
        "load.average": {"1_min": one, "5_min": five, "15_min": fifteen},
        "disk.used_percent": round(psutil.disk_usage("/").percent),
        "host.processes": len(psutil.pids()),
    }


def cpu_model() -> str:
    """The processor's name, if the system reports one."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


async def _keep_host(bucket: KeyValue, facts: dict[str, Any]) -> None:
    for key, fact in facts.items():
        value = json.dumps(fact).encode()
        try:
            known = (await bucket.get(key)).value
        except KeyNotFoundError:
            known = None
        if known != value:
            await bucket.put(key, value)


async def _keep_thresholds(bucket: KeyValue) -> None:
    for key, percent in TOO_MUCH.items():
        with suppress(KeyWrongLastSequenceError):  # written or deleted earlier
            await bucket.update(key, str(percent).encode(), last=0)


async def _bucket(js: JetStreamContext, config: KeyValueConfig) -> KeyValue:
    try:
        return await js.key_value(config.bucket)
    except BucketNotFoundError:
        return await js.create_key_value(config)
