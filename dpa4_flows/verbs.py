"""The commands as functions: structures in, a table of results out.

    import dpa4_flows as d4

    elastic = d4.elastic("crystals/", folder="elastic")   # files, folders, ase.Atoms, pymatgen objects, or a list
    elastic                                               # a table in a notebook and in a terminal
    elastic[0].k_vrh_gpa                                  # documents, as `dpa4 compute elastic --json` prints them
    elastic.to("elastic.csv")

Every function gives what `dpa4 compute` with the property of its name gives, and finds in ``folder`` what that has
computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from ase import Atoms
from pymatgen.core import Composition, Molecule, Structure

from dpa4_core.data.readers import NamedStructure
from dpa4_core.errors import DPA4Error
from dpa4_core.relax.optimizer import OptimizerName
from dpa4_flows.analysis.adsorbates import Adsorbate
from dpa4_flows.analysis.elasticity import STRAINS
from dpa4_flows.analysis.equation_of_state import STRAINS as VOLUME_STRAINS
from dpa4_flows.analysis.equation_of_state import Form
from dpa4_flows.analysis.force_constants import DISPLACEMENT
from dpa4_flows.campaigns.bundled import find_campaign
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.cli.progress import ConsoleWatch
from dpa4_flows.compute.plan import Property
from dpa4_flows.compute.relaxed import PUSHED, Energy, Relaxed
from dpa4_flows.documents.activity import ActivityDocument
from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.documents.stability import ElasticPart, PhononPart, StabilityDocument
from dpa4_flows.documents.surfaces import AdsorptionDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.activity import Activity, Reroute
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.answers import Question, Subject
from dpa4_flows.properties.at_rest import AT_REST
from dpa4_flows.properties.chemical_potentials import ChemicalPotentials
from dpa4_flows.properties.competition import CACHE
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.electrode import Electrode, ElectrodeDocument
from dpa4_flows.properties.equation_of_state import EquationOfState, EquationOfStateDocument
from dpa4_flows.properties.hull import Hull, HullPlace
from dpa4_flows.properties.phonons import TEMPERATURES, Phonons
from dpa4_flows.properties.stability import Stability
from dpa4_flows.properties.surface import SurfaceDocument, SurfaceEnergies
from dpa4_flows.properties.table import Results
from dpa4_flows.properties.vibrations import Which
from dpa4_flows.reference.crystals import read_crystals
from dpa4_flows.runs.campaign import Assignment, CampaignRun
from dpa4_flows.runs.property import compute_in
from dpa4_flows.runs.run import How as RunHow

OneStructure = str | Path | Atoms | Structure | Molecule
Structures = OneStructure | Iterable[OneStructure]
"""Files, folders or archives; materials, ``"mp-22526"`` or ``"LiCoO2"``; objects; or any mix of these. An object is
called by its formula and place.
"""


STABILITY, SURFACE, ADSORPTION, ACTIVITY = Stability(), SurfaceEnergies(), Adsorption(), Activity()
"""With the settings of the commands."""


class How(TypedDict, total=False):
    """How something is computed.

    Attributes:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        dtype: ``"float32"`` or ``"float64"``.
        folder: keeps what is computed, and is where it is found again.
        max_atoms_per_batch: atoms computed at the same time; by default what the device can hold.
        retry_errors: compute again what failed before.
        progress: show a progress bar on stderr.
    """

    device: str
    dtype: Literal["float32", "float64"]
    folder: str | Path | None
    max_atoms_per_batch: int | None
    retry_errors: bool
    progress: bool


def relax(
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    fmax: float = 0.02,
    max_steps: int = 500,
    relax_cell: bool = True,
    pressure_gpa: float = 0.0,
    rattle: float = 0.0,
    optimizer: OptimizerName = "auto",
    max_step: float | None = None,
    cell: str | list[int] = "full",
    keep_symmetry: bool = False,
    check_minimum: bool = True,
    **how: Unpack[How],
) -> Results[RelaxationDocument]:
    """Relax structures; the settings are those of `compute.relaxed.Relaxed`."""
    settings = (fmax, max_steps, relax_cell, pressure_gpa, rattle, optimizer, max_step, cell)
    return _one(Relaxed(*settings, keep_symmetry, check_minimum), structures, model, **how)


def static(
    structures: Structures, *, model: str | ModelRef = "dpa4-neo", **how: Unpack[How]
) -> Results[RelaxationDocument]:
    """Energy, pressure and largest force of structures as they are."""
    return _one(Energy(), structures, model, **how)


def elastic(
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    fmax: float = 1e-3,
    max_steps: int = 500,
    strains: tuple[float, ...] = STRAINS,
    relaxation: Relaxed | None = AT_REST,
    **how: Unpack[How],
) -> Results[ElasticPart]:
    """Elastic tensors; ``relaxation=None`` takes the structures as they are, else they are relaxed first."""
    return _one(Elastic(fmax, max_steps, strains), structures, model, relaxation, **how)


def phonons(
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    min_length: float = 10.0,
    displacement: float = DISPLACEMENT,
    mesh_length: float = 60.0,
    temperatures_k: tuple[float, ...] = TEMPERATURES,
    mode_amplitude: float = 0.1,
    max_supercell_atoms: int = 1000,
    force_constants_folder: str | None = None,
    relaxation: Relaxed | None = AT_REST,
    **how: Unpack[How],
) -> Results[PhononPart]:
    """Harmonic phonons and thermal properties; the settings are those of `properties.phonons.Phonons`."""
    settings = (min_length, displacement, mesh_length, temperatures_k, mode_amplitude, max_supercell_atoms)
    return _one(Phonons(*settings, force_constants_folder), structures, model, relaxation, **how)


def surface(
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    max_index: int = 1,
    min_thickness: float = 12.0,
    vacuum: float = 15.0,
    max_terminations: int = 4,
    fmax: float = 0.02,
    max_steps: int = 500,
    chemical_potentials: dict[str, float] | str | None = None,
    region: ChemicalPotentials = SURFACE.region,
    relaxation: Relaxed | None = AT_REST,
    **how: Unpack[How],
) -> Results[SurfaceDocument]:
    """Surface energies of low-index facets and the equilibrium shape; see `properties.surface.SurfaceEnergies`."""
    settings = (max_index, min_thickness, vacuum, max_terminations, fmax, max_steps, chemical_potentials)
    return _one(SurfaceEnergies(*settings, region), structures, model, relaxation, **how)


def adsorption(
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    adsorbates: Sequence[str | Adsorbate] = ADSORPTION.adsorbates,
    facets: tuple[str | int, ...] = (),
    max_index: int = 1,
    min_length: float = 8.0,
    min_thickness: float = 8.0,
    vacuum: float = 15.0,
    max_terminations: int = 4,
    max_atoms: int = 200,
    orientations: int = 2,
    fmax: float = 0.05,
    max_steps: int = 200,
    references: Mapping[str, float] = ADSORPTION.references,
    corrections: Mapping[str, float] = ADSORPTION.corrections,
    vibrations: Which = "none",
    best_starts: int = 0,
    relaxation: Relaxed | None = AT_REST,
    **how: Unpack[How],
) -> Results[AdsorptionDocument]:
    """Adsorbates, by name or file, on all sites of low-index facets; see `properties.adsorption.Adsorption`."""
    named = tuple(one if isinstance(one, Adsorbate) else Adsorbate.named(one) for one in adsorbates)
    slabs = (facets, max_index, min_length, min_thickness, vacuum, max_terminations, max_atoms)
    energies = (orientations, fmax, max_steps, dict(references), dict(corrections), vibrations, best_starts)
    return _one(Adsorption(named, *slabs, *energies), structures, model, relaxation, **how)


def activity(
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    reaction: str = "HER",
    adsorption: Adsorption = ACTIVITY.adsorption,
    weighted: bool = True,
    surface: SurfaceEnergies = ACTIVITY.surface,
    solvation: Mapping[str, float] = ACTIVITY.solvation,
    poison_limits: Mapping[str, float] = ACTIVITY.poison_limits,
    scale_ooh: bool = False,
    reference: float | str | None = None,
    min_share: float = ACTIVITY.min_share,
    at_rest: Relaxed = ACTIVITY.at_rest,
    reroute: Reroute | None = None,
    relaxation: Relaxed | None = AT_REST,
    **how: Unpack[How],
) -> Results[ActivityDocument]:
    """Limiting potentials of a reaction of an electrode on every facet; see `properties.activity.Activity`."""
    shape, water = (weighted, surface), (dict(solvation), dict(poison_limits))
    made = Activity(reaction, adsorption, *shape, *water, scale_ooh, reference, min_share, at_rest, reroute)
    return _one(made, structures, model, relaxation, **how)


def hull(
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    relaxation: Relaxed = PUSHED,
    relax: bool = True,
    corrections: str = "auto",
    temperature: float | None = None,
    candidates_compete: bool = True,
    library: str | None = CACHE,
    files: tuple[str, ...] = (),
    bundled: bool = True,
    prototypes: bool = True,
    materials_project: Literal["never", "if possible", "always", "energies"] = "never",
    **how: Unpack[How],
) -> Results[HullPlace]:
    """Energy above the hull of competing phases; the settings are those of `properties.hull.Hull`. Structures of one
    call also stand against each other, as the files of one `dpa4 hull` do.
    """
    settings = (relaxation, relax, corrections, temperature, candidates_compete, library, files, bundled, prototypes)
    return _one(Hull(*settings, materials_project), structures, model, **how)


def stability(
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    hull: Hull | None = STABILITY.hull,
    elastic: Elastic | None = STABILITY.elastic,
    phonons: Phonons | None = STABILITY.phonons,
    relaxation: Relaxed = STABILITY.relaxation,
    max_follow_steps: int = 0,
    **how: Unpack[How],
) -> Results[StabilityDocument]:
    """Against other phases, strain and displacements of atoms: one verdict with its reasons; each part may be None.

    Strains and phonons are those of the structure with the symmetry that it has, see `properties.stability.Stability`.
    """
    return _one(Stability(relaxation, elastic, phonons, max_follow_steps, hull), structures, model, **how)


def electrode(
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    working_ion: str = "Li",
    relaxation: Relaxed = PUSHED,
    check_charged: bool = False,
    **how: Unpack[How],
) -> Results[ElectrodeDocument]:
    """Voltage, capacity and volume change of insertion electrodes; see `properties.electrode.Electrode`."""
    return _one(Electrode(working_ion, relaxation, check_charged), structures, model, **how)


def equation_of_state(
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    strains: tuple[float, ...] = VOLUME_STRAINS,
    form: Form = "birch-murnaghan",
    fmax: float = 0.005,
    max_steps: int = 500,
    relaxation: Relaxed | None = AT_REST,
    **how: Unpack[How],
) -> Results[EquationOfStateDocument]:
    """Energy against volume, with the bulk modulus; see `properties.equation_of_state.EquationOfState`."""
    return _one(EquationOfState(strains, form, fmax, max_steps), structures, model, relaxation, **how)


def compute(
    properties: str | Property[Any] | Sequence[str | Property[Any]],
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    relaxation: Relaxed | None = AT_REST,
    **how: Unpack[How],
) -> Results[Any]:
    """One or several properties of structures, all in one batch.

    Args:
        properties: names, as `dpa4 compute --list` shows them, or properties with their settings.
        structures: of these.
        model: name, file, or `ModelRef`.
        settings: by name of the property, where they are not the defaults: ``{"elastic": {"fmax": 1e-4}}``.
        relaxation: before properties of relaxed crystals; None takes the structures as they are.
        **how: see `How`.

    Returns:
        One document for each structure; where several properties are asked for, one `Answer` with their documents by
        name, and ``results["elastic"]`` has the documents of one property.

    Raises:
        DPA4Error: no such property, setting, model or file.
    """
    listed = [properties] if isinstance(properties, str | Property) else list(properties)
    return _answered(Question.of(listed, settings or {}, relaxation), structures, model, **how)


def screen(
    campaign: str | Path,
    *,
    folder: str | Path | None = None,
    retry_errors: bool = False,
    force: bool = False,
    progress: bool = False,
) -> CampaignRun:
    """Run a screening campaign here, as `dpa4 screen` does.

    Args:
        campaign: file, or the name of a bundled one: ``"battery"``.
        folder: of the run; by default ``runs/NAME`` beside the file.
        retry_errors: compute again what failed before.
        force: delete what the folder holds, and compute all anew.
        progress: show progress on stderr.

    Returns:
        The run: a notebook shows its table, ``table()`` gives the rows, ``report(path)`` writes the page.

    Raises:
        DPA4Error: the file makes no sense, or the campaign cannot be run.
    """
    file, runs = find_campaign(str(campaign))
    config = load_campaign(file)
    run = CampaignRun(Path(folder).expanduser() if folder is not None else runs / config.campaign.name)
    how = RunHow(ConsoleWatch(quiet=not progress), retry_errors)
    run.compute(Assignment(config, file=file, force=force), how)
    return run


def _one(
    property_: Property[Any],
    structures: Structures,
    model: str | ModelRef,
    relaxation: Relaxed | None = None,
    **how: Unpack[How],
) -> Results[Any]:
    return _answered(Question([property_], relaxation), structures, model, **how)


def _answered(question: Question, structures: Structures, model: str | ModelRef, **how: Unpack[How]) -> Results[Any]:
    subjects = [Subject.of(one) for one in named_structures(structures)]
    reference = model if isinstance(model, ModelRef) else ModelRef(model)
    reference = replace(reference, **{name: how[name] for name in ("device", "dtype") if name in how})
    going = RunHow(ConsoleWatch(quiet=not how.get("progress", False)), how.get("retry_errors", False))
    folder = None if (given := how.get("folder")) is None else Path(given).expanduser()
    return compute_in(folder, question, subjects, reference, going, how.get("max_atoms_per_batch"))


def named_structures(structures: Structures) -> list[NamedStructure]:
    """What a function was given, in order; a file that cannot be read fails alone among others.

    Raises:
        DPA4Error: something that is no structure, or the only file cannot be read.
    """
    alone = isinstance(structures, str | Path | Atoms | Structure | Molecule)
    given: list[Any] = [structures] if alone else list(structures)  # type: ignore[arg-type]
    found: list[NamedStructure] = []
    for number, one in enumerate(given):
        if isinstance(one, Atoms | Structure | Molecule):
            found.append(NamedStructure(_name(one, None if alone else number), one))
        elif isinstance(one, str | Path):
            found += read_crystals([one], alone=len(given) == 1)
        else:
            raise DPA4Error(f"entry {number} of the structures is neither a structure nor a path: {repr(one)[:100]}")
    return found


def _name(structure: Any, number: int | None) -> str:
    composition = Composition(str(structure.symbols)) if isinstance(structure, Atoms) else structure.composition
    formula = composition.reduced_formula
    return formula if number is None else f"{formula} {number}"
