"""The properties as functions; written by scripts/typed_names.py."""

from dpa4_core.relax.optimizer import OptimizerName
from dpa4_flows.analysis.adsorbates import Adsorbate
from dpa4_flows.analysis.equation_of_state import Form
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.activity import ActivityDocument
from dpa4_flows.documents.defects import DefectsDocument
from dpa4_flows.documents.diffusion import DiffusivityDocument
from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.documents.service import DissolutionDocument, SegregationDocument, ServiceDocument
from dpa4_flows.documents.stability import ElasticPart, FollowedPart, PhononPart, StabilityDocument
from dpa4_flows.documents.surfaces import AdsorptionDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.activity import Reroute
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.air import AirDocument
from dpa4_flows.properties.alloy import AlloyDocument
from dpa4_flows.properties.band_gap import BandGapDocument
from dpa4_flows.properties.chemical_potentials import ChemicalPotentials, RegionDocument, Reservoirs
from dpa4_flows.properties.conversion import ConversionDocument
from dpa4_flows.properties.dissolution import Dissolution
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.electrode import ElectrodeDocument
from dpa4_flows.properties.epitaxy import EpitaxyDocument
from dpa4_flows.properties.equation_of_state import EquationOfStateDocument
from dpa4_flows.properties.finite_temperature import FiniteTemperatureDocument
from dpa4_flows.properties.gibbs import GibbsDocument
from dpa4_flows.properties.heat_conductivity import HeatConductivityDocument
from dpa4_flows.properties.hull import Hull, HullPlace
from dpa4_flows.properties.hull_comparison import PhaseComparison
from dpa4_flows.properties.interfaces import CoatingDocument, InterfaceDocument
from dpa4_flows.properties.ion_insertion import IonInsertionDocument
from dpa4_flows.properties.migration import MigrationDocument
from dpa4_flows.properties.ordering import OrderingDocument
from dpa4_flows.properties.oxygen_release import OxygenReleaseDocument
from dpa4_flows.properties.phonon_bands import PhononBandsDocument
from dpa4_flows.properties.phonon_scattering import PhononScattering, PhononScatteringDocument, Solution
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.pourbaix import Pourbaix, PourbaixDocument
from dpa4_flows.properties.quasi_harmonic import QuasiHarmonic, QuasiHarmonicDocument
from dpa4_flows.properties.segregation import Segregation
from dpa4_flows.properties.surface import SurfaceDocument, SurfaceEnergies
from dpa4_flows.properties.table import Results
from dpa4_flows.properties.vibrations import Which
from dpa4_flows.properties.voltage_profile import VoltageProfileDocument
from dpa4_flows.properties.windows import WindowDocument
from dpa4_flows.verbs import How, Structures
from typing import Literal, Unpack

