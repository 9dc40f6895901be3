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


def fast_bfloat16() -> bool:
    """Whether the device that Lightning will choose multiplies bfloat16 in hardware; emulated it would be slower."""
    import torch  # seconds, which commands that only count cores do not have

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.mps.is_available():
        return False
    has = torch.cpu.get_capabilities()
    return any(has.get(feature, False) for feature in ("amx_bf16", "avx512_bf16", "arm_bf16", "bf16"))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
