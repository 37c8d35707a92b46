"""The model file of a run: the weights of the network under training, ready for prediction."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from dpa4_core.model.checkpoint import write_model
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.lora import has_adapters, merge_adapters
from dpa4_core.model.property import PropertyModel, write_property_model


def write_trained(module: nn.Module, info: ModelInfo, path: Path) -> None:
    """Write a copy of ``module`` with frozen weights and adapters folded in."""
    module = copy.deepcopy(module).cpu().requires_grad_(False)
    inner: Any = module.backbone if isinstance(module, PropertyModel) else module
    inner.block_precision = None
    if has_adapters(module):
        merge_adapters(module)
    if isinstance(module, PropertyModel):
        write_property_model(module, info, path)
    else:
        write_model(inner, info, path)
