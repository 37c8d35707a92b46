"""A small base model and members that are adapters on it, each in a file of its own."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import torch

from dpa4_core.model.checkpoint import write_model
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.lora import add_adapters, merge_adapters

CONFIG = DPA4Config.preset("neo", elements=("O", "Mg"), channels=16, lmax=1, n_blocks=1, cutoff=3.6)


def member_files(folder: Path, info: ModelInfo, n_members: int) -> list[Path]:
    """The base first, then members that are adapters of rank 2 on it."""
    torch.manual_seed(0)
    base = DPA4(CONFIG)
    files = [write_model(base, info, folder / "base.dpa4")]
    for seed in range(n_members):
        member = copy.deepcopy(base)
        add_adapters(member, 2, 2.0, seed)
        with torch.no_grad():
            for name, parameter in member.named_parameters():
                if "adapter" in name or name.endswith(".bias"):
                    parameter.add_(0.1 * torch.randn_like(parameter))
        merge_adapters(member)
        files.append(write_model(member, dataclasses.replace(info, name=f"member {seed}"), folder / f"{seed}.dpa4"))
    return files
