"""A lattice's thermal conductivity: cheap models from elastic tensor and volume, and the scattering of phonons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from pydantic import Field
from scipy.constants import atomic_mass

from dpa4_flows.analysis.isotopic_symmetry import density_g_cm3
from dpa4_flows.analysis.lattice_conductivity import ROOM_K, cahill, clarke, gruneisen_of_poisson, slack, sound_waves
from dpa4_flows.analysis.stability import primitive_cell
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, Property, answered
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.part import whole_crystal
from dpa4_flows.properties.phonon_scattering import PhononScattering, PhononScatteringDocument
from dpa4_flows.properties.quasi_harmonic import QuasiHarmonic

_MODEL = "a model, of magnitude and order; a metal's electrons conduct besides"


class HeatConductivityDocument(AnswerDocument):
    """Thermal conductivity of one crystal's lattice."""

    formula: str = Field(description="Reduced formula")
    slack_w_mk: float | None = shown(
        "Slack conductivity",
        "W/(m K)",
        1,
        f"lattice, 300 K; {_MODEL}",
        voided_by=("no_anharmonicity",),
        priority=12,
    )
    clarke_w_mk: float | None = shown("Clarke limit", "W/(m K)", 2, "smallest that a lattice can have", detail=True)
    cahill_w_mk: float | None = shown("Cahill limit", "W/(m K)", 2, "of a disordered lattice", detail=True)
    phonons_w_mk: float | None = shown(
        "κ of phonons", "W/(m K)", 1, "lattice, 300 K, three-phonon and isotope scattering", priority=11
    )
    debye_temperature_k: float | None = Field(None, description="From the elastic tensor, K")
    gruneisen: float | None = shown(
        "Grüneisen parameter", "", 2, detail=True, description="That the model of Slack took"
    )
    gruneisen_from: Literal["phonons", "poisson"] | None = Field(None, description="Where it comes from")
    converged: bool = Field(False, description="Whether everything below reached its fmax")
    doubts: list[Reason] = Field(default_factory=list)


@dataclass(frozen=True)
class HeatConductivity(Property[HeatConductivityDocument]):
    """Thermal conductivity by the models of Slack, Clarke and Cahill, of a relaxed crystal, and by its phonons.

    Attributes:
        method: slack for the models alone; rta or direct, solutions of the Boltzmann equation of phonons, beside them.
        gruneisen: where the anharmonicity comes from: ``phonons`` at two volumes, as `QuasiHarmonic` has them, or the
            ``poisson`` ratio, which costs nothing and knows little.
        elastic: settings of the elastic tensor.
        quasi_harmonic: settings of the phonons.
        scattering: settings of rta and direct, which is its ``solution``.
    """

    name: ClassVar[str] = "heat_conductivity"
    example: ClassVar[str] = "Si.cif GaAs.cif"
    document: ClassVar[type[Document]] = HeatConductivityDocument
    version: ClassVar[int] = 2
    starts_from_rest: ClassVar[bool] = True

    method: Literal["slack", "rta", "direct"] = "slack"
    gruneisen: Literal["phonons", "poisson"] = "phonons"
    elastic: Elastic = field(default_factory=Elastic)
    quasi_harmonic: QuasiHarmonic = field(default_factory=QuasiHarmonic)
    scattering: PhononScattering = field(default_factory=PhononScattering)

    @property
    def parts(self) -> tuple[Property[Any], ...]:
        return () if self.method == "slack" else (replace(self.scattering, solution=self.method),)

    def check(self) -> None:
        for part in self.parts:
            part.check()
        self.elastic.check()
        if self.gruneisen == "phonons":
            self.quasi_harmonic.check()

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        expansion = (self.quasi_harmonic,) if self.gruneisen == "phonons" else ()
        costs = [part.cost_if_any(crystal) or (0, 0) for part in (self.elastic, *expansion, *self.parts)]
        return sum(n for n, _ in costs), sum(n for _, n in costs)

    def plan(self, crystal: Crystal) -> Plan[HeatConductivityDocument]:
        structure = primitive_cell(whole_crystal(crystal))
        wanted: dict[str, Ask[Any]] = {"elastic": Ask(self.elastic, crystal)}
        if self.gruneisen == "phonons":
            wanted["phonons"] = Ask(self.quasi_harmonic, crystal)
        found = yield wanted | {part.name: Ask(part, crystal) for part in self.parts}
        tensor = answered(found["elastic"])
        doubts, converged = tensor.unsettled, tensor.converged
        gruneisen = self._of_phonons(found, doubts)
        converged = converged and (gruneisen is None or found["phonons"].converged)
        scattering: PhononScatteringDocument | None = found.get("phonon_scattering")
        if scattering is not None and scattering.error is not None:
            doubts.append(Reason(code="no_scattering", sentence=f"no conductivity of phonons: {scattering.error}"))
        elif scattering is not None:
            doubts, converged = [*doubts, *scattering.doubts], converged and scattering.converged
        origin: Literal["phonons", "poisson"] = "poisson" if gruneisen is None else "phonons"
        moduli = (
            tensor.k_vrh_gpa,
            tensor.g_vrh_gpa,
            tensor.e_vrh_gpa,
            tensor.poisson_ratio,
            tensor.debye_temperature_k,
        )
        if any(value is None or value <= 0 for value in moduli[:3] + moduli[4:]):
            raise PlanError(f"the elastic tensor has no positive moduli: {tensor.reason}", "no_moduli")
        bulk, shear, young, poisson, debye = (float(value) for value in moduli)
        if gruneisen is None:
            gruneisen = gruneisen_of_poisson(poisson)
        volume = structure.volume / len(structure)
        mass = density_g_cm3(structure) * 1e-24 * volume / (1e3 * atomic_mass)
        return HeatConductivityDocument(
            formula=structure.composition.reduced_formula,
            slack_w_mk=slack(debye, gruneisen, mass, volume, len(structure), ROOM_K),
            clarke_w_mk=clarke(young, mass, volume),
            cahill_w_mk=cahill(sound_waves(bulk, shear, mass, volume), volume),
            phonons_w_mk=None if scattering is None else scattering.conductivity_w_mk,
            debye_temperature_k=debye,
            gruneisen=gruneisen,
            gruneisen_from=origin,
            converged=converged,
            doubts=doubts,
            provenance=self.origin(crystal),
        )

    def _of_phonons(self, found: Mapping[str, Any], doubts: list[Reason]) -> float | None:
        """The acoustic Grüneisen parameter, if there is one; else why there is none."""
        if self.gruneisen != "phonons":
            return None
        document = found["phonons"]
        if document.gruneisen_acoustic is None:
            why = document.error or "an acoustic mode is imaginary at one of the volumes"
            words = f"no Grüneisen parameter from phonons ({why}): that of the Poisson ratio stands in"
            doubts.append(Reason(code="no_anharmonicity" if document.error is None else "no_phonons", sentence=words))
        return document.gruneisen_acoustic
