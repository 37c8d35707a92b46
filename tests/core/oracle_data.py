"""Reading of the reference vectors in tests/core/oracle."""

from pathlib import Path

import numpy as np

from dpa4_core.data.structures import System

ORACLE = Path(__file__).parent / "oracle"
RELEASED = (
    "nano_like",
    "mini_like",
    "neo_like",
    "plus_like",
    "pro_like",
    "pro_mptrj_like_v10",
    "defaults",
    "zbl",
    "charge_spin",
    "lora",
)
GATES = {  # energy (absolute, relative), forces, virial
    "float64": (1e-9, 0.0, 1e-9, 1e-9),
    "float32": (1e-5, 5e-8, 5e-5, 2e-4),
}


def names(data) -> list[str]:
    return sorted({key.split("/")[0] for key in data})


def system(data, name: str) -> System:
    numbers = data[f"{name}/numbers"].astype(np.int64)
    periodic = bool(data[f"{name}/periodic"])
    condition = data.get(f"{name}/charge_spin")
    return System(
        numbers=numbers,
        positions=data[f"{name}/positions"],
        cell=data[f"{name}/cell"] if periodic else np.zeros((3, 3)),
        pbc=np.full(3, periodic),
        fixed=np.zeros((len(numbers), 3), dtype=bool),
        charge_spin=None if condition is None else tuple(int(v) for v in condition.ravel()),
    )


def assert_matches(output, data, name: str, dtype: str, index: int = 0, atoms: slice = slice(None)) -> None:
    """One system of an `Output` against the reference, within the gates of its precision."""
    suffix = dtype.replace("float", "f")
    e_abs, e_rel, f_gate, v_gate = GATES[dtype]
    energy = float(data[f"{name}/energy_{suffix}"])
    assert abs(output.energy[index].item() - energy) <= e_abs + e_rel * abs(energy), name
    for ours, key, gate in (
        (output.forces[atoms], "forces", f_gate),
        (output.atom_energies[atoms], "atom_energy", e_abs + e_rel * abs(energy)),
        (output.virial[index], "virial", v_gate),
    ):
        error = np.abs(ours.cpu().numpy() - data[f"{name}/{key}_{suffix}"].reshape(ours.shape)).max()
        assert error <= gate, f"{name} {key}: {error:.2e} > {gate:.0e}"
