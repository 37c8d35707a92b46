"""A kind of campaign that the program does not know: which crystals hold on to their atoms."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from dpa4_core.relax import Relax, RelaxOptions
from dpa4_flows.campaigns.duplicates import DUPLICATES, RELAXED_DUPLICATES
from dpa4_flows.campaigns.kind import CampaignKind
from dpa4_flows.campaigns.measured import Measured, relaxed
from dpa4_flows.campaigns.relaxed import RELAX
from dpa4_flows.campaigns.sanity import SANITY
from dpa4_flows.campaigns.sections import Limits
from dpa4_flows.campaigns.stage import Stage
from dpa4_flows.compute.plan import Property, checked
from dpa4_flows.documents.quantities import Quantity
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.schemas import Document, Provenance
from dpa4_flows.plots.figure import Column, TableBlock


class VacancyDocument(Document):
    vacancy_energy: Annotated[float | None, Quantity("Vacancy energy", "eV", 3, goal="max", scale=(0, 9))] = None
    shift: Annotated[float | None, Quantity("Shift", "Å", 2, "the longest", goal="zero")] = None
    doubts: tuple[Reason, ...] = ()
    error: str | None = None
    provenance: Provenance


@dataclass(frozen=True)
class Vacancy(Property[VacancyDocument]):
    name: ClassVar[str] = "vacancy"
    document: ClassVar[type[Document]] = VacancyDocument
    figures: ClassVar[str] = "toy_kind:draw"
    caveats: ClassVar[tuple[str, ...]] = ("A vacancy is one in two cells.",)
    fmax: float = 0.05
    loose_below: float = 0.0  # eV

    def plan(self, crystal):
        broken = (crystal.structure * [2, 1, 1]).remove_sites([0])
        end = checked((yield {"": Relax(broken, RelaxOptions(fmax=self.fmax, relax_cell=False))})[""])
        energy = end.energy - crystal.relaxed.energy_per_atom * len(broken)
        shift = max(site.distance(other) for site, other in zip(broken, end.structure, strict=True))
        doubts = [Reason(code="loose_atom", sentence="it lets go")] if energy < self.loose_below else []
        return VacancyDocument(vacancy_energy=energy, shift=shift, doubts=doubts, provenance=self.origin(crystal))

    def failed(self, crystal, error):
        return VacancyDocument(error=str(error), provenance=self.origin(crystal))


def draw(documents):
    cells = [[name, str(document.vacancy_energy)] for name, document in documents.items()]
    return [TableBlock("all", "Vacancies", "All of them.", [Column("Crystal"), Column("E", "eV", True)], cells)]


# fmt: off
VACANCY = Stage("vacancy", "Missing atom", quantities=VacancyDocument, needs=("relax",),
                criteria={"vacancy_energy": Limits(min=0.0), "shift": Limits(max=1.5, otherwise="flag")},
                reasons={"loose_atom": ReasonKind("loose", "an atom is loose")},
                computes=Measured(Vacancy(), "crystals with a vacancy", relaxed))
VACANCIES = CampaignKind("vacancies", (SANITY, DUPLICATES, RELAX, RELAXED_DUPLICATES, VACANCY), {"vacancy_energy": {}})