def relax(
    structures: Structures,
    *,
    fmax: float = ...,
    max_steps: int = ...,
    relax_cell: bool = ...,
    pressure_gpa: float = ...,
    rattle: float = ...,
    optimizer: OptimizerName = ...,
    max_step: float | None = ...,
    cell: str | list[int] = ...,
    keep_symmetry: bool = ...,
    check_minimum: bool = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[RelaxationDocument]:
    """A structure at rest.

    Attributes:
        fmax: largest generalised force at the end, eV/Å.
        max_steps: optimiser steps before a structure counts as unconverged.
        relax_cell: relax the cell too.
        pressure_gpa: external pressure, GPa.
        rattle: width of the random displacements that a relaxation starts with, Å; always the same for one structure. A
            relaxation keeps the symmetry that it starts with, also on top of a barrier.
        optimizer: auto, lbfgs or fire.
        max_step: Å, longest displacement of an atom in a step; by default that of the optimizer.
        cell: full, all (vacuum too), fixed, volume or shape (kept constant), or a list of six, which of the strains xx,
            yy, zz, yz, xz, xy may change.
        keep_symmetry: keep the space group of the start.
        check_minimum: look for a way down from where forces vanish, and go it.
    """

def static(
    structures: Structures,
    *,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[RelaxationDocument]:
    """Energy, pressure and largest force of a structure as it is; stored like a relaxation of zero steps."""

def elastic(
    structures: Structures,
    *,
    fmax: float = ...,
    max_steps: int = ...,
    strains: tuple[float, ...] = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[ElasticPart]:
    """Elastic tensor of a relaxed crystal from four magnitudes of each of six strains, atoms relaxed in each cell.

    Of strained cells that the symmetry of the crystal makes the same, one is computed: 6 of 24 in cubic crystals.

    Attributes:
        fmax: eV/Å, of the atoms in the strained cells.
        max_steps: optimiser steps of each strained cell.
        strains: magnitudes of each strain.
    """

def phonons(
    structures: Structures,
    *,
    min_length: float = ...,
    displacement: float = ...,
    mesh_length: float = ...,
    temperatures_k: tuple[float, ...] = ...,
    mode_amplitude: float = ...,
    max_supercell_atoms: int = ...,
    force_constants_folder: str | None = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[PhononPart]:
    """Harmonic phonons of a relaxed crystal by finite displacements (phonopy; ``pip install 'dpa4-flows[phonons]'``).

    Attributes:
        min_length: Å, shortest distance between an atom and its image in the supercell.
        displacement: Å, of one atom.
        mesh_length: Å; there are about ``mesh_length`` / (lattice constant) wave vectors along each axis.
        temperatures_k: K, of the thermal properties.
        mode_amplitude: Å, largest displacement of an atom in the structures along an imaginary mode.
        max_supercell_atoms: a crystal that needs a larger supercell has an error instead.
        force_constants_folder: gets a phonopy YAML file with force constants for each crystal that is computed.
    """

def phonon_bands(
    structures: Structures,
    *,
    min_length: float = ...,
    displacement: float = ...,
    mesh_length: float = ...,
    temperatures_k: tuple[float, ...] = ...,
    field_response: str | None = ...,
    max_supercell_atoms: int = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[PhononBandsDocument]:
    """Bands, density of states and what follows from them, of a relaxed crystal (phonopy, seekpath).

    Its displaced supercells are those of `Phonons` with the same settings, and are computed once for both.

    Attributes:
        min_length: Å, shortest distance between an atom and its image in the supercell.
        displacement: Å, of one atom.
        mesh_length: Å; the density of states has about ``mesh_length`` / (lattice constant) wave vectors along an axis.
        temperatures_k: K, of the thermal displacements.
        field_response: TOML file with Born charges and dielectric constants, for the splitting of polar modes (LO-TO).
        max_supercell_atoms: a crystal that needs a larger supercell has an error instead.
    """

def quasi_harmonic(
    structures: Structures,
    *,
    strains: tuple[float, ...] = ...,
    temperatures_k: tuple[float, ...] = ...,
    min_length: float = ...,
    displacement: float = ...,
    mesh_length: float = ...,
    form: Form = ...,
    fmax: float = ...,
    max_steps: int = ...,
    max_supercell_atoms: int = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[QuasiHarmonicDocument]:
    """Thermal expansion, heat capacity at constant pressure and Gibbs energy of a relaxed crystal.

    Attributes:
        strains: of the volume, at least five.
        temperatures_k: K.
        min_length: Å, shortest distance between an atom and its image in the supercells.
        displacement: Å, of one atom.
        mesh_length: Å; there are about ``mesh_length`` / (lattice constant) wave vectors along each axis.
        form: of the equation of state: birch-murnaghan or vinet.
        fmax: eV/Å, to which the atoms relax in each cell.
        max_steps: optimiser steps of each cell.
        max_supercell_atoms: a crystal that needs a larger supercell has an error instead.
    """

def heat_conductivity(
    structures: Structures,
    *,
    method: Literal['slack', 'rta', 'direct'] = ...,
    gruneisen: Literal['phonons', 'poisson'] = ...,
    elastic: Elastic = ...,
    quasi_harmonic: QuasiHarmonic = ...,
    scattering: PhononScattering = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[HeatConductivityDocument]:
    """Thermal conductivity by the models of Slack, Clarke and Cahill, of a relaxed crystal, and by its phonons.

    Attributes:
        method: slack for the models alone; rta or direct, solutions of the Boltzmann equation of phonons, beside them.
        gruneisen: where the anharmonicity comes from: ``phonons`` at two volumes, as `QuasiHarmonic` has them, or the
            ``poisson`` ratio, which costs nothing and knows little.
        elastic: settings of the elastic tensor.
        quasi_harmonic: settings of the phonons.
        scattering: settings of rta and direct, which is its ``solution``.
    """

def finite_temperature(
    structures: Structures,
    *,
    temperature_k: float = ...,
    time_ps: float = ...,
    equilibration_ps: float = ...,
    timestep_fs: float = ...,
    friction_per_ps: float = ...,
    min_length: float = ...,
    max_atoms: int = ...,
    seed: int = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[FiniteTemperatureDocument]:
    """Lindemann ratio of a relaxed crystal at a temperature, by short classical dynamics in its cell at rest.

    Attributes:
        temperature_k: K.
        time_ps: of the run that counts, at least 1 ps.
        equilibration_ps: before it.
        timestep_fs: fs; take 0.5 where there is hydrogen.
        friction_per_ps: of the thermostat, 1/ps.
        min_length: Å, between an atom and its image.
        max_atoms: a crystal that needs a larger supercell has an error instead.
        seed: of the random forces.
    """

def defects(
    structures: Structures,
    *,
    dopants: tuple[str, ...] = ...,
    kinds: tuple[str, ...] = ...,
    complexes: tuple[str, ...] = ...,
    min_length: float = ...,
    max_atoms: int = ...,
    n_starts: int = ...,
    max_holes: int = ...,
    fmax: float = ...,
    max_steps: int = ...,
    temperature_k: float = ...,
    region: Reservoirs = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[DefectsDocument]:
    """Formation energies of neutral point defects of a relaxed crystal, at the chemical potentials at which it grows.

    Attributes:
        temperature_k: of the concentrations, K.
        region: of chemical potentials; not needed for an element without dopants, whose own energy counts.
    """

def phonon_scattering(
    structures: Structures,
    *,
    solution: Solution = ...,
    temperatures_k: tuple[float, ...] = ...,
    min_length: float = ...,
    displacement: float = ...,
    scattering_length: float = ...,
    cutoff: float | None = ...,
    excess: float = ...,
    mesh_length: float = ...,
    isotopes: bool = ...,
    field_response: str | None = ...,
    max_supercell_atoms: int = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[PhononScatteringDocument]:
    """Lattice conductivity of a relaxed crystal by three-phonon scattering (phono3py; ``pip install
    'dpa4-flows[kappa]'``).

    Second-order force constants are those of `Phonons` with the same settings, and are computed once for both.

    Attributes:
        solution: rta, relaxation times, or direct, the whole collision matrix, which takes much longer and gives more
            where most collisions keep the heat going, as in diamond.
        temperatures_k: K; single numbers are those at 300 K.
        min_length: Å, shortest distance between an atom and its image in the supercells of the second order.
        displacement: Å, of one atom in those.
        scattering_length: Å, as ``min_length``, of the supercells of the third order.
        cutoff: Å, as far as three atoms scatter; None for 2.2 distances of neighbours, and at least 4 Å.
        excess: equations for each third-order force constant, about.
        mesh_length: Å; there are about ``mesh_length`` / (lattice constant) wave vectors along each axis.
        isotopes: natural abundances scatter too.
        field_response: TOML file with Born charges and dielectric constants, for the splitting of polar modes (LO-TO).
        max_supercell_atoms: a crystal that needs a larger supercell has an error instead.
    """

def band_gap(
    structures: Structures,
    *,
    guess: bool = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[BandGapDocument]:
    """Band gap of a crystal as it is, by a property model in place of the potential, as its file states it, or guessed.

    A model of energies has no gap: with one, file and composition are all that is asked.

    Attributes:
        guess: from the composition, where nothing better is known.
    """

def epitaxy(
    structures: Structures,
    *,
    substrates: tuple[str, ...] = ...,
    max_index: int = ...,
    max_area: float = ...,
    interfaces: int = ...,
    interface_atoms: int = ...,
    interface_thickness: float = ...,
    interface_places: int = ...,
    interface_fmax: float = ...,
    elastic: Elastic = ...,
    relaxation: Relaxed | None = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[EpitaxyDocument]:
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

def stability(
    structures: Structures,
    *,
    relaxation: Relaxed = ...,
    elastic: Elastic | None = ...,
    phonons: Phonons | None = ...,
    max_follow_steps: int = ...,
    hull: Hull | None = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[StabilityDocument]:
    """Place on the hull, elastic tensor and phonons of a crystal, and what follows from them; each part may be None.

    Of one crystal it gives a `StabilityDocument`; of several, which may stand against each other on the hull, the
    `StabilitySet` of all. Phonons, and strains beside them, are those of the crystal with the symmetry that it has.

    Attributes:
        relaxation: that strains and phonons start from. Beside phonons it looks for no way down: they judge the
            structure that was asked for.
        elastic: elastic tensor and Born criteria.
        phonons: imaginary modes and thermal properties.
        max_follow_steps: how often an unstable crystal is followed along its imaginary mode; 0 for never.
        hull: distance to competing phases. It has a relaxation of its own, which pushes atoms off saddle points.
    """

def surface(
    structures: Structures,
    *,
    max_index: int = ...,
    min_thickness: float = ...,
    vacuum: float = ...,
    max_terminations: int = ...,
    fmax: float = ...,
    max_steps: int = ...,
    chemical_potentials: dict[str, float] | str | None = ...,
    region: ChemicalPotentials = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[SurfaceDocument]:
    """Surface energies of low-index facets, from slabs with two equal faces, and the equilibrium shape.

    Attributes:
        max_index: largest Miller index.
        min_thickness: of the slabs, Å.
        vacuum: between a slab and its image, Å.
        max_terminations: of each facet; those that break fewest bonds.
        fmax: eV/Å, to which slabs relax in their fixed cells.
        max_steps: optimiser steps of each slab.
        chemical_potentials: for terminations of another composition than the crystal, which have no slab without: those
            of "hull", the middle of the region in which the crystal is stable, or of "O-rich" or "O-poor", its corners
            with most or least of an element; or numbers by element, eV/atom in the energies of the model, of which one
            may be missing.
        region: of chemical potentials, where these are not given as numbers.
    """

def adsorption(
    structures: Structures,
    *,
    adsorbates: tuple[Adsorbate, ...] = ...,
    facets: tuple[str | int, ...] = ...,
    max_index: int = ...,
    min_length: float = ...,
    min_thickness: float = ...,
    vacuum: float = ...,
    max_terminations: int = ...,
    max_atoms: int = ...,
    orientations: int = ...,
    fmax: float = ...,
    max_steps: int = ...,
    references: dict[str, float] = ...,
    corrections: dict[str, float] = ...,
    vibrations: Which = ...,
    best_starts: int = ...,
    on_first_facet: tuple[str, ...] = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[AdsorptionDocument]:
    """Electronic adsorption energies on all distinct sites of low-index facets, with what became of each.

    Attributes:
        adsorbates: H, O, OH, OOH, CO, COOH, CHO, N, NH, N2H, NH2, S, CH3, or molecule files, whose lowest atom binds.
        facets: Miller indices in a row (111, 10-10), with a number for one termination (10-11_2); all up to max_index
            if none are named.
        max_index: largest Miller index.
        min_length: Å, between an adsorbate and its images; decides the coverage.
        min_thickness: of the slabs, Å; the lower half is fixed.
        vacuum: between a slab and its image, Å.
        max_terminations: of each facet; those that break fewest bonds.
        max_atoms: of a slab; facets with larger ones are left out and say so.
        orientations: about the normal, in which an adsorbate that is not upright is put on each site.
        fmax: eV/Å, to which slabs relax in their fixed cells.
        max_steps: optimiser steps of each slab.
        references: energy of an atom by element, eV, in place of the gas table of the level of theory.
        corrections: ΔZPE − TΔS by name of the adsorbate, eV, in place of the table and of vibrations.
        vibrations: of adsorbates, in place of the table: none, those on the best site of each facet, which then hold
            for its other sites, too (best), or of each intact site (all).
        best_starts: of each adsorbate on each termination, that relax to the end: those of lowest energy after the
            first steps; 0 for all. The others have no energy and say so.
        on_first_facet: names of adsorbates that are put on the first facet only.
    """

def activity(
    structures: Structures,
    *,
    reaction: str = ...,
    adsorption: Adsorption = ...,
    weighted: bool = ...,
    surface: SurfaceEnergies = ...,
    water: bool = ...,
    solvation: dict[str, float] = ...,
    poison_limits: dict[str, float] = ...,
    scale_ooh: bool = ...,
    reference: float | str | None = ...,
    min_share: float = ...,
    at_rest: Relaxed = ...,
    reroute: Reroute | None = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[ActivityDocument]:
    """Limiting potential and overpotential of a reaction of an electrode on every facet, and what stands in its way.

    Attributes:
        reaction: HER, ORR, OER, CO2RR (to methane), CO2RR_CO (to carbon monoxide) or NRR.
        adsorption: slabs and sites; its adsorbates are those of the reaction, and any that are named there beside them.
        weighted: whether means over facets go by their share of the equilibrium shape, for which slabs of their own are
            computed.
        surface: surface energies that the shape is made of.
        water: whether the table of metals in water is used: OH -0.5, OOH -0.4, COOH -0.25, CO and CHO -0.1 eV.
        solvation: eV, by adsorbate, by which water lowers (below 0) its free energy, before the table; 0 without.
        poison_limits: eV, by adsorbate, free energy at the limiting potential below which it covers the surface; unless
            others are given, CO -0.4 (from 0.2 ppm of it) and OH 0. An adsorbate is judged if it is computed.
        scale_ooh: whether OOH is put 3.2 eV above OH and not computed; so it is where OOH has no intact site.
        reference: descriptor of Pt (111) with the same model and settings, eV, from which the top of the volcano is
            counted; Pt computes it.
        min_share: of the area; facets with less neither count in means nor lack there.
        at_rest: relaxation of crystals that are not given: Pt, and those of another model.
        reroute: another model for adsorbates across the +U seam. If the reaction has one of these, all of it is
            computed by that model, so that no energies of two levels of theory meet.
    """

def ion_insertion(
    structures: Structures,
    *,
    working_ion: str = ...,
    relaxation: Relaxed = ...,
    check_charged: bool = ...,
    min_length: float = ...,
    n_steps: int = ...,
    n_relaxed: int = ...,
    max_places: int = ...,
    min_voltage: float = ...,
    max_atoms: int = ...,
    v_min: float = ...,
    v_max: float = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[IonInsertionDocument]:
    """Voltage of a host as it takes up ions, from places that are found in it.

    Attributes:
        working_ion: element that goes in.
        relaxation: of the metal, and of the host but for the search below.
        check_charged: let host and filled host go down from saddles.
        min_length: Å between an ion and its image: of the cell that is filled.
        n_steps: parts into which the uptake that the metals of the host pay for is cut. Whole oxidation states are
            looked at besides. Where no such metal is, ions go in one by one.
        n_relaxed: arrangements that are relaxed at each step, those of the lowest energy before.
        max_places: kinds of places that are tried for each ion, those with most room.
        min_voltage: V; a step that brings less is the end.
        max_atoms: a host that needs larger cells has an error instead.
        v_min: V, below which an electrolyte or a cell cannot be used.
        v_max: V, above which it cannot.
    """

def electrode(
    structures: Structures,
    *,
    working_ion: str = ...,
    relaxation: Relaxed = ...,
    check_charged: bool = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[ElectrodeDocument]:
    """Voltage, capacity and volume change of an insertion electrode that gives off all its ions.

    Attributes:
        working_ion: element that moves.
        relaxation: of the crystal, its host and the metal of the ion; by default that of hulls, so that what these
            relaxed is found again.
        check_charged: let the host go down from a saddle; by default it stays in the basin in which the ions leave it.
    """

def voltage_profile(
    structures: Structures,
    *,
    working_ion: str = ...,
    relaxation: Relaxed = ...,
    check_charged: bool = ...,
    formula_units: int = ...,
    n_steps: int = ...,
    n_relaxed: int = ...,
    other_sites: bool = ...,
    max_atoms: int = ...,
    v_min: float | None = ...,
    v_max: float | None = ...,
    seed: int = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[VoltageProfileDocument]:
    """Voltage of an insertion electrode over its charge, and what of it a window of voltages can use.

    Attributes:
        working_ion: element that moves.
        relaxation: of everything, as in the electrode; by default that of hulls.
        check_charged: let what has lost ions go down from a saddle; by default it stays in the basin in which the ions
            leave it.
        formula_units: of the cells with vacancies, at most; a crystal whose primitive cell has more is taken as it is.
        n_steps: parts into which full removal is cut. Compositions with whole oxidation states are looked at besides.
        n_relaxed: orderings that are relaxed at each composition, those of the lowest electrostatic energy.
        other_sites: relax as many orderings in which ions have moved to places that are empty in the full compound.
        max_atoms: a crystal that needs larger cells has an error instead.
        v_min: V, below which an electrolyte or a cell cannot be used; by default 2.5 V against lithium, as it is
            against the metal of the ion.
        v_max: V, above which it cannot; by default 4.5 V against lithium, where carbonate electrolytes oxidise.
        seed: of the orderings where no oxidation states are known.
    """

def migration(
    structures: Structures,
    *,
    n_images: int = ...,
    fmax: float = ...,
    max_steps: int = ...,
    climb: bool = ...,
    spring: float = ...,
    end_fmax: float = ...,
    symmetric: bool = ...,
    working_ion: str = ...,
    max_hop: float = ...,
    min_bottleneck: float = ...,
    min_length: float = ...,
    max_hops: int = ...,
    max_supercell_atoms: int = ...,
    temperature_k: float = ...,
    attempt_frequency_thz: float = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[MigrationDocument]:
    """Barriers of an ion that hops from site to site of a relaxed crystal, and how far its hops lead.

    Attributes:
        working_ion: element that moves, into vacancies of its own sites.
        max_hop: Å, longest hop between sites.
        min_bottleneck: Å; hops through which no sphere of this radius gets between the ions at rest are not computed.
        min_length: Å, shortest distance between a vacancy and its image.
        max_hops: kinds of hops that are computed at most, the shortest first.
        max_supercell_atoms: a crystal that needs a larger supercell has an error instead.
        temperature_k: K, of the diffusion coefficient.
        attempt_frequency_thz: THz, assumed in the diffusion coefficient.
    """

def diffusivity(
    structures: Structures,
    *,
    working_ion: str = ...,
    time_ps: float = ...,
    equilibration_ps: float = ...,
    timestep_fs: float = ...,
    thermostat: str = ...,
    thermostat_fs: float = ...,
    friction_per_ps: float = ...,
    interval_fs: float = ...,
    min_length: float = ...,
    max_atoms: int = ...,
    seed: int = ...,
    temperatures: tuple[float, ...] = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[DiffusivityDocument]:
    """Diffusion of an ion through a relaxed crystal by dynamics at several temperatures, and its conductivity at 300 K.

    Attributes:
        temperatures: K; one trajectory at each, all of them together.
    """

def segregation(
    structures: Structures,
    *,
    facets: tuple[str | int, ...] = ...,
    max_index: int = ...,
    min_length: float = ...,
    min_thickness: float = ...,
    vacuum: float = ...,
    max_terminations: int = ...,
    max_atoms: int = ...,
    fmax: float = ...,
    max_steps: int = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[SegregationDocument]:
    """Energy to exchange surface atoms of an alloy with atoms of its other elements inside the slab."""

def dissolution(
    structures: Structures,
    *,
    facets: tuple[str | int, ...] = ...,
    max_index: int = ...,
    min_length: float = ...,
    min_thickness: float = ...,
    vacuum: float = ...,
    max_terminations: int = ...,
    max_atoms: int = ...,
    fmax: float = ...,
    max_steps: int = ...,
    ph: float = ...,
    ions: str = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[DissolutionDocument]:
    """Potential at which atoms leave the surface as ions, from the energy to take them out and measured ions.

    Attributes:
        ph: of the water.
        ions: file of measured ions, see `dpa4_flows.reference.ions`; by default the bundled table of 41 elements.
    """

def service(
    structures: Structures,
    *,
    ph: float = ...,
    potential: tuple[float, float] = ...,
    pourbaix: Pourbaix | None = ...,
    segregation: Segregation | None = ...,
    dissolution: Dissolution | None = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[ServiceDocument]:
    """Decomposition in water, segregation and dissolution at the pH and the potentials of a catalyst at work; each part
    may be None.

    Attributes:
        ph: of the water, for all parts.
        potential: lowest and highest at work, V against the reversible hydrogen electrode.
        pourbaix: energy above the stable species in water, at both ends of the window: between them it is lower. Known
            compounds compete; structure types, of which hydrogen has very many, only if it says so.
        segregation: exchanges of surface atoms with the inside.
        dissolution: of surface atoms.
    """

def equation_of_state(
    structures: Structures,
    *,
    strains: tuple[float, ...] = ...,
    form: Form = ...,
    fmax: float = ...,
    max_steps: int = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[EquationOfStateDocument]:
    """Equation of state from cells of several volumes and one shape, atoms relaxed in each.

    Attributes:
        strains: of the volume, at least five.
        form: birch-murnaghan or vinet.
        fmax: eV/Å, to which the atoms relax in each cell.
        max_steps: optimiser steps of each cell.
    """

def hull(
    structures: Structures,
    *,
    relaxation: Relaxed = ...,
    relax: bool = ...,
    corrections: str = ...,
    temperature: float | None = ...,
    candidates_compete: bool = ...,
    library: str | None = ...,
    files: tuple[str, ...] = ...,
    bundled: bool = ...,
    prototypes: bool = ...,
    materials_project: Literal['never', 'if possible', 'always', 'energies'] = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[HullPlace]:
    """Where a crystal lies above the hull of competing phases.

    Of one crystal it gives a `HullPlace`; of several, which may stand against each other, the `HullSet` of all.
    """

def hull_comparison(
    structures: Structures,
    *,
    entries: str = ...,
    relaxation: Relaxed = ...,
    corrections: tuple[str, ...] = ...,
    thresholds: tuple[float, ...] = ...,
    max_atoms: int | None = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[PhaseComparison]:
    """Distances to the hull of a model's energies against those to the hull of the energies in a file; no phase outside
    the file competes.

    Of one crystal it gives a `PhaseComparison`, of several or none a `HullComparisonDocument` of all in the file.

    Attributes:
        entries: JSON of computed entries with structures, as pymatgen writes them.
        relaxation: of every structure in the file.
        corrections: schemes for the model, as in `correction_scheme`.
        thresholds: eV/atom; stable means this close to the hull.
        max_atoms: leaves out larger cells, but for those on the hull of the file.
    """

def gibbs(
    structures: Structures,
    *,
    temperatures: tuple[float, ...] = ...,
    hull: Hull = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[GibbsDocument]:
    """Gibbs energies of formation and distances to the hull at several temperatures, by the descriptor of Bartel et
    al. (2018) for solids and measured values for the elements at 1 bar.

    Attributes:
        temperatures: K, 300 to 2000.
        hull: what competes, and how; without a temperature of its own.
    """

def window(
    structures: Structures,
    *,
    relaxation: Relaxed = ...,
    relax: bool = ...,
    corrections: str = ...,
    temperature: float | None = ...,
    candidates_compete: bool = ...,
    library: str | None = ...,
    files: tuple[str, ...] = ...,
    bundled: bool = ...,
    prototypes: bool = ...,
    materials_project: Literal['never', 'if possible', 'always', 'energies'] = ...,
    working_ion: str = ...,
    cathode_voltage: float = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[WindowDocument]:
    """Electrochemical windows of one crystal or several; what is observed is wider by overpotentials.

    Attributes:
        working_ion: element of the reservoir, whose phases compete, too.
        cathode_voltage: V against its metal, at which the decomposition energy is quoted.
    """

def interface(
    structures: Structures,
    *,
    relaxation: Relaxed = ...,
    relax: bool = ...,
    corrections: str = ...,
    temperature: float | None = ...,
    candidates_compete: bool = ...,
    library: str | None = ...,
    files: tuple[str, ...] = ...,
    bundled: bool = ...,
    prototypes: bool = ...,
    materials_project: Literal['never', 'if possible', 'always', 'energies'] = ...,
    against: tuple[str, ...] = ...,
    working_ion: str = ...,
    voltage: float | None = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[InterfaceDocument]:
    """Reactions of a crystal, such as a solid electrolyte, with electrodes, over the mixing fraction."""

def coating(
    structures: Structures,
    *,
    relaxation: Relaxed = ...,
    relax: bool = ...,
    corrections: str = ...,
    temperature: float | None = ...,
    candidates_compete: bool = ...,
    library: str | None = ...,
    files: tuple[str, ...] = ...,
    bundled: bool = ...,
    prototypes: bool = ...,
    materials_project: Literal['never', 'if possible', 'always', 'energies'] = ...,
    against: tuple[str, ...] = ...,
    working_ion: str = ...,
    voltage: float | None = ...,
    electrolyte: str = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[CoatingDocument]:
    """A crystal as coating between an electrolyte and electrodes: its reactions with both, what there would be without
    it, and its window.

    Attributes:
        electrolyte: a formula among the known phases or the file of a crystal; by default Li3PS4 or Na3PS4.
    """

def air(
    structures: Structures,
    *,
    relaxation: Relaxed = ...,
    relax: bool = ...,
    corrections: str = ...,
    temperature: float | None = ...,
    candidates_compete: bool = ...,
    library: str | None = ...,
    files: tuple[str, ...] = ...,
    bundled: bool = ...,
    prototypes: bool = ...,
    materials_project: Literal['never', 'if possible', 'always', 'energies'] = ...,
    water: float = ...,
    carbon_dioxide: float = ...,
    oxygen: float = ...,
    evolved: float = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[AirDocument]:
    """Gibbs energies of the reactions of a crystal with water vapour, carbon dioxide and oxygen, each alone: solids by
    the descriptor of Bartel et al. (2018), gases as measured. Salts react without reducing water or carbon dioxide;
    metals and hydrides may reduce both.

    Attributes:
        water: bar; by default half of what saturates air at 300 K, in a dry room some 1e-4.
        carbon_dioxide, oxygen: bar, those of air.
        evolved: bar, of other gases, which leave, such as H2S; 1e-6 is a part per million.
        prototypes: propose compounds where none is known.
    """

def oxygen_release(
    structures: Structures,
    *,
    relaxation: Relaxed = ...,
    relax: bool = ...,
    corrections: str = ...,
    temperature: float | None = ...,
    candidates_compete: bool = ...,
    library: str | None = ...,
    files: tuple[str, ...] = ...,
    bundled: bool = ...,
    prototypes: bool = ...,
    materials_project: Literal['never', 'if possible', 'always', 'energies'] = ...,
    pressure: float = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[OxygenReleaseDocument]:
    """Temperature at which an oxide, such as a charged electrode, gives off O2, and what is left of it.

    Attributes:
        pressure: of O2 in the gas, bar; 0.21 is air.
    """

def conversion(
    structures: Structures,
    *,
    relaxation: Relaxed = ...,
    relax: bool = ...,
    corrections: str = ...,
    temperature: float | None = ...,
    candidates_compete: bool = ...,
    library: str | None = ...,
    files: tuple[str, ...] = ...,
    bundled: bool = ...,
    prototypes: bool = ...,
    materials_project: Literal['never', 'if possible', 'always', 'energies'] = ...,
    working_ion: str = ...,
    min_voltage: float = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[ConversionDocument]:
    """Voltage, capacity and expansion of an electrode that turns into other phases as it takes up an ion.

    Attributes:
        working_ion: element that goes in, whose phases compete, too.
        min_voltage: V; steps below are left out.
    """

def chempots(
    structures: Structures,
    *,
    relaxation: Relaxed = ...,
    relax: bool = ...,
    corrections: str = ...,
    temperature: float | None = ...,
    candidates_compete: bool = ...,
    library: str | None = ...,
    files: tuple[str, ...] = ...,
    bundled: bool = ...,
    prototypes: bool = ...,
    materials_project: Literal['never', 'if possible', 'always', 'energies'] = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[RegionDocument]:
    """Regions of chemical potentials in which one crystal, or each of several, is stable."""

def pourbaix(
    structures: Structures,
    *,
    relaxation: Relaxed = ...,
    relax: bool = ...,
    corrections: str = ...,
    temperature: float | None = ...,
    candidates_compete: bool = ...,
    library: str | None = ...,
    files: tuple[str, ...] = ...,
    bundled: bool = ...,
    prototypes: bool = ...,
    materials_project: Literal['never', 'if possible', 'always', 'energies'] = ...,
    ions: str = ...,
    ph: tuple[float, ...] = ...,
    potential: tuple[float, ...] = ...,
    concentration: float = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[PourbaixDocument]:
    """Energy of a crystal above the stable species in water, at given pH and potential.

    Attributes:
        ions: file of measured ions, see `dpa4_flows.reference.ions`; by default the bundled table of 41 elements.
        ph: values of pH.
        potential: V against the standard hydrogen electrode.
        concentration: of each ion, mol/L.
    """

def follow_modes(
    structures: Structures,
    *,
    relaxation: Relaxed | None = ...,
    phonons: Phonons = ...,
    max_follow_steps: int = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[FollowedPart]:
    """Where a relaxed crystal with imaginary modes goes: displaced along the lowest one in all its directions, relaxed,
    the lowest taken, its phonons calculated, and so on.

    Attributes:
        relaxation: of the displaced crystals, tight.
        phonons: of the crystal and of what lies lower.
        max_follow_steps: how often a crystal is displaced and relaxed.
    """

def alloy(
    structures: Structures,
    *,
    substitute: str = ...,
    fractions: tuple[float, ...] = ...,
    max_atoms: int = ...,
    n_shells: int = ...,
    fmax: float = ...,
    max_steps: int = ...,
    seed: int = ...,
    model: str | ModelRef = ...,
    relaxation: Relaxed | None = ...,
    **how: Unpack[How],
) -> Results[AlloyDocument]:
    """Mixing enthalpy, miscibility and lattice constants of a relaxed crystal in which one element replaces another.

    Attributes:
        substitute: which element by which, as Ga:In.
        fractions: of the sites that the new element takes, between 0 and 1; both ends are always computed.
        max_atoms: atoms of the quasi-random cells at most; the largest that has the composition is taken.
        n_shells: of neighbours whose pairs are to be uncorrelated, the nearer the more.
        fmax: eV/Å, at the end of each relaxation.
        max_steps: optimiser steps of each.
        seed: of the random numbers.
    """

def ordering(
    structures: Structures,
    *,
    ion: str = ...,
    content: float = ...,
    max_atoms: int = ...,
    n_cells: int = ...,
    n_candidates: int = ...,
    replicas: int = ...,
    temperatures_k: tuple[float, ...] = ...,
    steps: int = ...,
    patience: int = ...,
    relax_steps: int = ...,
    n_relaxed: int = ...,
    fmax: float = ...,
    max_steps: int = ...,
    seed: int = ...,
    model: str | ModelRef = ...,
    **how: Unpack[How],
) -> Results[OrderingDocument]:
    """The lowest ordered cell of a crystal with partial occupancies, or of one from which part of an ion is taken.

    Attributes:
        ion: element of which only a part stays on its sites, as in a cathode that is half charged; by default what the
            occupancies of the input say.
        content: share of the ion that stays, 0 to 1.
        max_atoms: sites of the supercell at most; the largest that has the composition is taken.
        n_cells: primitive cells of the supercell instead; 0 chooses.
        n_candidates: cells of lowest electrostatic energy that the search begins with; random ones without charges.
        replicas: searches side by side, from the lowest of these.
        temperatures_k: of the swaps one after the other, K, for the energy of the whole cell.
        steps: swaps of each replica at each temperature, at most.
        patience: swaps of each replica without a lower cell after which a temperature ends.
        relax_steps: optimiser steps of each cell in the search. As it is, with 0, a cell with the bond lengths of the
            parent ranks badly: ions move by more than orders differ.
        n_relaxed: lowest cells that are relaxed in the end.
        fmax: eV/Å, of these relaxations.
        max_steps: optimiser steps of these relaxations.
        seed: of the random numbers.
    """
