"""Makers of the properties, by name; written by scripts/typed_names.py."""

from dataclasses import dataclass
from dpa4_flows.compute.relaxed import Energy, Relaxed
from dpa4_flows.documents.activity import ActivityDocument
from dpa4_flows.documents.defects import DefectsDocument
from dpa4_flows.documents.diffusion import DiffusivityDocument
from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.documents.service import DissolutionDocument, SegregationDocument, ServiceDocument
from dpa4_flows.documents.stability import ElasticPart, FollowedPart, PhononPart, StabilityDocument
from dpa4_flows.documents.surfaces import AdsorptionDocument
from dpa4_flows.makers.property import PropertyMaker
from dpa4_flows.makers.together import TogetherMaker
from dpa4_flows.properties.activity import Activity
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.air import Air, AirDocument
from dpa4_flows.properties.alloy import Alloy, AlloyDocument
from dpa4_flows.properties.band_gap import BandGap, BandGapDocument
from dpa4_flows.properties.chemical_potentials import ChemicalPotentials, RegionDocument
from dpa4_flows.properties.conversion import Conversion, ConversionDocument
from dpa4_flows.properties.defects import Defects
from dpa4_flows.properties.diffusivity import Diffusivity
from dpa4_flows.properties.dissolution import Dissolution
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.electrode import Electrode, ElectrodeDocument
from dpa4_flows.properties.epitaxy import Epitaxy, EpitaxyDocument
from dpa4_flows.properties.equation_of_state import EquationOfState, EquationOfStateDocument
from dpa4_flows.properties.finite_temperature import FiniteTemperature, FiniteTemperatureDocument
from dpa4_flows.properties.gibbs import GibbsDocument, GibbsEnergies
from dpa4_flows.properties.heat_conductivity import HeatConductivity, HeatConductivityDocument
from dpa4_flows.properties.hull import Hull, HullPlace
from dpa4_flows.properties.hull_comparison import HullComparison, PhaseComparison
from dpa4_flows.properties.interfaces import CoatingDocument, Coatings, InterfaceDocument, Interfaces
from dpa4_flows.properties.ion_insertion import IonInsertion, IonInsertionDocument
from dpa4_flows.properties.migration import Migration, MigrationDocument
from dpa4_flows.properties.modes import FollowedModes
from dpa4_flows.properties.ordering import Ordering, OrderingDocument
from dpa4_flows.properties.oxygen_release import OxygenRelease, OxygenReleaseDocument
from dpa4_flows.properties.phonon_bands import PhononBands, PhononBandsDocument
from dpa4_flows.properties.phonon_scattering import PhononScattering, PhononScatteringDocument
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.pourbaix import Pourbaix, PourbaixDocument
from dpa4_flows.properties.quasi_harmonic import QuasiHarmonic, QuasiHarmonicDocument
from dpa4_flows.properties.segregation import Segregation
from dpa4_flows.properties.service import Service
from dpa4_flows.properties.stability import Stability
from dpa4_flows.properties.surface import SurfaceDocument, SurfaceEnergies
from dpa4_flows.properties.voltage_profile import VoltageProfile, VoltageProfileDocument
from dpa4_flows.properties.windows import ElectrochemicalWindows, WindowDocument

@dataclass
class BatchRelaxMaker(PropertyMaker[RelaxationDocument]):
    """A structure at rest. Fields of `PropertyMaker`, settings of `Relaxed`."""

    property: Relaxed = ...
    name: str = "DPA4 batch relax"

@dataclass
class BatchStaticMaker(PropertyMaker[RelaxationDocument]):
    """Energy, pressure and largest force of a structure as it is; stored like a relaxation of zero steps. Fields of `PropertyMaker`, settings of `Energy`."""

    property: Energy = ...
    name: str = "DPA4 batch static"

@dataclass
class BatchElasticMaker(PropertyMaker[ElasticPart]):
    """Elastic tensor of a relaxed crystal from four magnitudes of each of six strains, atoms relaxed in each cell. Fields of `PropertyMaker`, settings of `Elastic`."""

    property: Elastic = ...
    name: str = "DPA4 elastic"

