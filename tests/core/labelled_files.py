"""The same labelled frames written in every format that `read_frames` knows, without the help of its code."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import lmdb
import msgpack
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.jsonio import encode
from pymatgen.core import Structure

from dpa4_core.data.frame_summary import DataSummary, SummaryBuilder
from dpa4_core.data.frames import BrokenFrame, Frame
from dpa4_core.predict import predict
from dpa4_core.testing import MorsePotential

KBAR = 1602.176634
TYPE_MAP = ["O", "Mg", "H"]


def labelled(atoms: Atoms) -> Atoms:
    """A copy with energy, forces and stress of a Morse potential."""
    (truth,) = predict(atoms, MorsePotential())
    assert truth.forces is not None and truth.stress is not None
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(
        atoms, energy=truth.energy, forces=truth.forces, stress=truth.stress.ravel()[[0, 4, 8, 5, 2, 1]]
    )
    return atoms


def toy_frames() -> list[Atoms]:
    """Three rattled and sheared cells of magnesium oxide, atoms sorted by element."""
    frames = []
    for i in range(3):
        atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True)
        atoms = atoms[np.argsort(atoms.numbers, kind="stable")]
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.01 * i * np.array([[1, 2, 0], [0, -1, 3], [0, 0, 2]])), True)
        atoms.rattle(0.05, seed=i)
        frames.append(labelled(atoms))
    return frames


def stress_of(atoms: Atoms) -> Any:
    return atoms.calc.results["stress"][[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)


def _extxyz(folder: Path, frames: list[Atoms]) -> Path:
    ase.io.write(folder / "toy.extxyz", frames)
    return folder / "toy.extxyz"


def _xyz_gz(folder: Path, frames: list[Atoms]) -> Path:
    path = folder / "toy.xyz.gz"
    path.write_bytes(gzip.compress(_extxyz(folder, frames).read_bytes()))
    return path


def _ref_names(folder: Path, frames: list[Atoms]) -> Path:
    """REF_energy, REF_forces and REF_virial beside labels of another method."""
    others = []
    for atoms in frames:
        other = atoms.copy()
        other.info["REF_energy"] = atoms.calc.results["energy"]
        other.info["REF_virial"] = -atoms.get_volume() * stress_of(atoms)
        other.arrays["REF_forces"] = atoms.calc.results["forces"]
        other.calc = SinglePointCalculator(other, energy=1.0, forces=np.ones((len(atoms), 3)), stress=np.ones(6))
        others.append(other)
    return _extxyz(folder, others)


def _database(folder: Path, frames: list[Atoms], name: str = "toy.db") -> Path:
    with ase.db.connect(folder / name) as database:
        for atoms in frames:
            database.write(atoms)
    return folder / name


def _trajectory(folder: Path, frames: list[Atoms]) -> Path:
    ase.io.write(folder / "toy.traj", frames)
    return folder / "toy.traj"


def ase_row(atoms: Atoms, **extra: Any) -> dict[str, Any]:
    return {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": np.array(atoms.cell),
        "pbc": atoms.pbc,
        **atoms.calc.results,
        "data": {},
        "key_value_pairs": {},
        **extra,
    }


def write_lmdb(path: Path, records: dict[str, bytes]) -> Path:
    with (
        lmdb.open(str(path), subdir=False, map_size=2**24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, record in records.items():
            transaction.put(key.encode(), record)
    return path


def _aselmdb(folder: Path, frames: list[Atoms]) -> Path:
    def pack(content: Any) -> bytes:
        return zlib.compress(encode(content).encode())

    records = {str(i + 1): pack(ase_row(atoms)) for i, atoms in enumerate(frames)}
    records["4"] = pack(ase_row(frames[0]))
    records |= {"nextid": pack(5), "deleted_ids": pack([4]), "metadata": pack({"format": "toy"})}
    return write_lmdb(folder / "toy.aselmdb", records)


def _deepmd_arrays(frames: list[Atoms]) -> dict[str, Any]:
    return {
        "coord": np.array([atoms.positions.ravel() for atoms in frames]),
        "box": np.array([np.array(atoms.cell).ravel() for atoms in frames]),
        "energy": np.array([atoms.calc.results["energy"] for atoms in frames]),
        "force": np.array([atoms.calc.results["forces"].ravel() for atoms in frames]),
        "virial": np.array([(-atoms.get_volume() * stress_of(atoms)).ravel() for atoms in frames]),
    }


def _types(atoms: Atoms) -> Any:
    return np.array([TYPE_MAP.index(symbol) for symbol in atoms.symbols])


def _deepmd(folder: Path, frames: list[Atoms]) -> Path:
    system = folder / "toy"
    (system / "set.000").mkdir(parents=True)
    (system / "type_map.raw").write_text("\n".join(TYPE_MAP))
    (system / "type.raw").write_text("\n".join(map(str, _types(frames[0]))))
    for name, array in _deepmd_arrays(frames).items():
        np.save(system / "set.000" / f"{name}.npy", array)
    return system


def _deepmd_mixed(folder: Path, frames: list[Atoms]) -> Path:
    """With one padding atom in front and two at the end."""
    system = _deepmd(folder, frames)
    (system / "type.raw").write_text("0\n" * (len(frames[0]) + 3))
    arrays = _deepmd_arrays(frames)
    for name in ("coord", "force"):
        np.save(system / "set.000" / f"{name}.npy", np.pad(arrays[name], ((0, 0), (3, 6))))
    types = np.array([np.pad(_types(atoms), (1, 2), constant_values=-1) for atoms in frames])
    np.save(system / "set.000" / "real_atom_types.npy", types)
    return folder


def _deepmd_lmdb(folder: Path, frames: list[Atoms]) -> Path:
    def array(values: Any) -> dict[str, Any]:
        return {"type": str(values.dtype), "shape": list(values.shape), "data": values.tobytes()}

    arrays = _deepmd_arrays(frames)
    records = {"__metadata__": msgpack.packb({"nframes": len(frames), "type_map": TYPE_MAP})}
    for i, atoms in enumerate(frames):
        plural = {"box": "cells", "energy": "energies"}
        record = {plural.get(name, f"{name}s"): array(np.asarray(values[i])) for name, values in arrays.items()}
        record["atom_types"] = array(_types(atoms))
        records[f"{i:012d}"] = msgpack.packb(record)
    return write_lmdb(folder / "toy.lmdb", records)


def pymatgen_row(atoms: Atoms) -> dict[str, Any]:
    structure = Structure(atoms.cell, atoms.symbols, atoms.positions, coords_are_cartesian=True)
    return {"structure": structure.as_dict(), "force": atoms.calc.results["forces"].tolist()}


def _mptrj(folder: Path, frames: list[Atoms]) -> Path:
    rows = {}
    for i, atoms in enumerate(frames):
        energy = atoms.calc.results["energy"]
        rows[f"mp-1-0-{i}"] = pymatgen_row(atoms) | {
            "uncorrected_total_energy": energy,
            "corrected_total_energy": energy - 1,
            "energy_per_atom": (energy - 1) / len(atoms),
            "stress": (-KBAR * stress_of(atoms)).tolist(),
            "bandgap": 4.5,
        }
    (folder / "toy.json").write_text(json.dumps({"mp-1": rows}))
    return folder / "toy.json"


def _matpes(folder: Path, frames: list[Atoms]) -> Path:
    rows = []
    for i, atoms in enumerate(frames):
        row = pymatgen_row(atoms)
        rows.append(
            {
                "matpes_id": f"matpes-{i}",
                "structure": row["structure"],
                "energy": atoms.calc.results["energy"],
                "forces": row["force"],
                "stress": (-KBAR * atoms.calc.results["stress"]).tolist(),
                "provenance": {"original_mp_id": "mp-1265"},
            }
        )
    (folder / "toy.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    return folder / "toy.json.gz"


def _varray(name: str, rows: Any) -> str:
    lines = "".join("<v>" + " ".join(f"{x:.12f}" for x in row) + "</v>" for row in rows)
    return f'<varray name="{name}">{lines}</varray>'


def _vasprun(folder: Path, frames: list[Atoms]) -> Path:
    """The parts of a vasprun.xml that matter, with the energies that VASP is known to misplace."""

    def structure(atoms: Atoms, name: str = "") -> str:
        cell = _varray("basis", atoms.cell)
        return (
            f"<structure{name}><crystal>{cell}</crystal>"
            f"{_varray('positions', atoms.get_scaled_positions())}</structure>"
        )

    species = "".join(f"<rc><c>{symbol}</c><c>1</c></rc>" for symbol in frames[0].symbols)
    text = f'<modeling><kpoints></kpoints><atominfo><array name="atoms"><set>{species}</set></array></atominfo>'
    text += structure(frames[0], ' name="initialpos"')
    for atoms in frames:
        energy = atoms.calc.results["energy"]
        energies = (
            f'<energy><i name="e_fr_energy">{energy - 0.01:.12f}</i><i name="e_0_energy">{energy:.12f}</i></energy>'
        )
        text += f"<calculation><scstep>{energies}</scstep>{structure(atoms)}"
        text += _varray("forces", atoms.calc.results["forces"]) + _varray("stress", -KBAR * stress_of(atoms))
        text += energies + "</calculation>"
    path = folder / "vasprun.xml"
    path.write_text(text + "</modeling>")
    return path


def _outcar(folder: Path, frames: list[Atoms]) -> Path:
    symbols = list(dict.fromkeys(frames[0].symbols))
    text = "".join(f" POTCAR:    PAW_PBE {symbol} 08Apr2002\n" for symbol in symbols * 2)
    text += "   ions per type =  " + " ".join(str(list(frames[0].symbols).count(s)) for s in symbols) + "\n"
    text += "   ISPIN  =      1    spin polarized calculation?\n-- Iteration      1(   1) --\n"
    for atoms in frames:
        stress = -KBAR * atoms.calc.results["stress"][[0, 1, 2, 5, 3, 4]]  # XX YY ZZ XY YZ ZX
        text += "  in kB " + " ".join(f"{x:.10f}" for x in stress) + "\n"
        text += "      direct lattice vectors                 reciprocal lattice vectors\n"
        text += "".join(" ".join(f"{x:.12f}" for x in row) + " 0 0 0\n" for row in atoms.cell)
        text += " POSITION                                       TOTAL-FORCE (eV/Angst)\n ---\n"
        for row in np.hstack([atoms.positions, atoms.calc.results["forces"]]):
            text += " ".join(f"{x:.12f}" for x in row) + "\n"
        energy = atoms.calc.results["energy"]
        text += "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---\n"
        text += f"  free  energy   TOTEN  = {energy - 0.01:.12f} eV\n\n"
        text += f"  energy  without entropy= {energy - 0.02:.12f}  energy(sigma->0) = {energy:.12f}\n"
    (folder / "OUTCAR").write_text(text)
    return folder / "OUTCAR"


WRITERS: dict[str, Callable[[Path, list[Atoms]], Path]] = {
    "extxyz": _extxyz,
    "xyz.gz": _xyz_gz,
    "REF_ names": _ref_names,
    "db": _database,
    "ase json": lambda folder, frames: _database(folder, frames, "toy.json"),
    "traj": _trajectory,
    "aselmdb": _aselmdb,
    "deepmd": _deepmd,
    "deepmd mixed": _deepmd_mixed,
    "deepmd lmdb": _deepmd_lmdb,
    "mptrj": _mptrj,
    "matpes": _matpes,
    "vasprun": _vasprun,
    "outcar": _outcar,
}


def summarise(frames: Iterable[Frame | BrokenFrame]) -> DataSummary:
    """What a set of frames holds."""
    builder = SummaryBuilder()
    for frame in frames:
        builder.add(frame)
    return builder.result()
