"""What this process may use: inside a container that is the control group's limit, not the host's size."""

import os
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def cpu_cores(cgroup: Path = CGROUP) -> int:
    """CPU cores that this process may use, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if quota.isdigit():
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def memory_available(cgroup: Path = CGROUP) -> int:
    """Bytes of memory that this process can still take."""
    available = psutil.virtual_memory().available
    limit, used = _read(cgroup / "memory.max"), _read(cgroup / "memory.current")
    if limit.isdigit() and used.isdigit():
        available = min(available, int(limit) - int(used))
    return max(0, available)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
