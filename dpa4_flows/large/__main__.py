"""A process of `dpa4 relax --workers`, started by `dpa4_flows.large.launch`."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from dpa4_flows.large.launch import work_as_ordered


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # through the finally clauses that give leases back


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    work_as_ordered()
