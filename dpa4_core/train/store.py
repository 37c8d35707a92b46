"""Labelled frames in flat arrays on disk: read once, mapped into memory afterwards, shared by all processes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.frames import Frame
from dpa4_core.data.graph import UNSPECIFIED_CHARGE_SPIN
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.system import System
from dpa4_core.data.twins import N_INVARIANTS, invariants, twin_classes
from dpa4_core.errors import DPA4Error

STORE = "frames.store"
"""Name of the store in the folder of a run."""

_VERSION = 3  # 1 knew periodicity along all axes or none, 2 no invariants and one weight per frame
_CHUNK = 4096  # frames in memory while writing

# name: (dtype, shape of one row, rows per "frame" or per "atom")
_ARRAYS: dict[str, tuple[str, tuple[int, ...], str]] = {
    "n_atoms": ("int64", (), "frame"),
    "n_edges": ("int64", (), "frame"),
    "cell": ("float64", (3, 3), "frame"),
    "pbc": ("bool", (3,), "frame"),
    "charge_spin": ("int64", (2,), "frame"),
    "energy": ("float64", (), "frame"),
    "stress": ("float64", (3, 3), "frame"),
    "target": ("float64", (), "frame"),
    "weight": ("float64", (3,), "frame"),
    "has_forces": ("bool", (), "frame"),
    "source": ("int64", (), "frame"),
    "invariants": ("float64", (N_INVARIANTS,), "frame"),
    "numbers": ("int64", (), "atom"),
    "positions": ("float64", (3,), "atom"),
    "forces": ("float64", (3,), "atom"),
}

_FILES = {"index.json", "names.json", *(f"{name}.bin" for name in _ARRAYS)}


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with what the trainer adds to it.

    Attributes:
        frame: structure and labels.
        weight: factor on its terms of the loss, beside its own.
        source: number of the source that it came from.
        target: property to learn; NaN without.
    """

    frame: Frame
    weight: float = 1.0
    source: int = 0
    target: float = np.nan


class FrameStore:
    """Frames as flat arrays; missing labels are NaN.

    Attributes:
        n_frames: number of frames.
        arrays: by name: ``n_atoms``, ``n_edges``, ``energy`` (eV), ``stress`` (eV/Å³), ... [n_frames, ...];
            ``numbers``, ``positions`` (Å), ``forces`` (eV/Å) [n_atoms_total, ...].
        names: [n_frames] identifiers.
        key: what the store was built from.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        self.folder, self.n_frames, self.key = folder, int(index["n_frames"]), str(index["key"])
        self.sources: list[str] = list(index["sources"])
        self.about: dict[str, Any] = dict(index["about"])
        n_total = int(index["n_atoms"])
        self.arrays: dict[str, NDArray[Any]] = {}
        for name, (dtype, shape, per) in _ARRAYS.items():
            size = self.n_frames if per == "frame" else n_total
            if size:
                self.arrays[name] = np.memmap(folder / f"{name}.bin", dtype=dtype, mode="r", shape=(size, *shape))
            else:
                self.arrays[name] = np.zeros((0, *shape), dtype=dtype)
        self.first = np.concatenate([[0], np.cumsum(self.arrays["n_atoms"])])
        self.names: list[str] = json.loads((folder / "names.json").read_text())

    def system(self, index: int) -> System:
        """The structure of a frame."""
        atoms = slice(self.first[index], self.first[index + 1])
        charge, spin = (int(value) for value in self.arrays["charge_spin"][index])
        unspecified = (charge, spin) == UNSPECIFIED_CHARGE_SPIN
        positions = np.array(self.arrays["positions"][atoms])
        return System(
            numbers=np.array(self.arrays["numbers"][atoms]),
            positions=positions,
            cell=np.array(self.arrays["cell"][index]),
            pbc=np.array(self.arrays["pbc"][index]),
            fixed=np.zeros(positions.shape, dtype=bool),
            charge_spin=None if unspecified else (charge, spin),
        )

    def frame(self, index: int) -> Frame:
        """Structure and labels of a frame, grouped as its source grouped it."""
        atoms = slice(self.first[index], self.first[index + 1])
        energy, stress = float(self.arrays["energy"][index]), np.array(self.arrays["stress"][index])
        return Frame(
            self.system(index),
            energy=None if np.isnan(energy) else energy,
            forces=np.array(self.arrays["forces"][atoms]) if self.arrays["has_forces"][index] else None,
            stress=None if np.isnan(stress).any() else stress,
            name=self.names[index],
            group=str(self.about["groups"][index]),
            source=self.sources[int(self.arrays["source"][index])],
        )

    def composition(self, elements: tuple[int, ...]) -> NDArray[np.int64]:
        """Atoms of each of ``elements`` (atomic numbers) in every frame, [n_frames, n_elements]."""
        column = np.full(120, -1, dtype=np.int64)
        column[list(elements)] = np.arange(len(elements))
        frame_of = np.repeat(np.arange(self.n_frames), self.arrays["n_atoms"])
        counts = np.zeros((self.n_frames, len(elements)), dtype=np.int64)
        np.add.at(counts, (frame_of, column[self.arrays["numbers"]]), 1)
        return counts

    def twins(self) -> NDArray[np.int64]:
        """A number for each frame, the same for copies of one structure by symmetry, [n_frames]."""
        return twin_classes(np.array(self.arrays["invariants"]), self.composition(self.elements))

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur."""
        return tuple(int(z) for z in np.unique(self.arrays["numbers"]))


