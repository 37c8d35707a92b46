"""Another quantity than the energy on the same descriptor: one number per system, with files of its own."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from dpa4_core.errors import DPA4Error
from dpa4_core.model.checkpoint import fill, kind_of, read_container, stored_dtype, stored_info, write_container
from dpa4_core.model.config import DPA4Config, Widths
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.shapes import check_tensors, expected_shapes
from dpa4_core.model.torch_file import what_it_is
from dpa4_core.nn.feedforward import FittingNet, auto_width
from dpa4_core.nn.segment import segment_sum
from dpa4_core.strict import build, check_fields

FORMAT = "dpa4-property"


@dataclass(frozen=True)
class PropertyConfig:
    """What is predicted and how the head is built.

    Attributes:
        name: of the property, "band_gap" say.
        unit: of its values, free text.
        kind: "intensive" properties are means over the atoms, "extensive" ones sums.
        hidden: widths of the head; 0 is 8/3 of the channels.
        mean: of the property over the training set, per atom if extensive, in ``unit``.
        scale: its standard deviation there, per atom if extensive, in ``unit``.
    """

    name: str
    unit: str = ""
    kind: Literal["intensive", "extensive"] = "intensive"
    hidden: Widths = (0,)
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not (math.isfinite(self.mean) and math.isfinite(self.scale) and self.scale > 0):
            raise DPA4Error(f"mean must be finite and scale positive, got {self.mean} and {self.scale}")


class PropertyModel(nn.Module):
    """y_i = mean + scale·head(descriptor_i), averaged or summed over the atoms of a system.

    Args:
        backbone: a model, trained on energies as a rule; its fitting net is kept but not used, so not trained.
        head: what is predicted.
    """

    def __init__(self, backbone: DPA4, head: PropertyConfig) -> None:
        super().__init__()
        self.config, self.dtype = head, backbone.dtype
        self.backbone = backbone
        self.backbone.fitting.requires_grad_(False)
        channels = backbone.config.channels
        widths = tuple(width or auto_width(channels) for width in head.hidden)
        self.head = FittingNet(channels, widths, backbone.dtype).to(backbone.out_bias.device)

    def forward(
        self,
        edge_vec: Tensor,
        src: Tensor,
        dst: Tensor,
        species: Tensor,
        system_idx: Tensor,
        n_systems: int,
        conditioning: Tensor | None = None,
        atom_mask: Tensor | None = None,
    ) -> Tensor:
        """The property of every system [n_systems] float64, in its unit; 0 for one without atoms.

        Args:
            edge_vec, src, dst, species, conditioning: as in `DPA4.descriptor`.
            system_idx: [n_atoms] int64, the system of each atom.
            n_systems: number of systems.
            atom_mask: [n_atoms] bool, False for atoms that only fill a batch up.
        """
        per_atom = self.head(self.backbone.descriptor(edge_vec, src, dst, species, conditioning))
        values = self.config.mean + self.config.scale * per_atom.double()
        counted = torch.ones_like(values) if atom_mask is None else atom_mask.to(values.dtype)
        total = segment_sum(values * counted, system_idx, n_systems)
        if self.config.kind == "extensive":
            return total
        return total / segment_sum(counted, system_idx, n_systems).clamp(min=1.0)


def write_property_model(model: PropertyModel, info: ModelInfo, path: str | Path) -> Path:
    """Write a file that `read_property_model` reads; it appears under its name only when complete."""
    content = {
        "config": model.backbone.config.to_dict(),
        "head": dataclasses.asdict(model.config),
        "info": info.to_dict(),
    }
    return write_container(Path(path), FORMAT, model, content)


def is_property_file(path: str | Path) -> bool:
    """Whether ``path`` is a file of `write_property_model`, by its header; False for anything else or nothing."""
    return kind_of(Path(path)) == FORMAT


def read_property_model(path: str | Path, dtype: torch.dtype | None = torch.float32) -> tuple[PropertyModel, ModelInfo]:
    """Model and identity card from a file of `write_property_model`.

    Args:
        path: the file.
        dtype: precision of the model; None keeps that of the stored weights.

    Raises:
        DPA4Error: missing, damaged, or a file of something else; one sentence that names it.
    """
    path = Path(path)
    if not path.is_file():
        raise DPA4Error(f"model file {path} does not exist; give the path of a property model")
    with path.open("rb") as handle:
        start = handle.read(9)
    if start[:2] == b"PK":
        raise DPA4Error(f"model file {path} is a torch checkpoint, not a property model; use dpa4_core.load")
    if start[8:9] != b"{":
        raise DPA4Error(f"model file {path} is {what_it_is(path)}")
    content, tensors = read_container(path, FORMAT, ("config", "head", "info"))
    config = build(DPA4Config, content["config"], f"model file {path}")
    head = build(PropertyConfig, content["head"], f"model file {path}, head")
    check_tensors(tensors, expected_shapes(config, lambda backbone: PropertyModel(backbone, head)), path)
    backbone = DPA4(config, dtype or stored_dtype(tensors, "backbone."))
    model = PropertyModel(backbone, head)
    fill(model, tensors)
    return model, stored_info(content, path)
