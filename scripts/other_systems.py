"""Choose the crystals by which `dpa4 finetune` measures what a model forgets, and those that hold it to its base.

    python scripts/other_systems.py

Small compounds of ``dpa4_flows/data/compounds.parquet`` (all CC BY 4.0, source of each row in the file), chosen one
after the other by the number of elements that they add, smaller cells first: 20 to measure by, 40 others for replay;
with these 120 more for the zero of each element, by how rarely their elements were chosen before, and by the same rule
1,200 more, of which each tenth judges a run and the others bring it back.
"""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "dpa4_core" / "train" / "other_systems.json.gz"
MAX_ATOMS, N_MEASURED, N_REPLAYED, N_LEVEL, N_BACK, JUDGES = 8, 20, 40, 120, 1200, 10


def main() -> None:
    """Choose and write."""
    rows = pq.read_table(ROOT / "dpa4_flows/data/compounds.parquet").to_pylist()
    rows = sorted(
        (r for r in rows if 3 <= len(r["numbers"]) <= MAX_ATOMS), key=lambda r: (len(r["numbers"]), r["name"])
    )
    chosen: list[dict] = []
    for n in (N_MEASURED, N_REPLAYED):
        seen: set[int] = set()
        for _ in range(n):
            best = max(rows, key=lambda row: (len({*row["numbers"]} - seen), -len(row["numbers"])))
            rows.remove(best)
            seen |= {*best["numbers"]}
            chosen.append(best)
    held = Counter(z for row in chosen[N_MEASURED:] for z in {*row["numbers"]})
    for n in (N_LEVEL, N_BACK):
        for _ in range(n):
            best = max(rows, key=lambda row: (sum(1 / (1 + held[z]) for z in {*row["numbers"]}), -len(row["numbers"])))
            rows.remove(best)
            held.update({*best["numbers"]})
            chosen.append(best)
        # one crystal of a composition from here on, so that a judge is no polymorph of what is asked
        taken = {_composition(row) for row in chosen}
        rows = [*{_composition(row): row for row in reversed(rows) if _composition(row) not in taken}.values()][::-1]
    uses = ["measure"] * N_MEASURED + ["replay"] * N_REPLAYED + ["level"] * N_LEVEL
    uses += ["back" if i % JUDGES else "judge" for i in range(N_BACK)]
    systems = [
        {
            "name": row["name"],
            "source": row["source"],
            "use": use,
            "numbers": list(row["numbers"]),
            "cell": [[round(x, 5) for x in row["lattice"][k : k + 3]] for k in (0, 3, 6)],
            "fractions": [
                [round(x, 5) for x in row["frac_coords"][k : k + 3]] for k in range(0, len(row["frac_coords"]), 3)
            ],
        }
        for use, row in zip(uses, chosen, strict=True)
    ]
    TARGET.write_bytes(gzip.compress(json.dumps({"licence": "CC BY 4.0", "systems": systems}).encode(), mtime=0))


def _composition(row: dict) -> frozenset:
    numbers = Counter(row["numbers"])
    return frozenset((z, n // math.gcd(*numbers.values())) for z, n in numbers.items())


if __name__ == "__main__":
    main()
