"""How much memory this process's container or machine has left, and giving back what is no longer used."""

import ctypes
from contextlib import suppress
from pathlib import Path

# Parameter of glibc's mallopt (malloc.h), and the bytes above which a block is a mapping of its own.
M_MMAP_THRESHOLD, MAPPED_BYTES = -3, 1024**2

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def available_memory() -> int | None:
    """Bytes that can still be used: of the control group's limit, or of the machine's memory; None if neither says.

    The page cache of files that are not in use counts as free, as the kernel takes it back.
    """
    found = [_machine(), _group("memory.max", "memory.current", "inactive_file", CGROUP)]
    version_1 = CGROUP / "memory"
    found.append(_group("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", version_1))
    known = [value for value in found if value is not None]
    return max(0, min(known)) if known else None


def return_large_blocks() -> None:
    """Have large blocks go back to the system when they are freed; only glibc keeps them and can be asked not to.

    It raises the bound to up to 32 MB by itself, and uploads then leave holes that no later one fits into.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)


def _group(limit: str, used: str, cache: str, folder: Path) -> int | None:
    try:
        bound = int((folder / limit).read_text(encoding="ascii"))
        taken = int((folder / used).read_text(encoding="ascii"))
        counters = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return bound - taken + int(counters.get(cache, 0))
    except (OSError, ValueError):  # not there, or "max"
        return None


def _machine() -> int | None:
    try:
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None
