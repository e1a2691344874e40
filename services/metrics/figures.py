"""This machine's own figures, read with psutil."""

import re
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

Values = dict[str, float]

NOT_A_DISK = re.compile(r"(loop|ram|zram|sr|fd|nbd)\d+$")
NOT_A_NIC = re.compile(r"veth")  # a container's virtual interface, with a new name for each container
BLOCK_DEVICES = Path("/sys/block")  # Linux lists whole disks there, without their partitions


def token(name: str) -> str:
    """`name` as one token of a subject, without dots, spaces or wildcards. The root directory is "root"."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "root"


class Rates:
    """Turns counters into rates per second, over the actual time between two readings."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, dict[str, int]]] = {}

    def per_second(self, name: str, counters: Mapping[str, int], now: float) -> Values:
        """The rate of each counter since the last call for `name`, as `<counter>_per_s`; `now` is in seconds.

        There is no value at the first reading, or if a counter went backwards (reset, overflow).
        """
        then, before = self._last.get(name, (now, {}))
        self._last[name] = (now, dict(counters))
        if now <= then:
            return {}
        return {
            f"{counter}_per_s": (count - before[counter]) / (now - then)
            for counter, count in counters.items()
            if counter in before and count >= before[counter]
        }


class Machine:
    """Readings of CPU, memory, disks and network. Rates cover the time since the last reading."""

    def __init__(self) -> None:
        self._rates = Rates()
        # psutil's first percentage is a meaningless 0.0
        psutil.cpu_percent()
        psutil.cpu_percent(percpu=True)
        self.read()

    def read(self) -> dict[str, Values]:
        """All figures by kind and name ("cpu.total"). A figure's name ends with its unit."""
        figures = self._cpu() | self._memory() | self._disks() | self._networks()
        return {name: values for name, values in figures.items() if values}

    def _cpu(self) -> dict[str, Values]:
        cores = psutil.cpu_percent(percpu=True)
        figures: dict[str, Values] = {"cpu.total": {"percent": psutil.cpu_percent()}}
        return figures | {f"cpu.core-{number}": {"percent": percent} for number, percent in enumerate(cores)}

    def _memory(self) -> dict[str, Values]:
        ram, swap = psutil.virtual_memory(), psutil.swap_memory()
        return {
            "memory.ram": {
                "percent": ram.percent,
                "used_bytes": ram.used,
                "available_bytes": ram.available,
                "total_bytes": ram.total,
            },
            "memory.swap": {
                "percent": swap.percent,
                "used_bytes": swap.used,
                "available_bytes": swap.free,
                "total_bytes": swap.total,
            },
        }

    def _disks(self) -> dict[str, Values]:
        root = psutil.disk_usage("/")
        figures: dict[str, Values] = {
            "disk.root": {
                "percent": root.percent,
                "used_bytes": root.used,
                "available_bytes": root.free,
                "total_bytes": root.total,
            }
        }
        now = time.monotonic()
        for device, io in (psutil.disk_io_counters(perdisk=True) or {}).items():
            if _is_disk(device):
                name = f"disk.{token(device)}"
                figures[name] = self._rates.per_second(
                    name, {"read_bytes": io.read_bytes, "write_bytes": io.write_bytes}, now
                )
        return figures

    def _networks(self) -> dict[str, Values]:
        now = time.monotonic()
        return {
            name: self._rates.per_second(
                name, {"received_bytes": io.bytes_recv, "sent_bytes": io.bytes_sent}, now
            )
            for nic, io in psutil.net_io_counters(pernic=True).items()
            if not NOT_A_NIC.match(nic)
            for name in [f"network.{token(nic)}"]
        }


def _is_disk(device: str) -> bool:
    if NOT_A_DISK.match(device):
        return False
    return not BLOCK_DEVICES.is_dir() or (BLOCK_DEVICES / device).exists()