@dataclass
class BatchPhononMaker(PropertyMaker[PhononPart]):
    """Harmonic phonons of a relaxed crystal by finite displacements (phonopy; ``pip install 'dpa4-flows[phonons]'``). Fields of `PropertyMaker`, settings of `Phonons`."""

    property: Phonons = ...
    name: str = "DPA4 phonons"

@dataclass
class BatchPhononBandsMaker(PropertyMaker[PhononBandsDocument]):
    """Bands, density of states and what follows from them, of a relaxed crystal (phonopy, seekpath). Fields of `PropertyMaker`, settings of `PhononBands`."""

    property: PhononBands = ...
    name: str = "DPA4 phonon bands"

@dataclass
class BatchQuasiHarmonicMaker(PropertyMaker[QuasiHarmonicDocument]):
    """Thermal expansion, heat capacity at constant pressure and Gibbs energy of a relaxed crystal. Fields of `PropertyMaker`, settings of `QuasiHarmonic`."""

    property: QuasiHarmonic = ...
    name: str = "DPA4 thermal expansion"

@dataclass
class BatchHeatConductivityMaker(PropertyMaker[HeatConductivityDocument]):
    """Thermal conductivity by the models of Slack, Clarke and Cahill, of a relaxed crystal, and by its phonons. Fields of `PropertyMaker`, settings of `HeatConductivity`."""

    property: HeatConductivity = ...
    name: str = "DPA4 heat conductivity"

@dataclass
class BatchFiniteTemperatureMaker(PropertyMaker[FiniteTemperatureDocument]):
    """Lindemann ratio of a relaxed crystal at a temperature, by short classical dynamics in its cell at rest. Fields of `PropertyMaker`, settings of `FiniteTemperature`."""

    property: FiniteTemperature = ...
    name: str = "DPA4 finite temperature"

@dataclass
class BatchDefectsMaker(PropertyMaker[DefectsDocument]):
    """Formation energies of neutral point defects of a relaxed crystal, at the chemical potentials at which it grows. Fields of `PropertyMaker`, settings of `Defects`."""

    property: Defects = ...
    name: str = "DPA4 defects"

@dataclass
class BatchPhononScatteringMaker(PropertyMaker[PhononScatteringDocument]):
    """Lattice conductivity of a relaxed crystal by three-phonon scattering (phono3py; ``pip install 'dpa4-flows[kappa]'``). Fields of `PropertyMaker`, settings of `PhononScattering`."""

    property: PhononScattering = ...
    name: str = "DPA4 phonon scattering"

@dataclass
class BatchBandGapMaker(PropertyMaker[BandGapDocument]):
    """Band gap of a crystal as it is, by a property model in place of the potential, as its file states it, or guessed. Fields of `PropertyMaker`, settings of `BandGap`."""

    property: BandGap = ...
    name: str = "DPA4 band gap"

@dataclass
class BatchEpitaxyMaker(PropertyMaker[EpitaxyDocument]):
    """Wafers that a relaxed crystal fits on by the lattices; for some, what the bonds across the interface cost. Fields of `PropertyMaker`, settings of `Epitaxy`."""

    property: Epitaxy = ...
    name: str = "DPA4 epitaxy"

@dataclass
class BatchSurfaceMaker(PropertyMaker[SurfaceDocument]):
    """Surface energies of low-index facets, from slabs with two equal faces, and the equilibrium shape. Fields of `PropertyMaker`, settings of `SurfaceEnergies`."""

    property: SurfaceEnergies = ...
    name: str = "DPA4 surfaces"

@dataclass
class BatchAdsorptionMaker(PropertyMaker[AdsorptionDocument]):
    """Electronic adsorption energies on all distinct sites of low-index facets, with what became of each. Fields of `PropertyMaker`, settings of `Adsorption`."""

    property: Adsorption = ...
    name: str = "DPA4 adsorption"

