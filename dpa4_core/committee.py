"""Several models as one potential: their mean, and what each of them says.

Energy and forces of a committee are the means over its members, so its forces are still the gradient of its energy. How
far the members are apart says where they were not trained; see `dpa4_core.uncertainty`.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import Any

import torch

from dpa4_core.data.graph import Graph
from dpa4_core.digests import digest
from dpa4_core.errors import DPA4Error
from dpa4_core.model.committee import LowRank, Weights, common_card
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import Members, Output, Potential, PotentialLike
from dpa4_core.shares import Shareable
from dpa4_core.strict import build
from dpa4_core.uncertainty import Stretch


class Committee(Shareable[Output]):
    """Potentials that share a graph of neighbours; a `PotentialLike` that says what each of them says.

    Attributes:
        members: the potentials.
        info: identity card of the whole; None where a member has none.
        stretch: of the members away from their mean.

    Raises:
        DPA4Error: fewer than two, or members that cannot share a graph or have no common energies.
    """

    def __init__(
        self, members: Sequence[PotentialLike], info: ModelInfo | None = None, stretch: Stretch | None = None
    ) -> None:
        if len(members) < 2:
            raise DPA4Error(f"a committee has two or more members, not {len(members)}")
        if len({(member.cutoff, member.device) for member in members}) > 1:
            raise DPA4Error("the members of a committee have one cutoff and one device")
        self.members = tuple(members)
        self.cutoff, self.device = members[0].cutoff, members[0].device
        self.elements = frozenset.intersection(*(member.elements for member in members))
        self.shared = all(getattr(member, "shared", False) for member in members)
        self.info, self.stretch = info or _card(members), stretch or Stretch()
        self._lock = threading.Lock()  # members may share a network

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"_lock": threading.Lock()}

    def compute_alone(self, graph: Graph) -> Output:
        """Means of energies, forces, virial and stress, and those of each member."""
        with self._lock:
            outputs = [member.compute(graph) for member in self.members]
        each = {
            name: torch.stack([getattr(output, name) for output in outputs], dim=1)
            for name in ("energy", "atom_energies", "forces", "virial", "stress")
        }
        mean = {name: values.mean(1) for name, values in each.items()}

        def apart(name: str, factor: float) -> torch.Tensor:
            return each[name] if factor == 1.0 else torch.lerp(mean[name].unsqueeze(1), each[name], factor)

        stretch = self.stretch
        members = Members(
            apart("energy", stretch.energy), apart("forces", stretch.force), apart("stress", stretch.stress)
        )
        return Output(**mean, members=members)

    def __repr__(self) -> str:
        return f"Committee of {len(self.members)}, device={str(self.device)!r}"


class NetworkMember:
    """A member with weights of its own for a network that all members compute with, one after the other.

    So a committee has one compiled network, and of members that are adapters only these are in memory.

    Args:
        potential: the network.
        weights: those that are not the same in all members, on its device.
    """

    def __init__(self, potential: Potential, weights: Weights) -> None:
        self.potential, self.weights = potential, weights
        self.cutoff, self.device, self.elements = potential.cutoff, potential.device, potential.elements
        self.shared = potential.shared
        self._slots = potential.model.state_dict()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_slots"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"_slots": state["potential"].model.state_dict()}  # of the network as it is here

    @torch.no_grad()
    def compute(self, graph: Graph) -> Output:
        """As the network with the weights of this member."""
        for name, value in self.weights.items():
            self._slots[name].copy_(value.whole() if isinstance(value, LowRank) else value)
        return self.potential.compute_alone(graph.to(self.device))


def committee_of(
    model: DPA4, weights: Sequence[Weights], info: ModelInfo, device: torch.device, *, compile: bool | str
) -> Committee:
    """The committee of a file: its network, the weights of the members and its card."""
    potential = Potential(model.eval().requires_grad_(False), info, device, compile=compile, fixed=True)
    bases: dict[str, torch.Tensor] = {}  # one for all members

    def placed(name: str, value: torch.Tensor | LowRank) -> torch.Tensor | LowRank:
        if isinstance(value, LowRank):
            base = bases.setdefault(name, value.base.to(device))
            return LowRank(base, value.down.to(device), value.up.to(device))
        return value.to(device)

    members = [NetworkMember(potential, {name: placed(name, value) for name, value in own.items()}) for own in weights]
    stretch = build(Stretch, info.training.get("stretch", {}), f"the card of {info.name}, stretch")
    return Committee(members, potential.info, stretch)


def _card(members: Sequence[PotentialLike]) -> ModelInfo | None:
    infos = [getattr(member, "info", None) for member in members]
    if not all(isinstance(info, ModelInfo) for info in infos):
        return None
    known = [info for info in infos if info is not None]
    sha256 = digest(*(info.sha256 for info in known)) if all(info.sha256 for info in known) else ""
    return dataclasses.replace(common_card(known, "committee"), sha256=sha256)
