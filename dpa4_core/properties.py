"""Predictions of a property model for many structures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpa4_core.data.graph import Graph
from dpa4_core.data.structures import MIN_DISTANCE_RATIO
from dpa4_core.loaded import place_and_precision
from dpa4_core.model.checkpoint import kind_of
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.property import FORMAT, PropertyModel, read_property_model
from dpa4_core.potential import Output, conditioning_of, species_in, species_table
from dpa4_core.predict import predict


@dataclass(frozen=True)
class PropertyPrediction:
    """The property of one structure, or why there is none.

    Attributes:
        value: in the unit of the property; NaN with an error.
        error: one sentence; None if the value is there.
    """

    value: float = np.nan
    error: str | None = None


class PropertyPredictor:
    """A property model ready for prediction, with its identity card.

    Attributes:
        model: the network; ``model.config`` says which property, in which unit.
        info: origin, licence, trained elements.
    """

    def __init__(self, model: PropertyModel, info: ModelInfo | None = None, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        config = model.backbone.config
        self.info = info or ModelInfo(elements=config.atomic_numbers)
        self.cutoff = config.cutoff
        self.elements = frozenset(self.info.elements or config.atomic_numbers)
        self._species_of = species_table(config).to(self.device)

    @torch.no_grad()
    def values(self, graph: Graph) -> Tensor:
        """The property of every system of ``graph``, [n_systems] float64."""
        graph = graph.to(self.device)
        species = species_in(self._species_of, graph, self.info.name)
        conditioning = conditioning_of(self.model.backbone.config, graph)
        edges = (graph.edge_vectors(), graph.src, graph.dst)
        out: Tensor = self.model(*edges, species, graph.system_idx, graph.n_systems, conditioning)
        return out

    def __repr__(self) -> str:
        return f"PropertyPredictor({self.model.config.name!r}, device={str(self.device)!r})"


class InPlaceOfEnergy:
    """A property where `predict` looks for the energy, with zero forces: checks, packing and retries are its own."""

    def __init__(self, predictor: PropertyPredictor) -> None:
        self.predictor = predictor
        self.cutoff, self.device, self.elements = predictor.cutoff, predictor.device, predictor.elements

    def compute(self, graph: Graph) -> Output:
        value = self.predictor.values(graph)
        per_atom, per_system = value.new_zeros(graph.n_atoms, 3), value.new_zeros(graph.n_systems, 3, 3)
        return Output(value, per_atom[:, 0], per_atom, per_system, per_system)


def is_property_model(path: str | Path) -> bool:
    """Whether a file holds a property model."""
    return kind_of(Path(path).expanduser()) == FORMAT


def load_property(path: str | Path, device: str | torch.device = "cpu", dtype: str = "float32") -> PropertyPredictor:
    """Load a property model; arguments and errors as in `dpa4_core.load`, but for names of the registry."""
    place, precision = place_and_precision(device, dtype)
    model, info = read_property_model(path, dtype=precision)
    return PropertyPredictor(model.eval().requires_grad_(False), info, place)


def predict_property(
    structures: Any,
    model: PropertyPredictor | str | Path,
    *,
    max_atoms_per_batch: int | None = None,
    min_distance_ratio: float = MIN_DISTANCE_RATIO,
    strict: bool = False,
    progress: bool = False,
) -> list[PropertyPrediction]:
    """The property of every structure; options and errors as in `dpa4_core.predict`.

    Args:
        structures: any mix of ase.Atoms and pymatgen Structure and Molecule, or a single one.
        model: a loaded property model or the path of one.
        max_atoms_per_batch: as in `predict`, as are the options that follow.

    Returns:
        One result per structure, in the order of ``structures``; a failed one has ``error`` set.
    """
    predictor = model if isinstance(model, PropertyPredictor) else load_property(model)
    predictions = predict(
        structures,
        InPlaceOfEnergy(predictor),
        max_atoms_per_batch=max_atoms_per_batch,
        min_distance_ratio=min_distance_ratio,
        strict=strict,
        progress=progress,
    )
    return [PropertyPrediction(prediction.energy, prediction.error) for prediction in predictions]