@dataclass
class BatchActivityMaker(PropertyMaker[ActivityDocument]):
    """Limiting potential and overpotential of a reaction of an electrode on every facet, and what stands in its way. Fields of `PropertyMaker`, settings of `Activity`."""

    property: Activity = ...
    name: str = "DPA4 activity"

@dataclass
class BatchIonInsertionMaker(PropertyMaker[IonInsertionDocument]):
    """Voltage of a host as it takes up ions, from places that are found in it. Fields of `PropertyMaker`, settings of `IonInsertion`."""

    property: IonInsertion = ...
    name: str = "DPA4 insertion"

@dataclass
class BatchElectrodeMaker(PropertyMaker[ElectrodeDocument]):
    """Voltage, capacity and volume change of an insertion electrode that gives off all its ions. Fields of `PropertyMaker`, settings of `Electrode`."""

    property: Electrode = ...
    name: str = "DPA4 electrode"

@dataclass
class BatchVoltageProfileMaker(PropertyMaker[VoltageProfileDocument]):
    """Voltage of an insertion electrode over its charge, and what of it a window of voltages can use. Fields of `PropertyMaker`, settings of `VoltageProfile`."""

    property: VoltageProfile = ...
    name: str = "DPA4 voltage profile"

@dataclass
class BatchMigrationMaker(PropertyMaker[MigrationDocument]):
    """Barriers of an ion that hops from site to site of a relaxed crystal, and how far its hops lead. Fields of `PropertyMaker`, settings of `Migration`."""

    property: Migration = ...
    name: str = "DPA4 migration"

@dataclass
class BatchDiffusivityMaker(PropertyMaker[DiffusivityDocument]):
    """Diffusion of an ion through a relaxed crystal by dynamics at several temperatures, and its conductivity at 300 K. Fields of `PropertyMaker`, settings of `Diffusivity`."""

    property: Diffusivity = ...
    name: str = "DPA4 diffusivity"

@dataclass
class BatchSegregationMaker(PropertyMaker[SegregationDocument]):
    """Energy to exchange surface atoms of an alloy with atoms of its other elements inside the slab. Fields of `PropertyMaker`, settings of `Segregation`."""

    property: Segregation = ...
    name: str = "DPA4 segregation"

@dataclass
class BatchDissolutionMaker(PropertyMaker[DissolutionDocument]):
    """Potential at which atoms leave the surface as ions, from the energy to take them out and measured ions. Fields of `PropertyMaker`, settings of `Dissolution`."""

    property: Dissolution = ...
    name: str = "DPA4 dissolution"

@dataclass
class BatchServiceMaker(PropertyMaker[ServiceDocument]):
    """Decomposition in water, segregation and dissolution at the pH and the potentials of a catalyst at work; each part may be None. Fields of `PropertyMaker`, settings of `Service`."""

    property: Service = ...
    name: str = "DPA4 service"

@dataclass
class BatchEquationOfStateMaker(PropertyMaker[EquationOfStateDocument]):
    """Equation of state from cells of several volumes and one shape, atoms relaxed in each. Fields of `PropertyMaker`, settings of `EquationOfState`."""

    property: EquationOfState = ...
    name: str = "DPA4 equation of state"

@dataclass
class BatchInterfaceMaker(PropertyMaker[InterfaceDocument]):
    """Reactions of a crystal, such as a solid electrolyte, with electrodes, over the mixing fraction. Fields of `PropertyMaker`, settings of `Interfaces`."""

    property: Interfaces = ...
    name: str = "DPA4 interface"

@dataclass
class BatchCoatingMaker(PropertyMaker[CoatingDocument]):
    """A crystal as coating between an electrolyte and electrodes: its reactions with both, what there would be without it, and its window. Fields of `PropertyMaker`, settings of `Coatings`."""

    property: Coatings = ...
    name: str = "DPA4 coating"

@dataclass
class BatchAirMaker(PropertyMaker[AirDocument]):
    """Gibbs energies of the reactions of a crystal with water vapour, carbon dioxide and oxygen, each alone: solids by the descriptor of Bartel et al. (2018), gases as measured. Salts react without reducing water or carbon dioxide; metals and hydrides may reduce both. Fields of `PropertyMaker`, settings of `Air`."""

    property: Air = ...
    name: str = "DPA4 air"

