"""A process of `dpa4 relax --workers`, started by `dpa4_flows.large.launch`."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType

from dpa4_flows.large.launch import work_as_ordered


def _end(number: int, frame: FrameType | None) -> None:
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)  # through the finally clauses that give leases back


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    work_as_ordered()
