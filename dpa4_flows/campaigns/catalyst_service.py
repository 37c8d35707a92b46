"""Stage ``service`` of catalyst campaigns, which a file may add: what becomes of a catalyst and its surface at work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import Field, model_validator

from dpa4_flows.campaigns.config import Campaign
from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.measured import Measured, each_once, finding
from dpa4_flows.campaigns.relaxed import at_rest
from dpa4_flows.campaigns.rivals import COMPETITION, Stored
from dpa4_flows.campaigns.sections import Limits, Section
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.compute.plan import Property
from dpa4_flows.documents.reasons import ReasonKind
from dpa4_flows.documents.service import ServiceDocument
from dpa4_flows.documents.surfaces import AdsorptionDocument
from dpa4_flows.properties.dissolution import Dissolution
from dpa4_flows.properties.pourbaix import Pourbaix
from dpa4_flows.properties.segregation import Segregation
from dpa4_flows.properties.service import Service


class ServiceSection(Section):
    """Where the catalyst works, what is asked, and the slabs that answer."""

    ph: float = Field(0.0, description="Of the water")
    potential: list[float] = Field(
        default_factory=lambda: [0.0, 1.0], min_length=2, max_length=2, description="Lowest and highest, V (RHE)"
    )
    water: bool = Field(True, description="Energy above the stable species in water, whose solids are relaxed for it")
    segregation: bool = Field(True, description="Exchanges of surface atoms of alloys with the inside")
    dissolution: bool = Field(True, description="Potentials at which surface atoms leave")
    min_length: float = Field(5.0, description="Between a changed atom and its images, Å")
    min_thickness: float = Field(9.0, description="Of the slabs, Å; the lower half is fixed")
    max_atoms: int = Field(100, description="Of a slab; facets with larger ones are left out")
    fmax: float = Field(0.05, description="eV/Å")
    max_steps: int = Field(150, description="Optimiser steps of each slab")

    def asked(self, water: Pourbaix, facets: tuple[str, ...] = ()) -> Service:
        """The property with these settings."""
        names = ("min_length", "min_thickness", "max_atoms", "fmax", "max_steps")
        slabs: dict[str, Any] = {"facets": facets, **{name: getattr(self, name) for name in names}}
        return Service(
            self.ph,
            (self.potential[0], self.potential[1]),
            water if self.water else None,
            Segregation(**slabs) if self.segregation else None,
            Dissolution(**slabs) if self.dissolution else None,
        )

    @model_validator(mode="after")
    def _makes_sense(self) -> ServiceSection:
        self.asked(Pourbaix()).check()
        return self


@dataclass(frozen=True)
class RunPourbaix(Pourbaix, Stored):
    """Stability in water in a campaign."""

    prototypes: bool = False  # of hydrogen and oxygen with every metal there are very many


@dataclass(frozen=True)
class AtWork(Measured):
    """All three questions on the facets on which something was adsorbed."""

    measures: Property[Any] = field(default_factory=Service)
    of: str = "catalysts at work"
    crystal: Any = at_rest

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        return {"": ServiceSection, **COMPETITION}

    def settled(self, scene: Scene) -> Property[Any]:
        section = scene.settings
        assert isinstance(section, ServiceSection)
        return section.asked(RunPourbaix.of_scene(scene))

    def further_systems(self, campaign: Campaign, table: Section) -> Iterable[str]:
        assert isinstance(table, ServiceSection)
        return RunPourbaix().further() if table.water else ()

    def of_case(self, case: Case) -> Property[Any]:
        found, asked = case.document(AdsorptionDocument), self.settled(case.scene)
        assert isinstance(asked, Service)
        facets = tuple(dict.fromkeys(facet.facet for facet in found.facets))
        swaps, leaving = asked.segregation, asked.dissolution
        return replace(
            asked,
            segregation=swaps and replace(swaps, facets=facets),
            dissolution=leaving and replace(leaving, facets=facets),
        )


def judge_service(case: Case) -> Finding:
    """What lasts; of several doubts of one kind the first is told."""
    return finding(case, each_once(case.document(ServiceDocument).warnings, "atom_not_computed"))


SERVICE = Stage(
    name="service",
    title="In service",
    judge=judge_service,
    quantities=ServiceDocument,
    criteria={"decomposition_energy": Limits(max=0.5, otherwise="flag")},
    reasons={
        "decomposition_energy_too_high": ReasonKind("dissolves", "it lies far above the stable species in water"),
        "no_pourbaix": ReasonKind("water unknown", "its stability in water is not known"),
        "no_segregation": ReasonKind("segregation unknown", "what exchanges with the inside cost is not known"),
        "no_dissolution": ReasonKind("dissolution unknown", "at which potential it dissolves is not known"),
        "incomplete_hull": ReasonKind("solids missing", "solids may be missing among what competes in water"),
        "no_solid_competes": ReasonKind("nothing competes", "no other solid of its elements is known in water"),
        "energies_in_water": ReasonKind("water doubtful", "what to know of the energies of solids in water"),
        "no_ion": ReasonKind("no ion", "no ion of a metal is known"),
        "surface_reconstructed": ReasonKind("surface changed", "a surface changed after an atom of it was exchanged"),
        "incomplete": ReasonKind("not converged", "a slab did not reach fmax: its energy is an upper bound"),
        "atom_not_computed": ReasonKind("atom failed", "an atom could not be exchanged or taken out"),
        "clean_slab_changed": ReasonKind("slab reconstructed", "a clean slab reconstructed"),
        "slab_not_converged": ReasonKind("slab not converged", "a clean slab did not reach fmax"),
        "energy_jump": ReasonKind("energy jump", "taking out an atom changes the energy as no bond can"),
        "implausible_energy": ReasonKind("implausible", "the energy of a vacancy is beyond all that are known"),
    },
    needs=("at_rest", "adsorption"),
    computes=AtWork(),
)
