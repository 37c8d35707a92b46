"""What a set of labelled frames holds, and what in it looks wrong."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii

from dpa4_core.data.force_check import ForceCheck
from dpa4_core.data.frame import BrokenFrame, Frame, reduced_formula
from dpa4_core.data.pairs import near_pairs
from dpa4_core.data.running import Extensivity, LogHistogram, Range
from dpa4_core.data.stress_check import StressCheck
from dpa4_core.data.system import MIN_DISTANCE_RATIO, System, symbol
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA

MAX_FORCE = 50.0
"""eV/Å; equilibrium and AIMD frames stay below 20, overlapping atoms have hundreds."""

MAX_ENERGY_PER_ATOM = 200.0
"""eV; plane-wave codes stay below, all-electron codes do not."""

MAX_STRESS = 0.6
"""eV/Å³, 96 GPa: solids at ambient conditions and their strained copies stay below."""

MAX_DEVIATION, SPREADS = 1.0, 20.0
"""eV/atom, and multiples of the median deviation: an energy further from the others of its formula stands out."""

ISOLATION = 5.0
"""Å; an atom without a neighbour within has hardly any interaction to learn."""

VOLUME_RANGE = (2.0, 5000.0)
"""Å³ per atom in a periodic cell; diamond has 5.7, a molecule in a box of 20 Å 2700."""

BOND_RANGE = (0.55, 1.6)
"""Closest pair over sum of covalent radii, median over frames; 0.75 to 1.3 in solids and molecules."""

MAX_LISTED = 1000
"""Entries that are listed of each kind; all are counted."""

MAX_LOOK_ALIKES = 10
"""Keys that are named because they look like a missing label."""

MAX_REMEMBERED = 2_000_000
"""Frames whose fingerprints are kept to find duplicates."""

_NOBLE_GASES = frozenset({2, 10, 18, 36, 54, 86})


@dataclass(frozen=True)
class DataSummary:
    """Counts, ranges and doubts.

    Attributes:
        n_frames: frames that could be read.
        n_broken: frames that could not.
        n_with_energy: frames with this label, as the next two.
        n_with_forces: see above.
        n_with_stress: see above.
        n_weighted: frames to which the file gives weights other than 1.
        n_duplicates: frames whose structure (to 1e-4 Å) came before.
        n_suspicious: all entries of ``suspicious``, listed or not.
        elements: number of frames with each element, by atomic number.
        atoms: smallest and largest number of atoms in a frame; None without frames.
        energy_per_atom: smallest and largest, eV/atom.
        force_norm_median: eV/Å, to 1 %.
        force_norm_max: eV/Å.
        n_groups: different `Frame.group`.
        suspicious: name of a frame and a sentence, the first thousand.
        broken: name and error of broken frames and left-out labels, the first thousand.
        warnings: sentences about the whole set.
    """

    n_frames: int
    n_broken: int
    n_with_energy: int
    n_with_forces: int
    n_with_stress: int
    n_weighted: int
    n_duplicates: int
    n_suspicious: int
    elements: dict[str, int]
    atoms: tuple[int, int] | None
    energy_per_atom: tuple[float, float] | None
    force_norm_median: float | None
    force_norm_max: float | None
    n_groups: int
    suspicious: list[tuple[str, str]]
    broken: list[tuple[str, str]]
    warnings: list[str]


class SummaryBuilder:
    """Collects frames one by one, so that a data set can be streamed; `result` may be asked at any time."""

    def __init__(self, *, max_force: float = MAX_FORCE) -> None:
        self.max_force = max_force
        self._counts: Counter[str] = Counter()
        self._elements: Counter[int] = Counter()
        self._sizes = Range()
        self._energies = Range()
        self._norms = LogHistogram()
        self._bonds: list[float] = []
        self._groups: set[str] = set()
        self._seen: dict[bytes, float | None] = {}
        self._energy_values: Counter[float] = Counter()
        self._extensive = Extensivity()
        self._stress_check, self._force_check = StressCheck(), ForceCheck()
        self._largest_stress: tuple[float, str] = (0.0, "")
        self._by_formula: dict[str, list[tuple[float, str]]] = {}
        self._suspicious: list[tuple[str, str]] = []
        self._broken: list[tuple[str, str]] = []
        self._look_alikes: Counter[tuple[str, str]] = Counter()
        self._large_energy: str | None = None

    def add(self, frame: Frame | BrokenFrame) -> None:
        """Count one frame and look at it."""
        if isinstance(frame, BrokenFrame):
            self._note_broken(frame.name, frame.error)
            self._counts["broken"] += 1
            return
        for sentence in frame.left_out:
            self._note_broken(frame.name, sentence)
        system = frame.system
        self._counts["frames"] += 1
        self._counts["weighted"] += frame.weights != (1.0, 1.0, 1.0)
        self._look_alikes.update(frame.look_alikes)
        self._elements.update(np.unique(system.numbers).tolist())
        self._groups.add(frame.group)
        self._sizes.add(system.n_atoms)
        self._look_at_structure(frame.name, system)
        self._compare(frame)
        if frame.energy is not None:
            self._look_at_energy(frame, frame.energy)
        if frame.forces is not None:
            self._counts["forces"] += 1
            norms = np.linalg.norm(frame.forces, axis=1)
            self._norms.add(norms)
            if norms.max() > self.max_force:
                atom = int(norms.argmax())
                self._suspect(
                    frame.name,
                    f"the force on atom {atom} ({symbol(system.numbers[atom])}) is {norms[atom]:.4g} eV/Å "
                    f"(limit {self.max_force:g})",
                )
            self._force_check.add(frame)
        self._counts["property"] += bool(frame.properties)
        if frame.stress is not None:
            self._counts["stress"] += 1
            self._stress_check.add(frame)
            largest = float(np.abs(frame.stress).max())
            self._counts["large stress"] += largest > MAX_STRESS
            self._largest_stress = max(self._largest_stress, (largest, frame.name))

    def result(self) -> DataSummary:
        """Everything so far."""
        counts = self._counts
        return DataSummary(
            n_frames=counts["frames"],
            n_broken=counts["broken"],
            n_with_energy=counts["energy"],
            n_with_forces=counts["forces"],
            n_with_stress=counts["stress"],
            n_weighted=counts["weighted"],
            n_duplicates=counts["duplicates"],
            n_suspicious=counts["suspicious"],
            elements={symbol(number): self._elements[number] for number in sorted(self._elements)},
            atoms=None if self._sizes.limits is None else (int(self._sizes.limits[0]), int(self._sizes.limits[1])),
            energy_per_atom=self._energies.limits,
            force_norm_median=self._norms.median(),
            force_norm_max=self._norms.largest,
            n_groups=len(self._groups),
            suspicious=list(self._suspicious),
            broken=list(self._broken),
            warnings=self._warnings(),
        )

    def _note_broken(self, name: str, sentence: str) -> None:
        if len(self._broken) < MAX_LISTED:
            self._broken.append((name, sentence))

    def _suspect(self, name: str, sentence: str) -> None:
        self._counts["suspicious"] += 1
        if len(self._suspicious) < MAX_LISTED:
            self._suspicious.append((name, sentence))

    def _look_at_structure(self, name: str, system: System) -> None:
        """Closest pair, atoms without neighbours, volume."""
        if system.pbc.all():
            volume = system.volume / system.n_atoms
            if not VOLUME_RANGE[0] < volume < VOLUME_RANGE[1]:
                self._suspect(name, f"the cell has {volume:.3g} Å³ per atom; check that it is in Å")
                return  # a neighbour list could be enormous
        pairs, _, distances = near_pairs(system.positions, system.cell, system.pbc, ISOLATION)
        lonely = np.setdiff1d(np.arange(system.n_atoms), pairs)
        if len(lonely) and system.n_atoms > 1:  # a frame of one atom is meant to be a free one
            atom = f"atom {lonely[0]} ({symbol(system.numbers[lonely[0]])})"
            others = f" and {len(lonely) - 1} more" if len(lonely) > 1 else ""
            self._suspect(name, f"{atom}{others} without a neighbour within {ISOLATION:g} Å")
        if not len(distances):
            return
        ratios = distances / covalent_radii[system.numbers][pairs].sum(axis=1)
        worst = int(ratios.argmin())
        if len(self._bonds) < MAX_REMEMBERED and not _NOBLE_GASES & set(system.numbers.tolist()):
            self._bonds.append(float(ratios[worst]))
        if ratios[worst] < MIN_DISTANCE_RATIO:
            i, j = sorted(int(k) for k in pairs[worst])
            first, second = (f"{k} ({symbol(system.numbers[k])})" for k in (i, j))
            self._suspect(
                name,
                f"atoms {first} and {second} are {distances[worst]:.2f} Å apart, {ratios[worst]:.2f} of the sum of "
                f"their covalent radii",
            )

    def _look_at_energy(self, frame: Frame, energy: float) -> None:
        n_atoms = frame.system.n_atoms
        self._counts["energy"] += 1
        self._energies.add(energy / n_atoms)
        formula = reduced_formula(frame.system.numbers)
        self._extensive.add(formula, n_atoms, energy)
        if self._counts["energy"] <= MAX_REMEMBERED:
            self._by_formula.setdefault(formula, []).append((energy / n_atoms, frame.name))
        if abs(energy) / n_atoms > MAX_ENERGY_PER_ATOM:
            self._counts["large energy"] += 1
            self._large_energy = self._large_energy or f"{frame.name} with {energy / n_atoms:.4g} eV/atom"

    def _compare(self, frame: Frame) -> None:
        """With earlier frames: the same structure, or another one with the same energy."""
        if self._counts["frames"] > MAX_REMEMBERED:
            return
        system, energy = frame.system, frame.energy
        digest = hashlib.blake2b(system.numbers.tobytes(), digest_size=12)
        for array in (system.cell, system.positions):
            digest.update((np.round(array, 4) + 0.0).tobytes())  # + 0.0: no negative zeros
        digest.update(repr(system.charge_spin).encode())
        key = digest.digest()
        if key in self._seen:
            self._counts["duplicates"] += 1
            before = self._seen[key]
            if energy is not None and before is not None and abs(energy - before) > 0.01 * system.n_atoms:
                self._counts["contradictions"] += 1
            return
        self._seen[key] = energy
        if energy is not None:
            self._energy_values[energy] += 1

    def _warnings(self) -> list[str]:
        found = []
        counts = self._counts
        if counts["frames"] and not counts["energy"] + counts["forces"] + counts["stress"]:
            if not counts["property"]:  # of which a head may be trained
                found.append("no frame has an energy, forces or a stress; check what the labels are called")
        elif counts["energy"] < counts["frames"]:
            found.append(f"{counts['frames'] - counts['energy']} of {counts['frames']} frames have no energy")
        for (label, key), times in self._look_alikes.most_common(MAX_LOOK_ALIKES):
            found.append(
                f"{times} of {counts['frames']} frames have no {label} but {key!r}, which may be it and was not used; "
                f"if it is, set data.keys.{label} = {key!r}"
            )
        if self._large_energy:
            found.append(
                f"energies beyond {MAX_ENERGY_PER_ATOM:g} eV per atom in {counts['large energy']} of "
                f"{counts['frames']} frames, first {self._large_energy}; fine for all-electron energies, else check "
                "the unit"
            )
        if self._extensive.stored_per_atom():
            found.append(
                "the energy does not grow with the number of atoms; it seems to be stored per atom, not in total"
            )
        if counts["contradictions"]:
            found.append(
                f"{counts['contradictions']} of the repeated structures differ in energy by more than 10 meV/atom; "
                "the frames may come from different settings"
            )
        if self._energy_values:
            value, times = self._energy_values.most_common(1)[0]
            if times >= 10 and times > 0.2 * self._energy_values.total():
                found.append(f"{times} different structures have exactly the same energy, {value:.6g} eV")
        if len(self._bonds) >= 5:
            typical = float(np.median(self._bonds))
            if not BOND_RANGE[0] < typical < BOND_RANGE[1]:
                found.append(
                    f"the closest atoms are typically {typical:.2f} of the sum of their covalent radii apart; check "
                    "that positions and cells are in Å"
                )
        if counts["large stress"]:
            largest, name = self._largest_stress
            found.append(
                f"stresses beyond {MAX_STRESS:g} eV/Å³ ({MAX_STRESS * EV_PER_ANGSTROM3_TO_GPA:.0f} GPa) in "
                f"{counts['large stress']} of {counts['stress']} frames, up to {largest:.4g} eV/Å³ "
                f"({largest * EV_PER_ANGSTROM3_TO_GPA:.4g} GPa) in {name}; check the unit: numbers in GPa are 160 and "
                "in kbar 1602 times too large, virials as many times as the cell has Å³"
            )
        found += [
            sentence for check in (self._stress_check, self._force_check) if (sentence := check.verdict()) is not None
        ]
        if outliers := self._outliers():
            found.append(
                f"energies far apart from all others of their formula in {len(outliers)} of {counts['energy']} frames, "
                f"first {outliers[0][1]} by {outliers[0][0]:+.3g} eV/atom; check how these frames were computed"
            )
        return found

    def _outliers(self) -> list[tuple[float, str]]:
        """Deviation in eV/atom and name of frames whose energy is far from all others of the same formula."""
        found = []
        for entries in self._by_formula.values():
            if len(entries) < 8:
                continue
            values = np.array([value for value, _ in entries])
            deviations = values - np.median(values)
            limit = max(SPREADS * float(np.median(np.abs(deviations))), MAX_DEVIATION)
            found += [(float(deviations[i]), entries[i][1]) for i in np.flatnonzero(np.abs(deviations) > limit)]
        return found
