"""Phonons of many crystals: the displaced supercells of all of them are computed in the same force calls."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import PotentialLike
from dpa4_core.predict import Prediction, predict
from dpa4_flows.analysis.force_constants import PhononCalculation
from dpa4_flows.analysis.phonons import dynamical_stability, thermal_properties
from dpa4_flows.extras import require_extra
from dpa4_flows.makers.parts import PartMaker
from dpa4_flows.provenance import provenance
from dpa4_flows.schemas_stability import PhononPart, ThermalRow

TEMPERATURES = (0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 800.0, 1000.0)
"""K."""
LOOSE_FMAX = 5e-3
"""eV/Å; forces beyond this on the undisplaced atoms say that the crystal was not relaxed tightly enough."""


@dataclass
class BatchPhononMaker(PartMaker[PhononPart]):
    """Harmonic phonons of relaxed crystals by finite displacements (phonopy; ``pip install 'dpa4-flows[phonons]'``).

    Args:
        name: name of the job.
        model: potential.
        max_atoms_per_batch: atoms computed at the same time; None leaves it to the device.
        min_length: Å, shortest distance between an atom and its image in the supercell.
        displacement: Å, of one atom.
        mesh_length: Å; there are about ``mesh_length`` / (lattice constant) wave vectors along each axis.
        temperatures_k: K, of the thermal properties.
        max_supercell_atoms: a crystal that needs a larger supercell has an error instead.
        mode_amplitude: Å, largest displacement of an atom in the structures along an imaginary mode.
        force_constants_folder: gets a phonopy YAML file with force constants for each crystal that is computed.
    """

    name: str = "DPA4 phonons"
    min_length: float = 10.0
    displacement: float = 0.01
    mesh_length: float = 60.0
    temperatures_k: tuple[float, ...] = TEMPERATURES
    max_supercell_atoms: int = 1000
    mode_amplitude: float = 0.1
    force_constants_folder: str | None = None

    def settings(self) -> dict[str, Any]:
        return {
            "calculation": "phonons",
            "min_length": float(self.min_length),
            "displacement": float(self.displacement),
            "mesh_length": float(self.mesh_length),
            "temperatures_k": [float(t) for t in self.temperatures_k],
            "mode_amplitude": float(self.mode_amplitude),
            "dtype": self.model.dtype,
        }

    @property
    def document(self) -> type[PhononPart]:
        return PhononPart

    def _work(self, structure: Structure) -> int:
        # three displacements of each atom in a supercell of the wanted length: the most that it can be
        return int(3 * len(structure) * max(len(structure), self.min_length**3 * len(structure) / structure.volume))

    def _compute(self, structures: list[Structure], potential: PotentialLike, info: ModelInfo) -> list[PhononPart]:
        require_extra("phonons", "a calculation of phonons")
        prepared: list[PhononCalculation | str] = []
        cells: list[Structure] = []
        for structure in structures:
            try:
                calculation = PhononCalculation(
                    structure,
                    min_length=self.min_length,
                    displacement=self.displacement,
                    max_atoms=self.max_supercell_atoms,
                )
            except ValueError as error:
                prepared.append(str(error))
                continue
            prepared.append(calculation)
            cells += [calculation.primitive, *calculation.displaced]
        predictions = iter(predict(cells, potential, max_atoms_per_batch=self._budget(potential)))
        parts = []
        for structure, item in zip(structures, prepared, strict=True):
            if isinstance(item, str):
                parts.append(self._failed(item, info))
                continue
            of_cells = [next(predictions) for _ in range(1 + len(item.displaced))]
            parts.append(self._part(structure, item, of_cells, info))
        return parts

    def _failed(self, sentence: str, info: ModelInfo) -> PhononPart:
        return PhononPart(
            verdict="unknown",
            reason=sentence,
            error=sentence,
            converged=False,
            provenance=provenance(info, self.settings()),
        )

    def _part(
        self, structure: Structure, calculation: PhononCalculation, predictions: list[Prediction], info: ModelInfo
    ) -> PhononPart:
        forces = [prediction.forces for prediction in predictions if prediction.forces is not None]
        if len(forces) < len(predictions):
            wrong = next(p.error for p in predictions if p.error is not None)
            return self._failed(f"a displaced supercell could not be computed: {wrong}", info)
        calculation.set_forces(forces[1:], forces[0])
        mesh = calculation.mesh(self.mesh_length)
        found = dynamical_stability(mesh, calculation.commensurate(), calculation.near_gamma)
        rest = float((forces[0] ** 2).sum(axis=1).max() ** 0.5)
        warnings = []
        if rest > LOOSE_FMAX:
            warnings.append(f"forces of {rest:.3f} eV/Å on undisplaced atoms: relax more tightly before phonons")
        unstable = found.verdict == "unstable"
        thermal = [] if unstable else thermal_properties(mesh, self.temperatures_k)
        if thermal and found.imaginary_fraction > 0:
            warnings.append("imaginary modes are left out of the thermal properties")
        starts = calculation.displaced_along(found.lowest_q, self.mode_amplitude) if unstable else []
        if self.force_constants_folder is not None:
            folder = Path(self.force_constants_folder)
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{structure.composition.reduced_formula}-{self.key(structure).split()[-1][:8]}.phonopy.yaml"
            calculation.save(folder / name)
        facts = dataclasses.asdict(found)
        return PhononPart(
            **{**facts, "gamma_optical_thz": list(found.gamma_optical_thz), "lowest_q": list(found.lowest_q)},
            converged=rest <= LOOSE_FMAX,
            warnings=warnings,
            acoustic_noise_thz=calculation.acoustic_noise_thz,
            n_displacements=len(calculation.displaced),
            n_supercell_atoms=calculation.n_atoms,
            supercell_length=calculation.supercell_length,
            supercell_matrix=calculation.supercell_matrix.tolist(),
            thermal=[ThermalRow(**dataclasses.asdict(row)) for row in thermal],
            along_mode=[start.as_dict() for start in starts],
            provenance=provenance(info, self.settings()),
        )
