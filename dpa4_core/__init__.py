"""The DPA4 interatomic potential: model, checkpoints, prediction, relaxation, training. Knows nothing of workflows.

import dpa4_core as dpa4

potential = dpa4.load("dpa4-neo")
relaxed = dpa4.relax(structures, potential, fmax=0.02)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpa4_core.lazy import import_when_used

if TYPE_CHECKING:
    from dpa4_core.calculator import DPA4Calculator
    from dpa4_core.committee import Committee
    from dpa4_core.data.frames import Frame, read_frames
    from dpa4_core.data.readers import iter_structures, read_structures
    from dpa4_core.data.structures import StructureError
    from dpa4_core.errors import DPA4Error
    from dpa4_core.evaluate import Metrics, evaluate
    from dpa4_core.loaded import load, save
    from dpa4_core.md import MDResult, MDSettings, md
    from dpa4_core.model.checkpoint import convert
    from dpa4_core.model.committee import write_committee
    from dpa4_core.model.config import DPA4Config
    from dpa4_core.model.dpa4 import DPA4
    from dpa4_core.model.info import ModelInfo
    from dpa4_core.potential import Potential, PotentialLike
    from dpa4_core.predict import Prediction, predict
    from dpa4_core.properties import load_property, predict_property
    from dpa4_core.relax import (
        Band,
        BandOptions,
        BandResult,
        Dynamics,
        DynamicsResult,
        InFlight,
        Relax,
        RelaxOptions,
        RelaxResult,
        Static,
        band_path,
        relax,
        relax_stream,
    )
    from dpa4_core.stream import predict_stream
    from dpa4_core.train.config import TrainConfig
    from dpa4_core.train.trainer import TrainResult, train
    from dpa4_core.uncertainty import most_uncertain

__all__ = [
    "DPA4",
    "Band",
    "BandOptions",
    "BandResult",
    "Committee",
    "DPA4Calculator",
    "DPA4Config",
    "DPA4Error",
    "Dynamics",
    "DynamicsResult",
    "Frame",
    "InFlight",
    "MDResult",
    "MDSettings",
    "Metrics",
    "ModelInfo",
    "Potential",
    "PotentialLike",
    "Prediction",
    "Relax",
    "RelaxOptions",
    "RelaxResult",
    "Static",
    "StructureError",
    "TrainConfig",
    "TrainResult",
    "band_path",
    "convert",
    "evaluate",
    "iter_structures",
    "load",
    "load_property",
    "md",
    "most_uncertain",
    "predict",
    "predict_property",
    "predict_stream",
    "read_frames",
    "read_structures",
    "relax",
    "relax_stream",
    "save",
    "train",
    "write_committee",
]

import_when_used(
    __name__,
    {
        "calculator": ("DPA4Calculator",),
        "committee": ("Committee",),
        "data.frames": ("Frame", "read_frames"),
        "data.readers": ("iter_structures", "read_structures"),
        "data.structures": ("StructureError",),
        "errors": ("DPA4Error",),
        "evaluate": ("Metrics", "evaluate"),
        "md": ("MDResult", "MDSettings", "md"),
        "model.checkpoint": ("convert",),
        "model.committee": ("write_committee",),
        "model.config": ("DPA4Config",),
        "model.dpa4": ("DPA4",),
        "model.info": ("ModelInfo",),
        "loaded": ("load", "save"),
        "potential": ("Potential", "PotentialLike"),
        "predict": ("Prediction", "predict"),
        "properties": ("load_property", "predict_property"),
        "relax": (
            "Band",
            "BandOptions",
            "BandResult",
            "Dynamics",
            "DynamicsResult",
            "InFlight",
            "Relax",
            "RelaxOptions",
            "RelaxResult",
            "Static",
            "band_path",
            "relax",
            "relax_stream",
        ),
        "stream": ("predict_stream",),
        "train.config": ("TrainConfig",),
        "train.trainer": ("TrainResult", "train"),
        "uncertainty": ("most_uncertain",),
    },
)
