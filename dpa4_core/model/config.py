"""Configuration of the network and the presets of the published sizes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ase.data import chemical_symbols

from dpa4_core.errors import DPA4Error
from dpa4_core.nn.feedforward import auto_width
from dpa4_core.strict import AtMost, Within, build, check_fields

UNIVERSAL_ELEMENTS = tuple(chemical_symbols[1:119])
"""Type map of the published checkpoints: all 118 elements, trained or not."""

MAX_LMAX = 10
"""Largest degree with a quadrature in the tables; published models go to 6."""

NEWEST_VERSION = 1.2
"""Of the descriptor, as far as it is known here."""

_MAX_TABLE = 100_000_000
"""Numbers in the tables of all blocks together, 0.4 GB in float32; DPA4-Pro has a million."""

# ten times and more what published models have; a file that asks for more is not a model
Width = Annotated[int, Within(0, 16_384)]
Widths = Annotated[tuple[Width, ...], AtMost(16)]


@dataclass(frozen=True)
class RadialConfig:
    """Radial functions. ``basis_envelope`` is the exponent on the basis, None for no envelope there."""

    basis: Literal["bessel", "gaussian"] = "bessel"
    n_radial: Annotated[int, Within(1, 1024)] = 16
    trainable: bool = True
    hidden: Widths = (0,)
    basis_envelope: Annotated[int, Within(1, 32)] | None = 7
    message_envelope: Annotated[int, Within(1, 32)] = 5

    def __post_init__(self) -> None:
        check_fields(self)
        if self.basis == "gaussian" and self.n_radial < 2:
            raise DPA4Error("n_radial must be at least 2 with Gaussians, got 1")


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

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class BridgeConfig:
    """ZBL zone bridging: below ``inner`` Å the network is blind, beyond ``outer`` Å it sees everything."""

    inner: Annotated[float, Within(0.0, 20.0)] = 0.5
    outer: Annotated[float, Within(0.0, 20.0)] = 0.8

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.inner < self.outer:
            raise DPA4Error(f"outer must exceed inner, got {self.outer} and {self.inner} Å")


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

    elements: Annotated[tuple[str, ...], AtMost(len(UNIVERSAL_ELEMENTS))] = UNIVERSAL_ELEMENTS
    cutoff: Annotated[float, Within(0.1, 20.0)] = 6.0
    channels: Annotated[int, Within(1, 2048)] = 64
    lmax: Annotated[int, Within(1, MAX_LMAX)] = 3
    n_blocks: Annotated[int, Within(1, 64)] = 3
    mixing_layers: Annotated[int, Within(1, 32)] = 4
    mixer_rank: Annotated[int, Within(0, 16)] = 1
    n_focus: Annotated[int, Within(1, 32)] = 1
    message_node: bool = True
    ffn_blocks: Annotated[int, Within(1, 16)] = 1
    ffn_hidden: Width = 0
    ffn_grid: Literal["rotations", "sphere"] = "rotations"
    ffn_product: Literal["glu", "branch"] = "branch"
    readout: Literal["none", "mlp"] = "mlp"
    fitting_hidden: Widths = (0,)
    radial: RadialConfig = field(default_factory=RadialConfig)
    norms: NormConfig = field(default_factory=NormConfig)
    charge_spin: tuple[Annotated[int, Within(-100, 99)], Annotated[int, Within(0, 99)]] | None = None
    bridge: BridgeConfig | None = None
    version: Annotated[float, Within(1.0, NEWEST_VERSION)] = 1.1
    eps: Annotated[float, Within(0.0, 0.1)] = 1e-7

    def __post_init__(self) -> None:
        check_fields(self)
        unknown = [e for e in self.elements if e not in chemical_symbols[1:]]
        if unknown or len(set(self.elements)) != len(self.elements) or not self.elements:
            raise DPA4Error(f"elements must be distinct chemical symbols, got {unknown or self.elements}")
        n_l, size = self.lmax + 1, (self.lmax + 1) ** 2
        mixer = 2 * self.mixer_rank**2 * (2 * self.lmax**2 + 2 * self.lmax + 1) * (2 * self.lmax + 1) * size
        if self.n_blocks * (mixer + 3 * size * (3 * n_l - 2) * size) > _MAX_TABLE:
            raise DPA4Error(
                f"{self.n_blocks} blocks of lmax {self.lmax} with mixer_rank {self.mixer_rank} need tables of more "
                "than 0.4 GB; lower one of them"
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
        """Build from plain types; unknown keys, wrong types and numbers out of bounds are errors, at every level."""
        return build(cls, data, "model configuration")


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
