"""Configuration of the network and the presets of the published sizes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ase.data import chemical_symbols

from dpa4_core.errors import DPA4Error
from dpa4_core.nn.feedforward import auto_width

UNIVERSAL_ELEMENTS = tuple(chemical_symbols[1:119])
"""Type map of the published checkpoints: all 118 elements, trained or not."""

MAX_LMAX = 10
"""Largest degree with a quadrature in the tables; published models go to 6."""


@dataclass(frozen=True)
class RadialConfig:
    """Radial functions. ``basis_envelope`` is the exponent on the basis, None for no envelope there."""

    basis: Literal["bessel", "gaussian"] = "bessel"
    n_radial: int = 16
    trainable: bool = True
    hidden: tuple[int, ...] = (0,)
    basis_envelope: int | None = 7
    message_envelope: int = 5


@dataclass(frozen=True)
class NormConfig:
    """Where norms stand: three on edge-born scalars and four around the branches of a block."""

    radial: bool = True
    film: bool = True
    focus: bool = True
    conv_pre: bool = False
    conv_post: bool = True
    ffn_pre: bool = True
    ffn_post: bool = False


@dataclass(frozen=True)
class BridgeConfig:
    """ZBL zone bridging: below ``inner`` Å the network is blind, beyond ``outer`` Å it sees everything."""

    inner: float = 0.5
    outer: float = 0.8


@dataclass(frozen=True)
class DPA4Config:
    """Everything that defines the function besides the weights.

    Attributes:
        elements: chemical symbols in the order of the species tables.
        cutoff: Å.
        channels: channels C per (l, m) coefficient.
        lmax: largest degree.
        n_blocks: interaction blocks.
        mixing_layers: SO(2) layers inside a convolution.
        mixer_rank: rank R of the degree mixer; 0: the edge condition multiplies the features instead.
        n_focus: focus streams F.
        message_node: product of message and node on the rotation grid.
        ffn_blocks: feed-forward branches per block.
        ffn_hidden: their hidden width; 0: 8C/3 rounded up to a multiple of 32.
        ffn_grid: functions on rotations (three frames) or on the sphere.
        ffn_product: "glu" or "branch", see `dpa4_core.nn.grid.FieldProduct`.
        readout: "none": a scalar gated unit; "mlp": a grid FFN whose scalar part is read.
        fitting_hidden: hidden widths of the fitting net; 0 entries: 8C/3 rounded up.
        charge_spin: default (charge, spin multiplicity) of a conditioned model, None if unconditioned.
        bridge: ZBL zone bridging, None without.
        version: descriptor version of the file format; from 1.1 on the radial features carry the envelope and the
            smooth degree has the floor 0.25.
        eps: regularisation of lengths, Å.
    """

    elements: tuple[str, ...] = UNIVERSAL_ELEMENTS
    cutoff: float = 6.0
    channels: int = 64
    lmax: int = 3
    n_blocks: int = 3
    mixing_layers: int = 4
    mixer_rank: int = 1
    n_focus: int = 1
    message_node: bool = True
    ffn_blocks: int = 1
    ffn_hidden: int = 0
    ffn_grid: Literal["rotations", "sphere"] = "rotations"
    ffn_product: Literal["glu", "branch"] = "branch"
    readout: Literal["none", "mlp"] = "mlp"
    fitting_hidden: tuple[int, ...] = (0,)
    radial: RadialConfig = field(default_factory=RadialConfig)
    norms: NormConfig = field(default_factory=NormConfig)
    charge_spin: tuple[int, int] | None = None
    bridge: BridgeConfig | None = None
    version: float = 1.1
    eps: float = 1e-7

    def __post_init__(self) -> None:
        unknown = [e for e in self.elements if e not in chemical_symbols[1:]]
        if unknown or len(set(self.elements)) != len(self.elements) or not self.elements:
            raise DPA4Error(f"elements must be distinct chemical symbols, got {unknown or self.elements}")
        for part in (self, self.radial):
            _check_choices(part)
        if self.charge_spin is not None and len(self.charge_spin) != 2:
            raise DPA4Error(f"charge_spin must be (charge, spin multiplicity), got {self.charge_spin}")
        if self.lmax > MAX_LMAX:
            raise DPA4Error(f"lmax must be at most {MAX_LMAX}, got {self.lmax}")
        positive = ("channels", "lmax", "n_blocks", "mixing_layers", "n_focus", "ffn_blocks")
        for name in positive:
            if getattr(self, name) < 1:
                raise DPA4Error(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.cutoff <= 0 or self.mixer_rank < 0:
            raise DPA4Error(
                f"cutoff must be positive and mixer_rank not negative, got {self.cutoff}, {self.mixer_rank}"
            )

    @property
    def atomic_numbers(self) -> tuple[int, ...]:
        return tuple(chemical_symbols.index(e) for e in self.elements)

    @property
    def hidden(self) -> int:
        """Hidden width of the grid FFNs."""
        return self.ffn_hidden or auto_width(self.channels)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> DPA4Config:
        """One of the published sizes by name (nano, mini, neo, air, plus, pro, pro-mptrj), with fields replaced.

        Raises:
            DPA4Error: unknown name or field.
        """
        key = name.lower()
        if key not in PRESETS:
            raise DPA4Error(f"unknown preset {name!r}; choose from {', '.join(PRESETS)}")
        settings = PRESETS[key] | changes
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(settings) - known):
            raise DPA4Error(f"unknown field {unknown[0]!r} of DPA4Config; choose from {', '.join(sorted(known))}")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the inverse of `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DPA4Config:
        """Build from plain types; unknown keys are errors, at every level."""
        parts: dict[str, type] = {"radial": RadialConfig, "norms": NormConfig, "bridge": BridgeConfig}
        data = dict(data)
        for name, kind in parts.items():
            if isinstance(data.get(name), dict):
                data[name] = _strict(kind, data[name])
        for name in ("elements", "fitting_hidden", "charge_spin"):
            if isinstance(data.get(name), list):
                data[name] = tuple(data[name])
        config: DPA4Config = _strict(cls, data)
        return config


def _check_choices(part: Any) -> None:
    """Fields with a fixed set of values hold one of them."""
    for name, hint in get_type_hints(type(part)).items():
        if get_origin(hint) is Literal and getattr(part, name) not in get_args(hint):
            raise DPA4Error(f"{name} must be one of {', '.join(get_args(hint))}, got {getattr(part, name)!r}")


def _strict(kind: type, data: dict[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(set(data) - known):
        raise DPA4Error(f"unknown key {unknown[0]!r} in {kind.__name__}; choose from {', '.join(sorted(known))}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return kind(**values)


PRESETS: dict[str, dict[str, Any]] = {
    "nano": {"channels": 32, "lmax": 1, "n_blocks": 1, "mixing_layers": 3, "mixer_rank": 0},
    "nano-0805": {
        "channels": 32,
        "lmax": 1,
        "n_blocks": 2,
        "mixing_layers": 3,
        "mixer_rank": 0,
        "norms": NormConfig(radial=False, film=False, focus=False),
    },
    "mini": {"channels": 32, "lmax": 2, "n_blocks": 2, "mixing_layers": 3},
    "neo": {"channels": 32, "lmax": 3, "n_blocks": 2, "mixing_layers": 3, "n_focus": 2},
    "air": {"channels": 64, "lmax": 3, "n_blocks": 3},
    "plus": {"channels": 64, "lmax": 4, "n_blocks": 4, "mixer_rank": 2},
    "pro": {"channels": 64, "lmax": 5, "n_blocks": 6, "mixer_rank": 2, "n_focus": 2, "readout": "none"},
    "pro-mptrj": {
        "channels": 64,
        "lmax": 5,
        "n_blocks": 6,
        "mixer_rank": 2,
        "n_focus": 2,
        "ffn_blocks": 2,
        "message_node": False,
        "ffn_grid": "sphere",
        "ffn_product": "glu",
        "readout": "none",
        "version": 1.0,
    },
}
"""The published sizes (architecture notes, section 18), by their differences from the defaults of `DPA4Config`."""
