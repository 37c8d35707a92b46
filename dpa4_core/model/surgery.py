"""Changes to a trained model before it is trained further: more elements, fixed parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ase.data import atomic_numbers, chemical_symbols

from dpa4_core.errors import DPA4Error
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.lora import has_adapters

_GROUPS: dict[str, tuple[str, ...]] = {
    "species": ("species.", "film.species."),
    "charge_spin": ("charge_spin.",),
    "radial": ("basis.", "radial."),
    "film": ("film.",),
    "blocks": ("blocks.",),
    "readout": ("readout.",),
    "fitting": ("fitting.",),
}
"""Parameter groups by the beginnings of the names of their parameters."""
_TABLES = ("species.table", "film.species.table")
_BIASES = ("fit_bias", "out_bias", "out_std")


def extend_elements(
    model: DPA4, info: ModelInfo, symbols: Sequence[str], like: Mapping[str, str] | None = None
) -> tuple[DPA4, ModelInfo]:
    """A new model whose type map ends in those of ``symbols`` that it lacks; all else is as in ``model``.

    The row of a new element is random, as in a new model, with an offset of zero. ``like`` names for an element the one
    whose row and offset it starts from, ``{"Tc": "Mn"}``; this also serves elements that are in the type map but were
    never trained. The identity card still lists the trained elements only.

    Raises:
        DPA4Error: an unknown symbol, a trained element to be overwritten, a source that was not trained, or adapters.
    """
    if has_adapters(model):
        raise DPA4Error("elements cannot be added under adapters; call merge_adapters first")
    old, like = model.config.elements, dict(like or {})
    trained = {chemical_symbols[number] for number in info.elements} or set(old)
    if unknown := [symbol for symbol in (*symbols, *like) if symbol not in chemical_symbols[1:]]:
        raise DPA4Error(f"{unknown[0]!r} is not a chemical symbol")
    added = [symbol for symbol in dict.fromkeys((*symbols, *like)) if symbol not in old]
    for target, source in like.items():
        if target in trained:
            raise DPA4Error(f"{target} was trained; its row is not replaced by that of {source}")
        if source not in trained or source not in old:
            raise DPA4Error(f"{target} cannot start from {source}, which {info.name} was not trained on")

    config = dataclasses.replace(model.config, elements=(*old, *added))
    device = model.out_bias.device
    extended = DPA4(config, model.dtype).to(device).train(model.training)
    extended.block_precision = model.block_precision
    new, state = extended.state_dict(), model.state_dict()
    copies = [(config.elements.index(target), old.index(source)) for target, source in like.items()]
    for name, value in state.items():
        if name not in (*_TABLES, *_BIASES):
            new[name].copy_(value)
            continue
        table = name in _TABLES  # these end in a row of zeros, the biases are one number per species
        rows, old_rows = (new[name][:-1], value[:-1]) if table else (new[name].view(-1), value.view(-1))
        rows[: len(old)] = old_rows
        for target_row, source_row in copies:
            rows[target_row] = rows[source_row]
    for name, parameter in model.named_parameters():
        extended.get_parameter(name).requires_grad_(parameter.requires_grad)
    known = tuple(sorted(atomic_numbers[symbol] for symbol in trained))
    n_parameters = sum(parameter.numel() for parameter in extended.parameters())
    return extended, dataclasses.replace(info, sha256="", elements=known, n_parameters=n_parameters)


def freeze(model: DPA4, groups: Sequence[str]) -> list[str]:
    """Keep the parameters of ``groups`` from being trained; returns their names.

    Args:
        groups: "species", "charge_spin", "radial", "film", "blocks", "readout", "fitting", a single "blocks.0", or
            "backbone", which is everything but read-out and fitting net.

    Raises:
        DPA4Error: an unknown group; the sentence lists them.
    """
    choices = _GROUPS | {f"blocks.{i}": (f"blocks.{i}.",) for i in range(len(model.blocks))}
    choices["backbone"] = tuple(
        prefix for group, prefixes in _GROUPS.items() if group not in ("readout", "fitting") for prefix in prefixes
    )
    if unknown := [group for group in groups if group not in choices]:
        raise DPA4Error(f"unknown parameter group {unknown[0]!r}; choose from {', '.join(choices)}")
    prefixes = tuple(prefix for group in groups for prefix in choices[group])
    frozen = [name for name, _ in model.named_parameters() if name.startswith(prefixes)]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return frozen
