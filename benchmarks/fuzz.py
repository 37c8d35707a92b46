"""Broken files of every format through every reader: the figures of docs/reliability.md.

    python benchmarks/fuzz.py                              # 1,000 files, as the tests do
    python benchmarks/fuzz.py --files 20000 --seed 7 --keep trouble

Needs the test dependencies. Files that made trouble are kept under ``--keep``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "core"))
from fuzzing import fuzz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that made trouble")
    arguments = parser.parse_args()
    start = time.monotonic()
    figures = fuzz(arguments.files, arguments.seed, arguments.keep)
    print(figures)
    print(f"seed {arguments.seed}, {time.monotonic() - start:.0f} s")
    for problem in figures.problems:
        print(f"\n{problem}")
    sys.exit(1 if figures.problems else 0)


if __name__ == "__main__":
    main()