def build_store(
    folder: Path,
    frames: Iterable[LabelledFrame],
    *,
    cutoff: float,
    sources: list[str],
    key: str,
    about: dict[str, Any] | None = None,
) -> FrameStore:
    """Write ``frames`` as a store; memory use does not grow with their number. It takes its place when it is whole.

    Args:
        folder: where; an earlier store there is replaced.
        frames: what to store.
        cutoff: Å; neighbours within it are counted.
        sources: names of the sources.
        key: what identifies this data, see `open_store`.
        about: what else to remember, for example the frames that were left out.

    Raises:
        DPA4Error: the folder holds anything but a store.
    """
    if folder.exists() and (strange := sorted(p.name for p in folder.iterdir() if p.name not in _FILES)):
        raise DPA4Error(f"{folder} holds {strange[0]}, which is no part of a frame store; choose another output folder")
    final, folder = folder, folder.with_name(folder.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names: list[str] = []
    n_total = 0
    files = {name: (folder / f"{name}.bin").open("wb") for name in _ARRAYS}
    try:
        for chunk in _chunks(frames):
            names += [item.frame.name for item in chunk]
            n_total += sum(item.frame.system.n_atoms for item in chunk)
            for name, rows in _columns(chunk, cutoff).items():
                files[name].write(np.ascontiguousarray(rows, dtype=_ARRAYS[name][0]).tobytes())
    finally:
        for file in files.values():
            file.close()
    (folder / "names.json").write_text(json.dumps(names))
    index = {
        "version": _VERSION,
        "key": key,
        "n_frames": len(names),
        "n_atoms": n_total,
        "sources": sources,
        "about": about or {},
    }
    (folder / "index.json").write_text(json.dumps(index))
    shutil.rmtree(final, ignore_errors=True)  # an earlier store stays until the new one is whole
    folder.rename(final)
    return FrameStore(final)


def open_store(folder: Path, key: str) -> FrameStore | None:
    """The store in ``folder`` if it is complete and was built from ``key``."""
    try:
        index = json.loads((folder / "index.json").read_text())
    except (OSError, ValueError):
        return None
    return FrameStore(folder) if (index.get("key"), index.get("version")) == (key, _VERSION) else None


def share_store(store: Path, place: Path) -> None:
    """Give another run the same store without copying it, as far as the file system can; one that is there stays."""
    if store.is_dir() and not place.exists():
        part = place.with_name(f"{place.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            shutil.copytree(store, part, copy_function=os.link)
            part.rename(place)
        except (OSError, shutil.Error):  # no links here: the run reads its data itself
            shutil.rmtree(part, ignore_errors=True)


def _chunks(frames: Iterable[LabelledFrame]) -> Iterator[list[LabelledFrame]]:
    chunk: list[LabelledFrame] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _columns(chunk: list[LabelledFrame], cutoff: float) -> dict[str, NDArray[Any]]:
    frames = [item.frame for item in chunk]
    systems = [frame.system for frame in frames]
    neighbours = [_neighbours(system, cutoff) for system in systems]
    nothing = np.full((3, 3), np.nan)
    return {
        "n_atoms": np.array([system.n_atoms for system in systems]),
        "n_edges": np.array([n_edges for n_edges, _ in neighbours]),
        "cell": np.array([system.cell for system in systems]),
        "pbc": np.array([system.pbc for system in systems]),
        "charge_spin": np.array([system.charge_spin or UNSPECIFIED_CHARGE_SPIN for system in systems]),
        "energy": np.array([np.nan if frame.energy is None else frame.energy for frame in frames]),
        "stress": np.array([nothing if frame.stress is None else frame.stress for frame in frames]),
        "target": np.array([item.target for item in chunk]),
        "weight": np.array([item.weight * np.array(item.frame.weights) for item in chunk]),
        "has_forces": np.array([frame.forces is not None for frame in frames]),
        "source": np.array([item.source for item in chunk]),
        "invariants": np.array([values for _, values in neighbours]),
        "numbers": np.concatenate([system.numbers for system in systems]),
        "positions": np.concatenate([system.positions for system in systems]),
        "forces": np.concatenate(
            [np.full((frame.system.n_atoms, 3), np.nan) if frame.forces is None else frame.forces for frame in frames]
        ),
    }


def _neighbours(system: System, cutoff: float) -> tuple[int, NDArray[np.float64]]:
    """Number of pairs within the cutoff, and the invariants that they make; the pairs themselves are not kept."""
    graph = build_graph([system], cutoff)
    return graph.n_edges, invariants(graph, cutoff)
