"""Materials screening with the DPA4 interatomic potential: jobflow Makers, hulls, campaigns and reports.

    job = dpa4_flows.ConvexHullMaker(model="dpa4-neo").make(structures, "hull.sqlite")
    dpa4_flows.run_local(job, "hull")

Public names are imported when they are first used: `dpa4 --help` and a worker that needs one Maker do not wait for
the rest of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpa4_core.lazy import import_when_used
from dpa4_flows.moved import import_moved_modules

if TYPE_CHECKING:
    from dpa4_flows.campaigns.config import Campaign, load_campaign
    from dpa4_flows.campaigns.context import Screening
    from dpa4_flows.campaigns.flow import CampaignMaker
    from dpa4_flows.campaigns.kind import CampaignKind
    from dpa4_flows.campaigns.run import prepare_run
    from dpa4_flows.campaigns.stage import Stage
    from dpa4_flows.engines import run_local, submit_fireworks
    from dpa4_flows.makers.batch import BatchElasticMaker, BatchPhononMaker, BatchRelaxMaker, BatchStaticMaker
    from dpa4_flows.makers.corrections import CorrectionRefitMaker
    from dpa4_flows.makers.elastic_flow import DPA4ElasticMaker
    from dpa4_flows.makers.hull import (
        ChemicalPotentialMaker,
        ConvexHullMaker,
        ElectrochemicalWindowMaker,
        HullComparisonMaker,
        PourbaixMaker,
    )
    from dpa4_flows.makers.phonon_flow import DPA4PhononMaker
    from dpa4_flows.makers.property import PropertyMaker
    from dpa4_flows.makers.relax import DPA4MDMaker, DPA4RelaxMaker, DPA4StaticMaker
    from dpa4_flows.makers.stability import StabilityMaker
    from dpa4_flows.makers.train import EvaluateMaker, FineTuneMaker, TrainMaker
    from dpa4_flows.model_ref import ModelRef
    from dpa4_flows.reference.store import ReferenceStore
    from dpa4_flows.runs import open_run
    from dpa4_flows.store.jobs import complete_job_store
    from dpa4_flows.store.table import ResultsTable
    from dpa4_flows.verbs import (
        compute,
        elastic,
        equation_of_state,
        hull,
        phonons,
        relax,
        screen,
        stability,
        static,
        surface,
    )
    from dpa4_flows.version import __version__

__all__ = [
    "BatchElasticMaker",
    "BatchPhononMaker",
    "BatchRelaxMaker",
    "BatchStaticMaker",
    "Campaign",
    "CampaignKind",
    "CampaignMaker",
    "ChemicalPotentialMaker",
    "ConvexHullMaker",
    "CorrectionRefitMaker",
    "DPA4ElasticMaker",
    "DPA4MDMaker",
    "DPA4PhononMaker",
    "DPA4RelaxMaker",
    "DPA4StaticMaker",
    "ElectrochemicalWindowMaker",
    "EvaluateMaker",
    "FineTuneMaker",
    "HullComparisonMaker",
    "ModelRef",
    "PourbaixMaker",
    "PropertyMaker",
    "ReferenceStore",
    "ResultsTable",
    "Screening",
    "StabilityMaker",
    "Stage",
    "TrainMaker",
    "__version__",
    "complete_job_store",
    "compute",
    "elastic",
    "equation_of_state",
    "hull",
    "load_campaign",
    "open_run",
    "phonons",
    "prepare_run",
    "relax",
    "run_local",
    "screen",
    "stability",
    "static",
    "submit_fireworks",
    "surface",
]

_HOMES = {
    "campaigns.config": ("Campaign", "load_campaign"),
    "campaigns.context": ("Screening",),
    "campaigns.flow": ("CampaignMaker",),
    "campaigns.kind": ("CampaignKind",),
    "campaigns.run": ("prepare_run",),
    "campaigns.stage": ("Stage",),
    "engines": ("run_local", "submit_fireworks"),
    "makers.batch": ("BatchElasticMaker", "BatchPhononMaker", "BatchRelaxMaker", "BatchStaticMaker"),
    "makers.property": ("PropertyMaker",),
    "makers.corrections": ("CorrectionRefitMaker",),
    "makers.elastic_flow": ("DPA4ElasticMaker",),
    "makers.hull": (
        "ChemicalPotentialMaker",
        "ConvexHullMaker",
        "ElectrochemicalWindowMaker",
        "HullComparisonMaker",
        "PourbaixMaker",
    ),
    "makers.phonon_flow": ("DPA4PhononMaker",),
    "makers.relax": ("DPA4MDMaker", "DPA4RelaxMaker", "DPA4StaticMaker"),
    "makers.stability": ("StabilityMaker",),
    "makers.train": ("EvaluateMaker", "FineTuneMaker", "TrainMaker"),
    "model_ref": ("ModelRef",),
    "reference.store": ("ReferenceStore",),
    "runs": ("open_run",),
    "store.jobs": ("complete_job_store",),
    "store.table": ("ResultsTable",),
    "version": ("__version__",),
    "verbs": (
        "compute",
        "elastic",
        "equation_of_state",
        "hull",
        "phonons",
        "relax",
        "screen",
        "stability",
        "static",
        "surface",
    ),
}

import_when_used(__name__, _HOMES)
import_moved_modules()
