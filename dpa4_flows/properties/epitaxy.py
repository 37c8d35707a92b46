"""On which wafers a crystal grows as a film: both with the lattice constants of the model, strain and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import DPA4Error
from dpa4_core.strict import meant
from dpa4_flows.analysis.epitaxy import Wafer, matches, wafers
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, Property
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.quantities import Quantity
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.properties.at_rest import AT_REST
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.part import whole_crystal


class EpitaxyMatch(Document):
    """A film on one plane of a wafer."""

    substrate: str = Field(description="Name of the wafer")
    substrate_plane: str = Field(description="Miller indices of its plane")
    film_plane: str = Field(description="Miller indices of the plane of the film that lies on it")
    area_a2: float = Field(description="Of the common superlattice, Å²")
    strain_percent: float = Field(description="Of the film, von Mises, %")
    elastic_energy_mev: float | None = Field(None, description="Of the strained film, meV/atom")


class EpitaxyDocument(AnswerDocument):
    """Wafers that one crystal fits on, the least strained first."""

    formula: str = Field(description="Reduced formula")
    substrate: Annotated[
        str | None, Quantity("Wafer", note="of the least strain, but for the film's own", priority=15)
    ] = Field(None, description="That strains the film least, of another composition; null if none fits")
    substrate_plane: Annotated[str | None, Quantity("Its plane", detail=True)] = Field(
        None, description="Miller indices"
    )
    film_plane: Annotated[str | None, Quantity("Plane of the film", detail=True)] = Field(
        None, description="Miller indices"
    )
    strain_percent: Annotated[
        float | None,
        Quantity("Misfit", "%", 2, "von Mises strain of the film, 0 K", goal="min", scale=(0.0, 3.0), priority=14),
    ] = Field(None, description="Von Mises strain of the film on it, %")
    area_a2: Annotated[float | None, Quantity("Common cell", "Å²", 0, "large ones mean little", detail=True)] = Field(
        None, description="Of the common superlattice, Å²"
    )
    elastic_energy_mev: Annotated[float | None, Quantity("Strain energy", "meV/atom", 1, "of the film")] = Field(
        None, description="Of the strained film, meV/atom"
    )
    matches: list[EpitaxyMatch] = Field(default_factory=list, description="All pairs of planes, least strained first")
    n_matches: int = Field(0, description="Pairs of planes that fit within the largest area")
    left_out: dict[str, str] = Field(default_factory=dict, description="Wafers without a relaxed structure, and why")
    converged: bool = Field(False, description="Whether wafers and strained cells reached their fmax")
    doubts: list[Reason] = Field(default_factory=list)


@dataclass(frozen=True)
class Epitaxy(Property[EpitaxyDocument]):
    """Wafers that a relaxed crystal fits on, by the lattices alone: bonds and steps between them are not computed.

    Attributes:
        substrates: names of wafers; all that come with the program if there are none.
        max_index: largest Miller index of the planes of the film.
        max_area: Å², of the common superlattice.
        elastic: settings of the elastic tensor of the film.
        relaxation: of the wafers.
    """

    name: ClassVar[str] = "epitaxy"
    document: ClassVar[type[Document]] = EpitaxyDocument
    starts_from_rest: ClassVar[bool] = True

    substrates: tuple[str, ...] = ()
    max_index: int = 1
    max_area: float = 200.0
    elastic: Elastic = field(default_factory=Elastic)
    relaxation: Relaxed = AT_REST

    def check(self) -> None:
        self.elastic.check()
        for name in self.substrates:
            if name not in wafers():
                raise DPA4Error(f"there is no wafer {name!r}; {meant(name, wafers())}")

    def plan(self, crystal: Crystal) -> Plan[EpitaxyDocument]:
        self.check()
        film = whole_crystal(crystal)
        names = self.substrates or tuple(wafers())
        wanted: dict[str, Ask[Any]] = {
            name: Ask(self.relaxation, Crystal(wafers()[name].structure, name)) for name in names
        }
        found = yield {"elastic": Ask(self.elastic, crystal), **wanted}
        left_out = {name: found[name].error for name in names if found[name].error is not None}
        if len(left_out) == len(names):
            raise PlanError(f"no wafer could be relaxed: {next(iter(left_out.values()))}", "no_wafer")
        relaxed = [
            Wafer(n, structure_of_fields(found[n].structure), wafers()[n].planes) for n in names if n not in left_out
        ]
        tensor, doubts = found["elastic"], []
        if tensor.c_ij_gpa is None:
            doubts.append(Reason(code="no_elastic_tensor", sentence=f"no strain energy: {tensor.reason}"))
        try:
            fits = matches(
                film,
                relaxed,
                max_index=self.max_index,
                max_area=self.max_area,
                elastic_tensor_gpa=tensor.c_ij_gpa,
            )
        except ValueError as error:
            raise PlanError(str(error), "no_symmetry") from error
        rows = [
            EpitaxyMatch(
                substrate=fit.substrate,
                substrate_plane=fit.substrate_plane,
                film_plane=fit.film_plane,
                area_a2=fit.area,
                strain_percent=100 * fit.strain,
                elastic_energy_mev=None if fit.elastic_energy is None else 1000 * fit.elastic_energy,
            )
            for fit in fits
        ]
        formula = film.composition.reduced_formula
        others = [row for row in rows if wafers()[row.substrate].structure.composition.reduced_formula != formula]
        best = others[0].model_dump() if others else {}
        return EpitaxyDocument(
            formula=formula,
            **best,
            matches=rows,
            n_matches=len(rows),
            left_out=left_out,
            converged=all(found[name].converged for name in names if name not in left_out) and tensor.converged,
            doubts=doubts,
            provenance=self.origin(crystal),
        )
