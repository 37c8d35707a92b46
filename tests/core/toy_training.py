"""Small labelled data, networks and runs for the tests of the trainer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

import dpa4_core
from dpa4_core.data.structures import to_system
from dpa4_core.model.checkpoint import write_model
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.predict import predict
from dpa4_core.strict import override
from dpa4_core.testing import MorsePotential
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.loader import BatchMaker
from dpa4_core.train.store import FrameStore, LabelledFrame, build_store
from dpa4_core.train.trainer import TrainResult, train

CUTOFF = 3.6
TINY = {"channels": 8, "lmax": 1, "n_blocks": 1, "cutoff": CUTOFF}
ELEMENTS = ("O", "Mg")
ROOT = Path(dpa4_core.__file__).parents[1]


def toy_structures(n: int, seed: int = 0, *, rattle: float = 0.1, kinds: tuple[int, ...] = (0, 1, 2)) -> list[Atoms]:
    """Strained and rattled MgO: primitive cells (kind 0, 2 atoms), clusters (1, 4 to 7), double cells (2, 4)."""
    random = np.random.default_rng(seed)
    structures = []
    for i in range(n):
        kind = kinds[i % len(kinds)]
        atoms = bulk("MgO", "rocksalt", a=4.2, cubic=kind == 1)
        if kind == 1:
            atoms = atoms[: 4 + i % 4]
            atoms.set_pbc(False)
            atoms.set_cell(np.zeros((3, 3)))
        else:
            atoms = atoms.repeat((1, 1, 2)) if kind == 2 else atoms
            atoms.set_cell(atoms.cell @ (np.eye(3) + 0.04 * random.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += rattle * random.normal(size=(len(atoms), 3))
        structures.append(atoms)
    return structures


def labelled(structures: list[Atoms], *, shift: dict[str, float] | None = None, seed: int | None = None) -> list[Atoms]:
    """Copies with Morse labels, ``shift`` eV more per atom of an element; or with random labels."""
    truths = predict(structures, MorsePotential(cutoff=CUTOFF), strict=True)
    random = np.random.default_rng(seed)
    frames = []
    for atoms, truth in zip(structures, truths, strict=True):
        energy = truth.energy + sum((shift or {}).get(symbol, 0.0) for symbol in atoms.symbols)
        labels: dict[str, Any] = {"energy": energy, "forces": truth.forces}
        if atoms.pbc.all():
            labels["stress"] = truth.stress.ravel()[[0, 4, 8, 5, 2, 1]]
        if seed is not None:
            labels = {key: random.normal(size=np.shape(value)) for key, value in labels.items()}
            labels["energy"] = float(labels["energy"])
        atoms = atoms.copy()
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def toy_frames(n: int, seed: int = 0, **options: Any) -> list[Atoms]:
    return labelled(toy_structures(n, seed, **options))


def write(folder: Path, frames: list[Atoms], name: str = "toy") -> str:
    path = folder / f"{name}.extxyz"
    ase.io.write(path, frames)
    return str(path)


def settings(data: str | list[Any], output: Path, **changes: Any) -> dict[str, Any]:
    """A tiny run in float64; ``changes`` are ``section__key=value``, plain keys at the top level."""
    base: dict[str, Any] = {
        "data": {"train": data, "split_by": "frame", "validation_fraction": 0.2},
        "output": str(output),
        "preset": "nano",
        "model": dict(TINY),
        "batch": {"max_atoms": 16},
        "schedule": {"lr": 3e-3},
        "run": {"steps": 20, "log_every": 5, "validate_every": 10, "dtype": "float64", "device": "cpu"},
    }
    for key, value in changes.items():
        *sections, last = key.split("__")
        place = base
        for section in sections:
            place = place.setdefault(section, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return base


def configured(data: str | list[Any], output: Path, *assignments: str, **changes: Any) -> TrainConfig:
    return TrainConfig.from_dict(override(settings(data, output, **changes), assignments))


def recorded(config: TrainConfig, **options: Any) -> tuple[TrainResult, list[dict[str, Any]]]:
    """A run and the records that it gave to the display."""
    records: list[dict[str, Any]] = []
    return train(config, notify=records.append, **options), records


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record for record in records if record["kind"] == kind]


def stored_frames(folder: Path, frames: list[Atoms], *, weights: list[float] | None = None) -> FrameStore:
    """A store of these frames, without the detour through a file."""
    items = []
    for i, atoms in enumerate(frames):
        results = dict(atoms.calc.results) if atoms.calc else {}
        stress = results.get("stress")
        frame = dpa4_core.Frame(
            to_system(atoms),
            energy=results.get("energy"),
            forces=results.get("forces"),
            stress=None if stress is None else stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3),
            name=f"frame {i}",
        )
        items.append(LabelledFrame(frame, weight=weights[i] if weights else 1.0))
    return build_store(folder, items, cutoff=CUTOFF, sources=["toy"], key="key")


def tiny_config(**changes: Any) -> DPA4Config:
    return DPA4Config.preset("nano", **TINY | {"elements": ELEMENTS} | changes)


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any) -> DPA4:
    """A network without the zeros of a fresh one, so that every weight has a gradient."""
    torch.manual_seed(seed)
    model = DPA4(tiny_config(**changes), dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        model.out_bias.normal_()
    return model


def maker(store: FrameStore, model: DPA4, **options: Any) -> BatchMaker:
    return BatchMaker(store, model.config, model.dtype, **options)


def everything(store: FrameStore) -> NDArray[np.int64]:
    return np.arange(store.n_frames)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Gradients by name, zero where there is none; the model has none afterwards."""
    found = {}
    for name, parameter in model.named_parameters():
        found[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        parameter.grad = None
    return found


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Largest deviation of two sets of tensors relative to the largest element of the second."""
    assert set(a) == set(b)
    scale = max(float(value.abs().max()) for value in b.values())
    return max(float((a[name] - b[name]).abs().max()) for name in b) / scale


def environment(**more: str) -> dict[str, str]:
    """For a process of its own: one thread, and the package of this checkout."""
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


def script(folder: Path, config: TrainConfig, body: str = "print(train(config).status)") -> Path:
    """A program that makes ``config`` and then does ``body``."""
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    path = folder / "program.py"
    path.write_text(
        "import json, os, signal, sys, torch\n"
        "from dpa4_core.train.config import TrainConfig\n"
        "from dpa4_core.train.trainer import train\n"
        "torch.set_num_threads(1)\n"
        f"config = TrainConfig.from_dict(json.load(open({str(folder / 'config.json')!r})))\n{body}\n"
    )
    return path


def base_file(folder: Path, *, elements: tuple[str, ...] = ELEMENTS, name: str = "base", **changes: Any) -> Path:
    """An untrained network as a ``.dpa4`` file in float64, for fine-tuning."""
    model = tiny_model(5, elements=elements, **changes).requires_grad_(False)
    numbers = tuple(sorted(model.config.atomic_numbers))
    info = ModelInfo(name=name, elements=numbers, level_of_theory="toy")
    return write_model(model, info, folder / f"{name}.dpa4")