@dataclass
class BatchOxygenReleaseMaker(PropertyMaker[OxygenReleaseDocument]):
    """Temperature at which an oxide, such as a charged electrode, gives off O2, and what is left of it. Fields of `PropertyMaker`, settings of `OxygenRelease`."""

    property: OxygenRelease = ...
    name: str = "DPA4 oxygen release"

@dataclass
class BatchConversionMaker(PropertyMaker[ConversionDocument]):
    """Voltage, capacity and expansion of an electrode that turns into other phases as it takes up an ion. Fields of `PropertyMaker`, settings of `Conversion`."""

    property: Conversion = ...
    name: str = "DPA4 conversion"

@dataclass
class PourbaixMaker(PropertyMaker[PourbaixDocument]):
    """Energy of a crystal above the stable species in water, at given pH and potential. Fields of `PropertyMaker`, settings of `Pourbaix`."""

    property: Pourbaix = ...
    name: str = "DPA4 stability in water"

@dataclass
class BatchFollowModesMaker(PropertyMaker[FollowedPart]):
    """Where a relaxed crystal with imaginary modes goes: displaced along the lowest one in all its directions, relaxed, the lowest taken, its phonons calculated, and so on. Fields of `PropertyMaker`, settings of `FollowedModes`."""

    property: FollowedModes = ...
    name: str = "DPA4 imaginary modes"

@dataclass
class BatchAlloyMaker(PropertyMaker[AlloyDocument]):
    """Mixing enthalpy, miscibility and lattice constants of a relaxed crystal in which one element replaces another. Fields of `PropertyMaker`, settings of `Alloy`."""

    property: Alloy = ...
    name: str = "DPA4 alloy"

@dataclass
class BatchOrderingMaker(PropertyMaker[OrderingDocument]):
    """The lowest ordered cell of a crystal with partial occupancies, or of one from which part of an ion is taken. Fields of `PropertyMaker`, settings of `Ordering`."""

    property: Ordering = ...
    name: str = "DPA4 ordering"

@dataclass
class ConvexHullMaker(TogetherMaker[HullPlace]):
    """Where a crystal lies above the hull of competing phases. Fields of `TogetherMaker`, settings of `Hull`."""

    property: Hull = ...
    name: str = "convex hull"

@dataclass
class ElectrochemicalWindowMaker(TogetherMaker[WindowDocument]):
    """Electrochemical windows of one crystal or several; what is observed is wider by overpotentials. Fields of `TogetherMaker`, settings of `ElectrochemicalWindows`."""

    property: ElectrochemicalWindows = ...
    name: str = "electrochemical windows"

@dataclass
class ChemicalPotentialMaker(TogetherMaker[RegionDocument]):
    """Regions of chemical potentials in which one crystal, or each of several, is stable. Fields of `TogetherMaker`, settings of `ChemicalPotentials`."""

    property: ChemicalPotentials = ...
    name: str = "chemical potentials"

@dataclass
class GibbsEnergyMaker(TogetherMaker[GibbsDocument]):
    """Gibbs energies of formation and distances to the hull at several temperatures, by the descriptor of Bartel et al. (2018) for solids and measured values for the elements at 1 bar. Fields of `TogetherMaker`, settings of `GibbsEnergies`."""

    property: GibbsEnergies = ...
    name: str = "Gibbs energies"

@dataclass
class HullComparisonMaker(TogetherMaker[PhaseComparison]):
    """Distances to the hull of a model's energies against those to the hull of the energies in a file; no phase outside the file competes. Fields of `TogetherMaker`, settings of `HullComparison`."""

    property: HullComparison = ...
    name: str = "hull comparison"

@dataclass
class StabilityMaker(TogetherMaker[StabilityDocument]):
    """Place on the hull, elastic tensor and phonons of a crystal, and what follows from them; each part may be None. Fields of `TogetherMaker`, settings of `Stability`."""

    property: Stability = ...
    name: str = "stability"

MAKERS: dict[str, tuple[str, str]]
