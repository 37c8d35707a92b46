"""The recipe of fine-tuning with the published DPA4-Neo weights, on frames of DFT that no run has seen."""

import importlib.util
import sys
from pathlib import Path

import pytest

from dpa4_core.train.forgetting import TOLERABLE

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("way", ["full", "lora", "replay"])
def test_fine_tuning_makes_every_error_smaller_and_forgets_little(neo_path, way, tmp_path, monkeypatch):
    """Two minutes of a core each; `benchmarks/fine_tuning.py` does the same with larger sets."""
    spec = importlib.util.spec_from_file_location("fine_tuning", TESTS.parent / "benchmarks" / "fine_tuning.py")
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fine_tuning", benchmark)  # its dataclasses look for their module there
    spec.loader.exec_module(benchmark)
    train, test = (next((TESTS / "data" / "frames").glob(f"Li3N_{part}.extxyz*")) for part in ("train", "test"))
    row = benchmark.run(train, test, way, tmp_path, base=str(neo_path), steps=60)
    assert row["best"] > 0 and row["worse"] == []
    for quantity, share in (("energy", 0.5), ("force", 1.0), ("stress", 0.5)):
        assert row["after"][f"{quantity}_mae"] < share * row["before"][f"{quantity}_mae"], quantity
    # with a replay other systems are not held closer, see docs/training.md
    limit = 5e-3 if way == "replay" else TOLERABLE
    assert row["forgetting"]["n_systems"] == 20 and row["forgetting"]["energy_median"] < limit
