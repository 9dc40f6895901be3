"""How much memory visits of the page and requests of the API may hold, from what the container or machine has."""

import os
from pathlib import Path

MB = 1024**2
# What the process and its workers take before anybody visits, in bytes.
BASE = 400 * MB


def memory_limit() -> int:
    """Bytes of memory this process may use: the limit of its control group, else what the machine has."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return min(total, int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return total


# The rest is for visits, for requests, which are held about twice while they are answered, and for what is decoded.
_ROOM = max(64 * MB, memory_limit() - BASE)
# All visits of the page together, and one of them: three fit.
VISITS_BYTES = min(4096 * MB, _ROOM * 6 // 10)
VISIT_BYTES = min(400 * MB, VISITS_BYTES // 3)
# All requests of the API that are being answered.
REQUESTS_BYTES = min(128 * MB, max(16 * MB, _ROOM // 8))
