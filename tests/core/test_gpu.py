"""Training, relaxation, bands and dynamics on a GPU give what they give on a CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from toy_training import base_file, configured, of_kind, recorded, toy_frames, write

import dpa4_core as dpa4
from dpa4_core.md import MDSettings, md
from dpa4_core.md.files import read_frames

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("way", ["full", "adapters", "bf16", "compiled"])
def test_a_fine_tune_takes_the_steps_that_it_takes_on_a_cpu(tmp_path: Path, way: str) -> None:
    changes = {
        "full": {},
        "adapters": {"finetune__lora_rank": 2},
        "bf16": {"run__mixed_precision": "bf16", "run__dtype": "float32"},
        "compiled": {"run__compile": True},
    }[way]
    base, data = base_file(tmp_path), write(tmp_path, toy_frames(12))
    common = {"preset": None, "model": None, "base": str(base), "run__steps": 3, "run__validate_every": 1} | changes
    losses = []
    for device in ("cpu", "cuda"):
        config = configured(data, tmp_path / device, run__device=device, **common)
        result, records = recorded(config)
        losses.append([record["metric"] for record in of_kind(records, "validation")])
        assert result.model is not None and dpa4.load(result.model).elements
    assert losses[0] == pytest.approx(losses[1], rel=0.1 if way == "bf16" else 1e-5)


def test_everything_that_moves_atoms_ends_where_it_ends_on_a_cpu(tmp_path: Path) -> None:
    base, start = base_file(tmp_path), bulk("MgO", "rocksalt", a=4.3)
    start.rattle(0.05, seed=0)
    end = start.copy()
    end.rattle(0.1, seed=1)
    found = []
    for device in ("cpu", "cuda"):
        potential = dpa4.load(base, device=device, dtype="float64")
        relaxed = dpa4.relax([start], potential, max_steps=5, strict=False)[0]
        flight = dpa4.InFlight(potential, None)
        images = dpa4.band_path(start, end, 3)
        flight.put([("band", dpa4.Band(images, (-1.0, -1.0), dpa4.BandOptions(max_steps=3)))])
        band = dict(flight.step())
        while flight:
            band |= dict(flight.step())
        settings = MDSettings(time_ps=0.005, every=5, temperature=300.0)
        md(start, potential, settings, output=tmp_path / f"{device}.traj")
        last = list(read_frames(tmp_path / f"{device}.traj"))[-1]
        found.append((relaxed.energy, *band["band"].energies, *last.positions.ravel()))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
