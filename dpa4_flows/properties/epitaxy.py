"""On which wafers a crystal grows as a film: both with the lattice constants of the model, strain and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import Field
from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Relax, RelaxOptions, Static
from dpa4_core.strict import meant
from dpa4_flows.analysis.epitaxy import Wafer, matches, wafers
from dpa4_flows.analysis.frames import SEAM, seam_problem
from dpa4_flows.analysis.interfaces import InterfaceCell, interface_cell, interface_energy
from dpa4_flows.analysis.stability import primitive_cell
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, Property, Request, Steps
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.calculations import RATTLE, rattled
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.properties.at_rest import AT_REST
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.limits import check_counts, check_positive
from dpa4_flows.properties.part import had_room, whole_crystal

_STEPS = 300  # of the optimiser, for films and interfaces
_STARTS = 2  # interfaces that are relaxed: the lowest as they are made


class EpitaxyMatch(Document):
    """A film on one plane of a wafer."""

    substrate: str = Field(description="Name of the wafer")
    substrate_plane: str = Field(description="Miller indices of its plane")
    film_plane: str = Field(description="Miller indices of the plane of the film that lies on it")
    area_a2: float = Field(description="Of the common superlattice, Å²")
    strain_percent: float = Field(description="Of the film, von Mises, %")
    elastic_energy_mev: float | None = Field(None, description="Of the strained film, meV/atom")
    interface_energy: float | None = Field(None, description="Mean of both faces, J/m²; null if not asked for")
    interface_atoms: int | None = Field(None, description="Atoms of its cell")


class EpitaxyDocument(AnswerDocument):
    """Wafers that one crystal fits on, the least strained first."""

    formula: str = Field(description="Reduced formula")
    substrate: str | None = shown(
        "Wafer",
        note="of the least strain, but for the film's own",
        priority=15,
        description="That strains the film least, of another composition; null if none fits",
    )
    substrate_plane: str | None = shown("Its plane", detail=True)
    film_plane: str | None = shown("Plane of the film", detail=True)
    strain_percent: float | None = shown(
        "Misfit", "%", 2, "von Mises strain of the film, 0 K", goal="min", scale=(0.0, 3.0), priority=14
    )
    area_a2: float | None = shown("Common cell", "Å²", 0, "large ones mean little", detail=True)
    elastic_energy_mev: float | None = shown("Strain energy", "meV/atom", 1, "of the film")
    interface_energy: float | None = shown(
        "Interface energy",
        "J/m²",
        2,
        "coherent, unreconstructed, mean of both faces of the film, against strained film and wafer in bulk",
        goal="min",
        scale=(0.0, 4.0),
        description="Of the film on that wafer, J/m²; null if not asked for, or not computed",
    )
    interface_atoms: int | None = Field(None, description="Atoms of the cell of the interface")
    matches: list[EpitaxyMatch] = Field(default_factory=list, description="All pairs of planes, least strained first")
    n_matches: int = Field(0, description="Pairs of planes that fit within the largest area")
    left_out: dict[str, str] = Field(default_factory=dict, description="Wafers without a relaxed structure, and why")
    converged: bool = Field(False, description="Whether wafers and strained cells reached their fmax")
    doubts: list[Reason] = Field(default_factory=list)


@dataclass(frozen=True)
class Epitaxy(Property[EpitaxyDocument]):
    """Wafers that a relaxed crystal fits on by the lattices; for some, what the bonds across the interface cost.

    Attributes:
        substrates: names of wafers; all that come with the program if there are none.
        max_index: largest Miller index of the planes of the film.
        max_area: Å², of the common superlattice.
        interfaces: how many wafers, the least strained first, get a coherent interface: its cell is relaxed, too.
        interface_atoms: a cell that needs more has no energy, and that is said.
        interface_thickness: of film and wafer each, Å, at least.
        interface_places: of the film along each axis of the surface cell of the wafer; the two lowest are relaxed.
        interface_fmax: eV/Å, to which an interface relaxes in the plane of the wafer.
        elastic: settings of the elastic tensor of the film.
        relaxation: of the wafers.
    """

    name: ClassVar[str] = "epitaxy"
    example: ClassVar[str] = "GaN.cif --substrates sapphire,silicon_carbide_4h"
    document: ClassVar[type[Document]] = EpitaxyDocument
    version: ClassVar[int] = 3
    starts_from_rest: ClassVar[bool] = True

    substrates: tuple[str, ...] = ()
    max_index: int = 1
    max_area: float = 200.0
    interfaces: int = 0
    interface_atoms: int = 200
    interface_thickness: float = 8.0
    interface_places: int = 2
    interface_fmax: float = 0.05
    elastic: Elastic = field(default_factory=Elastic)
    relaxation: Relaxed = AT_REST

    def check(self) -> None:
        self.elastic.check()
        self._options()
        check_positive(self, "max_index", "max_area", "interface_thickness")
        check_counts(self, "interfaces", least=0)
        check_counts(self, "interface_atoms", "interface_places")
        for name in self.substrates:
            if name not in wafers():
                raise DPA4Error(f"there is no wafer {name!r}; {meant(name, wafers())}")

    def _options(self) -> RelaxOptions:
        """Of strained films and interfaces: the plane is that of the wafer, the height is free."""
        return RelaxOptions(fmax=self.interface_fmax, max_steps=_STEPS, cell=(0, 0, 1, 0, 0, 0), check_minimum=False)

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
            film = primitive_cell(film)  # the cell of the elastic tensor
            fits = matches(
                film, relaxed, max_index=self.max_index, max_area=self.max_area, elastic_tensor_gpa=tensor.c_ij_gpa
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
        if not others:
            words = f"no wafer of another crystal has a common cell of at most {self.max_area:g} Å² with {formula}"
            doubts.append(Reason(code="no_match", sentence=f"{words}: name other substrates, or a larger max_area"))
        settled = yield from self._interfaces(crystal, film, relaxed, others, doubts)
        best = others[0].model_dump() if others else {}
        return EpitaxyDocument(
            formula=formula,
            **best,
            matches=rows,
            n_matches=len(rows),
            left_out=left_out,
            converged=settled
            and all(found[name].converged for name in names if name not in left_out)
            and tensor.converged,
            doubts=doubts,
            provenance=self.origin(crystal),
        )

    def _interfaces(
        self,
        crystal: Crystal,
        film: Structure,
        relaxed: Sequence[Wafer],
        rows: Sequence[EpitaxyMatch],
        doubts: list[Reason],
    ) -> Steps[bool]:
        """Fill in the energies of the interfaces of the first rows, each of another wafer; whether all came to rest."""
        first = {row.substrate: row for row in reversed(rows)}
        wanted = [row for row in rows if first[row.substrate] is row][: self.interfaces]
        crystals = {wafer.name: wafer.structure for wafer in relaxed}
        cells: dict[str, tuple[EpitaxyMatch, InterfaceCell]] = {}
        for row in wanted:
            wafer, what = crystals[row.substrate], f"({row.film_plane}) on {row.substrate} ({row.substrate_plane})"
            why = _across_seam(film, wafer, crystal.info.level_of_theory)
            if why is not None:
                doubts.append(Reason(code="interface_across_seam", sentence=f"no interface energy of {what}: {why}"))
                continue
            try:
                cell = interface_cell(
                    film,
                    row.film_plane,
                    wafer,
                    row.substrate_plane,
                    strain=row.strain_percent / 100,
                    max_area=self.max_area,
                    min_thickness=self.interface_thickness,
                    max_atoms=self.interface_atoms,
                    n_places=self.interface_places,
                )
            except ValueError as error:
                doubts.append(Reason(code="no_interface", sentence=f"no interface energy of {what}: {error}"))
                continue
            cells[what] = row, cell
        if not cells:
            return True
        as_made = yield {
            f"{i} {what}": Static(joined) for what, (_, cell) in cells.items() for i, joined in enumerate(cell.joined)
        }
        had_room(as_made.values())
        requests: dict[str, Request] = {}
        for what, (_, cell) in cells.items():
            requests[f"film {what}"] = Relax(cell.film, self._options())
            requests[f"wafer {what}"] = Static(cell.substrate)
            known = [i for i in range(len(cell.joined)) if as_made[f"{i} {what}"].error is None]
            known.sort(key=lambda i, what=what: as_made[f"{i} {what}"].energy)  # type: ignore[misc]
            for i in known[:_STARTS]:
                requests[f"{i} {what}"] = Relax(rattled(cell.joined[i], RATTLE), self._options())
        answers = yield requests
        settled = True
        for what, (row, cell) in cells.items():
            parts = answers[f"film {what}"], answers[f"wafer {what}"]
            ends = [answers[name] for i in range(len(cell.joined)) if (name := f"{i} {what}") in answers]
            had_room([*parts, *ends])
            good = [end for end in ends if end.error is None]
            broken = [one.error for one in (*parts, *(() if good else ends)) if one.error is not None]
            if broken or not good:
                why = broken[0] if broken else as_made[f"0 {what}"].error
                doubts.append(Reason(code="no_interface", sentence=f"no interface energy of {what}: {why}"))
                continue
            best = min(good, key=lambda end: end.energy)
            row.interface_energy = interface_energy(best.energy, parts[0].energy, parts[1].energy, cell)
            row.interface_atoms = cell.n_atoms
            if not (best.converged and parts[0].converged):
                settled = False
                words = f"the interface of {what} did not reach fmax: its energy is an upper bound"
                doubts.append(Reason(code="interface_not_at_rest", sentence=words))
        return settled


def _across_seam(film: Structure, wafer: Structure, level_of_theory: str) -> str | None:
    """Why a cell of both is on another level of theory than they are, if it is."""
    both = (film.composition, wafer.composition)
    for one, other in (both, both[::-1]):
        problem = seam_problem(one, other.get_el_amt_dict(), level_of_theory)
        if problem is not None and problem[0] == SEAM:
            return f"it {problem[1]}"
    return None
