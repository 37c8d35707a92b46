"""Makers of the properties, by name: each is a `PropertyMaker` whose property has its default settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from dpa4_flows.documents.activity import ActivityDocument
from dpa4_flows.documents.defects import DefectsDocument
from dpa4_flows.documents.stability import ElasticPart, PhononPart
from dpa4_flows.documents.surfaces import AdsorptionDocument
from dpa4_flows.makers.property import PropertyMaker
from dpa4_flows.properties.activity import Activity
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.alloy import Alloy, AlloyDocument
from dpa4_flows.properties.defects import Defects
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.electrode import Electrode, ElectrodeDocument
from dpa4_flows.properties.epitaxy import Epitaxy, EpitaxyDocument
from dpa4_flows.properties.heat_conductivity import HeatConductivity, HeatConductivityDocument
from dpa4_flows.properties.ordering import Ordering, OrderingDocument
from dpa4_flows.properties.phonon_bands import PhononBands, PhononBandsDocument
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.quasi_harmonic import QuasiHarmonic, QuasiHarmonicDocument


@dataclass
class BatchElasticMaker(PropertyMaker[ElasticPart]):
    """Elastic tensors of relaxed crystals; the fields are those of `PropertyMaker`, the settings those of `Elastic`."""

    property: Elastic = field(default_factory=Elastic)
    name: str = "DPA4 elastic"


@dataclass
class BatchPhononMaker(PropertyMaker[PhononPart]):
    """Phonons of relaxed crystals; the fields are those of `PropertyMaker`, the settings those of `Phonons`."""

    property: Phonons = field(default_factory=Phonons)
    name: str = "DPA4 phonons"


@dataclass
class BatchAdsorptionMaker(PropertyMaker[AdsorptionDocument]):
    """Adsorption on facets of relaxed crystals; fields of `PropertyMaker`, settings of `Adsorption`."""

    property: Adsorption = field(default_factory=Adsorption)
    name: str = "DPA4 adsorption"


@dataclass
class BatchActivityMaker(PropertyMaker[ActivityDocument]):
    """Activity of relaxed crystals as electrodes; fields of `PropertyMaker`, settings of `Activity`."""

    property: Activity = field(default_factory=Activity)
    name: str = "DPA4 activity"


@dataclass
class BatchElectrodeMaker(PropertyMaker[ElectrodeDocument]):
    """Insertion electrodes with all their ions; fields of `PropertyMaker`, settings of `Electrode`."""

    property: Electrode = field(default_factory=Electrode)
    name: str = "DPA4 electrode"


@dataclass
class BatchPhononBandsMaker(PropertyMaker[PhononBandsDocument]):
    """Bands and densities of states of relaxed crystals; fields of `PropertyMaker`, settings of `PhononBands`."""

    property: PhononBands = field(default_factory=PhononBands)
    name: str = "DPA4 phonon bands"


@dataclass
class BatchQuasiHarmonicMaker(PropertyMaker[QuasiHarmonicDocument]):
    """Thermal expansion of relaxed crystals; fields of `PropertyMaker`, settings of `QuasiHarmonic`."""

    property: QuasiHarmonic = field(default_factory=QuasiHarmonic)
    name: str = "DPA4 thermal expansion"


@dataclass
class BatchHeatConductivityMaker(PropertyMaker[HeatConductivityDocument]):
    """Models of the lattice's conductivity; fields of `PropertyMaker`, settings of `HeatConductivity`."""

    property: HeatConductivity = field(default_factory=HeatConductivity)
    name: str = "DPA4 heat conductivity"


@dataclass
class BatchEpitaxyMaker(PropertyMaker[EpitaxyDocument]):
    """Wafers that relaxed crystals fit on; fields of `PropertyMaker`, settings of `Epitaxy`."""

    property: Epitaxy = field(default_factory=Epitaxy)
    name: str = "DPA4 epitaxy"


@dataclass
class BatchDefectsMaker(PropertyMaker[DefectsDocument]):
    """Neutral point defects of relaxed crystals; fields of `PropertyMaker`, settings of `Defects`."""

    property: Defects = field(default_factory=Defects)
    name: str = "DPA4 defects"


@dataclass
class BatchOrderingMaker(PropertyMaker[OrderingDocument]):
    """Lowest ordered cells of crystals with shared sites; fields of `PropertyMaker`, settings of `Ordering`."""

    property: Ordering = field(default_factory=Ordering)
    name: str = "DPA4 ordering"


@dataclass
class BatchAlloyMaker(PropertyMaker[AlloyDocument]):
    """Alloys of relaxed crystals in quasi-random cells; fields of `PropertyMaker`, settings of `Alloy`."""

    property: Alloy = field(default_factory=Alloy)
    name: str = "DPA4 alloy"
