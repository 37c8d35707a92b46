"""What a crystal does where it touches others: an electrolyte beside electrodes, a coating between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field
from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.contacts import Contact, conducting, contact, share_a_compound
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.thermodynamics import check_corrected
from dpa4_flows.analysis.windows import electrochemical_window
from dpa4_flows.compute.files import names_files
from dpa4_flows.compute.plan import Crystal, PlanError
from dpa4_flows.documents.calculations import input_hash
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document, HullDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.competition import Standing, joined
from dpa4_flows.properties.view import StandingView, View, ViewSet
from dpa4_flows.reference.crystals import formula_of, is_material, read_crystals
from dpa4_flows.reference.library import as_crystal

_SLOW = -1e-3
"""eV/atom; what gains less does not drive a reaction."""

_USUAL = {"Li": ("LiCoO2", "Li3PS4"), "Na": ("NaFeO2", "Na3PS4")}
"""Cathode and electrolyte by the ion, beside which a crystal is looked at where none is named."""


class KinkDocument(Document):
    """A reaction of the crystal with some of the other phase."""

    fraction: float = Field(description="Of the atoms of the mixture, those of the other phase")
    energy: float = Field(description="Of reaction, eV per atom of the mixture; negative gives off energy")
    products: dict[str, float] = Field(description="Formula units per formula unit of the crystal")
    reaction: str = Field(description="In words")


class ContactDocument(Document):
    """What the crystal does beside one other phase."""

    beside: str = Field(description="As it was named")
    formula: str = Field(description="Reduced formula of it")
    of: str = Field("", description="Reduced formula of what touches it, where that is not the crystal")
    voltage: float | None = Field(None, description="V, of the reservoir of the ion; null without one")
    energy: float | None = Field(
        None, description="Of the reaction that gives off most, eV per atom of the mixture; null: nothing is known"
    )
    mutual_energy: float | None = Field(None, description="What of it neither phase would gain alone, eV/atom")
    fraction: float | None = Field(None, description="Of the atoms of the mixture, those of the other phase")
    reaction: str = Field("", description="That reaction, in words")
    products: list[str] = Field(default_factory=list, description="Its products")
    conducting: list[str] = Field(default_factory=list, description="What probably conducts electrons at the electrode")
    kinks: list[KinkDocument] = Field(default_factory=list, description="Reactions from the crystal to the other phase")
    grade: str = Field("", description="Of what competes in the system of both, see completeness of a hull")
    competing: str = Field("", description="The same in words")


class ContactsDocument(View):
    """Base of what is known of a crystal beside others."""

    formula: str | None = Field(None, description="Reduced formula")
    ion: str | None = Field(None, description="Element of the reservoir")
    worst_energy: float | None = shown(
        "Interface reaction",
        "eV/atom",
        3,
        "the worst of all contacts, at equilibrium; below -0.05 to -0.1 an interphase grows",
        short="E interface",
        goal="max",
        scale=(-0.5, 0.0),
        voided_by=("interface_unknown",),
        priority=25,
        description="Of the contact that gives off most, eV per atom of the mixture; null where none that is known "
        "reacts, and another is unknown",
    )
    worst_contact: str = shown("Reacts most with", priority=26, default="")
    worst_reaction: str = shown("Interface turns into", priority=44, default="", description="Its reaction, in words")
    contacts: list[ContactDocument] = Field(default_factory=list, description="One per phase beside it, and voltage")
    energy_above_hull: Annotated[float | None, Unit("eV/atom")] = Field(
        None, description="eV/atom; a reaction sets it free, too"
    )
    doubts: list[Reason] = Field(default_factory=list, description="What is the matter with it")


class InterfaceDocument(ContactsDocument):
    """Reactions of a crystal with electrodes."""


class InterfaceSet(ViewSet):
    """Reactions of some structures with electrodes."""

    documents: list[InterfaceDocument] = Field(description="One per structure, in order")


class CoatingDocument(ContactsDocument):
    """A coating between an electrolyte and electrodes."""

    bare_energy: float | None = shown(
        "Without coating", "eV/atom", 3, "electrolyte and electrodes in contact", priority=27
    )
    gain: float | None = shown(
        "Better by", "eV/atom", 3, "than without it; negative: worse", goal="max", scale=(0.0, 0.3), priority=28
    )
    lower: float | None = shown("From", "V", 2, "window of the coating", priority=20)
    upper: float | None = shown(
        "To",
        "V",
        2,
        "window of the coating",
        priority=21,
        description="Above it the ion goes out of the coating, V; null if there is none to give",
    )
    bare: list[ContactDocument] = Field(default_factory=list, description="Electrolyte and electrodes in contact")


class CoatingSet(ViewSet):
    """Some coatings between an electrolyte and electrodes."""

    documents: list[CoatingDocument] = Field(description="One per structure, in order")


class Other(NamedTuple):
    """A phase beside the crystal, by formula one of those that compete, or by file.

    Attributes:
        name: as given, a file without its folder where that tells it from the others.
        composition: of it.
        structure: of a file.
    """

    name: str
    composition: Composition
    structure: Structure | None

    @property
    def system(self) -> str:
        return str(self.composition.chemical_system)


def other_phase(name: str) -> Other:
    """What is meant by a formula, a file or an id of the Materials Project.

    Raises:
        DPA4Error: none of these, or a file that does not hold one crystal.
    """
    composition = formula_of(name)
    if composition is not None:
        return Other(name, composition, None)
    if not is_material(name) and not Path(name).expanduser().is_file():
        raise DPA4Error(
            f"{name!r} is neither a formula nor a file: name an electrode such as LiCoO2, Li or cathode.cif"
        )
    path = Path(name).expanduser()
    return _read(name, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=64)
def _read(name: str, changed: int) -> Other:
    found = read_crystals([name])
    if len(found) != 1:
        raise DPA4Error(f"{name} holds {len(found)} structures: an electrode is one, in a file of its own")
    if found[0].error is not None:
        raise DPA4Error(f"{name}: {found[0].error}")
    structure = as_crystal(found[0].structure)
    return Other(Path(name).name, structure.composition.element_composition, structure)


def _phase_of(name: str) -> str:
    """What counts in keys: a crystal of a file, or a formula."""
    structure = other_phase(name).structure
    return name if structure is None else input_hash(structure)


_NAMES = names_files(_phase_of, unless=is_material)


@dataclass(frozen=True)
class Contacts(StandingView):
    """Base of properties of a crystal beside others.

    Attributes:
        against: electrodes, each a formula among the known phases or the file of a crystal; by default the metal of the
            ion (not beside coatings), and LiCoO2 of lithium, NaFeO2 of sodium.
        working_ion: element that moves, whose phases compete, too.
        voltage: V against the metal of the ion, which then comes from a reservoir at that voltage, as in a cell; beside
            the reaction without one. Electrodes of that metal have none.
        prototypes: propose compounds where none is known.
    """

    version: ClassVar[int] = 3
    figures: ClassVar[str] = "dpa4_flows.report.figures_electrolytes:contacts"
    caveats: ClassVar[tuple[str, ...]] = (
        "Reactions of interfaces are those of equilibrium at 0 K, per atom of the mixture that gives off most: an "
        "interphase that lets neither ions nor electrons through ends them, and one that conducts electrons does not.",
    )

    against: tuple[str, ...] = field(default=(), metadata=_NAMES)
    working_ion: str = "Li"
    voltage: float | None = None
    prototypes: bool = False  # of a crystal with each of several electrodes there are very many

    def check(self) -> None:
        super().check()
        ion_charge(self.working_ion)
        if not self.others:
            raise DPA4Error(
                f"no cathode and no electrolyte of {self.working_ion} are usual: name what is beside the coating, "
                "electrolyte and against"
            )
        if self.voltage is not None and self.voltage < 0:
            raise DPA4Error(f"voltage {self.voltage:g} V is below the metal itself; it is at least 0")

    @property
    def electrodes(self) -> tuple[str, ...]:
        """Those that are named, each once."""
        found: dict[str, str] = {}
        for name in self.against:
            other = other_phase(name)
            same = other.composition.reduced_formula if other.structure is None else input_hash(other.structure)
            found.setdefault(same, name)
        return tuple(found.values())

    @property
    def named(self) -> tuple[str, ...]:
        """What is beside the crystal, where nothing is named what is usual for the ion."""
        return self.electrodes or (self.working_ion, *_USUAL.get(self.working_ion, ())[:1])

    @property
    def others(self) -> tuple[Other, ...]:
        """All phases beside the crystal.

        Raises:
            DPA4Error: one of them is none.
        """
        found = [other_phase(name) for name in self.named]
        short = [one.name for one in found]
        return tuple(
            one._replace(name=given) if short.count(one.name) > 1 else one
            for given, one in zip(self.named, found, strict=True)
        )

    def settings(self, model: ModelRef) -> dict[str, Any]:
        return {**super().settings(model), "against": [_phase_of(name) for name in self.named]}

    def further(self) -> Sequence[str]:
        return [self.working_ion, *(joined(other.system, self.working_ion) for other in self.others)]

    def beside(self) -> Sequence[Crystal]:
        return [Crystal(other.structure, other.name) for other in self.others if other.structure is not None]

    def contacts_of(
        self,
        standing: Standing,
        entries: Sequence[ComputedEntry],
        phase: ComputedEntry,
        others: Iterable[tuple[Other, ComputedEntry]],
        of: str = "",
    ) -> list[ContactDocument]:
        """Every contact of a phase, without a reservoir and, where there is a voltage, with it."""
        found = []
        for other, entry in others:
            metal = set(entry.composition.get_el_amt_dict()) == {self.working_ion}
            for voltage in (None,) if self.voltage is None or metal else (None, self.voltage):
                one = contact(phase, entry, entries, ion=self.working_ion, voltage=voltage)
                found.append(_document(standing, entries, other, one, of, plenty=metal))
        return found

    def resolved(
        self, standing: Standing, entries: Sequence[ComputedEntry], beside: Sequence[ComputedEntry]
    ) -> list[tuple[Other, ComputedEntry]]:
        """The phases beside the crystal with their entries.

        Raises:
            PlanError: none is known.
        """
        of_files = iter(beside)
        found = []
        for other in self.others:
            if other.structure is not None:
                entry = next(of_files)
                if not entry.data.get("converged", True):
                    raise PlanError(
                        f"the relaxation of {other.name} did not converge: it has no energy", "not_converged"
                    )
            else:
                formula = other.composition.reduced_formula
                forms = [e for e in entries if e.composition.reduced_formula == formula]
                if not forms:
                    sentence = f"no structure of {other.name} is known: name the file of one in its place"
                    raise PlanError(sentence, "unknown_electrode")
                entry = min(forms, key=lambda one: one.energy_per_atom)
            found.append((other, entry))
        return found


@dataclass(frozen=True)
class Interfaces(Contacts):
    """Reactions of a crystal, such as a solid electrolyte, with electrodes, over the mixing fraction."""

    name: ClassVar[str] = "interface"
    example: ClassVar[str] = "Li6PS5Cl.cif --against Li,LiCoO2 --voltage 4.2"
    document: ClassVar[type[InterfaceDocument]] = InterfaceDocument
    several: ClassVar[type[InterfaceSet]] = InterfaceSet

    def read(
        self, standing: Standing, position: int, document: HullDocument, beside: Sequence[ComputedEntry]
    ) -> dict[str, Any]:
        phase, entries = standing.candidates[position], [*standing.all_but(position), *beside]
        check_corrected([phase, *entries])
        contacts = self.contacts_of(standing, entries, phase, self.resolved(standing, entries, beside))
        return {**_summary(contacts), "ion": self.working_ion, **_of_hull(document)}


@dataclass(frozen=True)
class Coatings(Contacts):
    """A crystal as coating between an electrolyte and electrodes: its reactions with both, what there would be without
    it, and its window.

    Attributes:
        electrolyte: a formula among the known phases or the file of a crystal; by default Li3PS4 or Na3PS4.
    """

    name: ClassVar[str] = "coating"
    example: ClassVar[str] = "Li3PO4.cif --electrolyte Li6PS5Cl --against LiCoO2"
    document: ClassVar[type[CoatingDocument]] = CoatingDocument
    several: ClassVar[type[CoatingSet]] = CoatingSet

    electrolyte: str = field(default="", metadata=_NAMES)

    @property
    def named(self) -> tuple[str, ...]:
        cathode, electrolyte = _USUAL.get(self.working_ion, ("", ""))
        found = self.electrolyte or electrolyte, *(self.electrodes or (cathode,))
        return found if all(found) else ()

    def also(self) -> Sequence[str]:
        electrolyte, *electrodes = self.others
        return [joined(electrolyte.system, one.system, self.working_ion) for one in electrodes]

    def read(
        self, standing: Standing, position: int, document: HullDocument, beside: Sequence[ComputedEntry]
    ) -> dict[str, Any]:
        phase, entries = standing.candidates[position], [*standing.all_but(position), *beside]
        check_corrected([phase, *entries])
        others = self.resolved(standing, entries, beside)
        contacts = self.contacts_of(standing, entries, phase, others)
        (_, electrolyte), *electrodes = others
        of = electrolyte.composition.reduced_formula
        bare = self.contacts_of(standing, entries, electrolyte, electrodes, of)
        window = electrochemical_window(phase, entries, ion=self.working_ion)
        least, without = _worst_energy(contacts), _worst_energy(bare)
        known = all(one.energy is not None for one in (*contacts, *bare))
        return {
            **_summary(contacts),
            "bare": bare,
            "bare_energy": without,
            "gain": least - without if known and least is not None and without is not None else None,
            "lower": window.lower,
            "upper": window.upper,
            "ion": self.working_ion,
            **_of_hull(document),
        }


def _of_hull(document: HullDocument) -> dict[str, Any]:
    return {"formula": document.formula, "energy_above_hull": document.energy_above_hull}


def _document(
    standing: Standing, entries: Sequence[ComputedEntry], other: Other, one: Contact, of: str, *, plenty: bool
) -> ContactDocument:
    """A contact with what its hull rests on; without numbers where nothing is known that both could turn into.

    Electrons get through an interphase by every layer of it. Beside the metal of the ion, of which there is ``plenty``,
    it ends with what no more of the metal changes; elsewhere the reaction that gives off most stands for it.
    """
    first, second = Composition(one.first), Composition(one.second)
    system = joined(first.chemical_system, second.chemical_system)
    completeness = standing.rivals.completeness(system)
    told: dict[str, Any] = {"beside": other.name, "formula": one.second, "of": of, "voltage": one.voltage}
    told |= {"grade": completeness.grade, "competing": completeness.sentence}
    if completeness.grade == "no_competitor" or not (one.reacts or share_a_compound(first, second, entries)):
        return ContactDocument(**told)
    best, products = one.best, sorted(one.best.products)
    layer = [kink for kink in one.kinks if 0 < kink.fraction < 1][-1:] if plenty else []
    told["conducting"] = conducting(sorted((layer or [best])[0].products)) if layer or 0 < best.fraction < 1 else []
    return ContactDocument(
        **told,
        energy=one.energy,
        mutual_energy=one.mutual_energy,
        fraction=best.fraction,
        reaction=best.reaction if one.energy < _SLOW else "",
        products=products,
        kinks=[KinkDocument(**asdict(kink)) for kink in one.kinks],
    )


def _worst(contacts: Sequence[ContactDocument]) -> ContactDocument | None:
    known = [one for one in contacts if one.energy is not None]
    return min(known, key=lambda one: one.energy or 0.0) if known else None


def _worst_energy(contacts: Sequence[ContactDocument]) -> float | None:
    """eV/atom; None where none of those that are known reacts, and another may."""
    worst = _worst(contacts)
    unsure = worst is None or (not worst.reaction and any(one.energy is None for one in contacts))
    return None if worst is None or unsure else worst.energy


def _summary(contacts: list[ContactDocument]) -> dict[str, Any]:
    worst = _worst(contacts)
    doubts = []
    for one in contacts:
        words = one.beside if one.voltage is None else f"{one.beside} at {one.voltage:g} V"
        if one.energy is None:
            sentence = f"what becomes of it beside {words} is unknown: no compound of both is known; {one.competing}"
            doubts.append(Reason(code="interface_unknown", sentence=sentence))
        elif one.conducting and (one.mutual_energy or 0.0) < _SLOW:
            sentence = (
                f"beside {words} it turns into {', '.join(one.conducting)}, too, which probably conducts electrons"
            )
            doubts.append(
                Reason(code="interphase_conducts", sentence=f"{sentence}: the reaction may not end by itself")
            )
    if worst is not None and worst.reaction and worst.fraction in (0.0, 1.0):
        sentence = (
            f"its worst reaction, {worst.reaction}, is of one side alone; contact adds "
            f"{worst.mutual_energy or 0.0:.3f} eV/atom at most"
        )
        doubts.append(Reason(code="reacts_alone", sentence=sentence))
    found: dict[str, Any] = {"contacts": contacts, "doubts": doubts, "worst_energy": _worst_energy(contacts)}
    if worst is not None and worst.reaction:
        words = worst.beside if worst.voltage is None else f"{worst.beside} at {worst.voltage:g} V"
        found |= {"worst_contact": words, "worst_reaction": worst.reaction}
    return found
