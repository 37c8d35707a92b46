"""How far the members of a committee are apart.

Standard deviations are those of a sample of members, with n − 1 in the denominator. They are small where all members
were trained on the same, and large where none was; what they are worth in numbers only a comparison with known energies
and forces tells (`dpa4_core.calibration`). Members that begin from one base are wrong together, so that a committee
which was compared with such frames stretches its members away from their mean until deviations are as large as errors
(F. Musil et al., J. Chem. Theory Comput. 15, 906 (2019)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dpa4_core.strict import Within

Array = NDArray[np.float64]
Factor = Annotated[float, Within(1.0, 1e9)]

MIN_COUNT = 3
"""Values without which a comparison says nothing."""


@dataclass(frozen=True)
class Stretch:
    """Factors on the distances of members from their mean: on energies, forces and stresses; 1 leaves them."""

    energy: Factor = 1.0
    force: Factor = 1.0
    stress: Factor = 1.0

    @classmethod
    def of(cls, compared: Mapping[str, Mapping[str, float]]) -> Stretch:
        """That makes deviations as large as errors on some frames, from `dpa4_core.calibration`; never smaller."""
        known = {name: values for name, values in compared.items() if values["n"] >= MIN_COUNT}
        return cls(**{name: max(1.0, values.get("ratio", 1.0)) for name, values in known.items()})


@dataclass(frozen=True, kw_only=True)
class Uncertain:
    """Base of results that a committee may have given; everything is None for a single model.

    Attributes:
        member_energies: [n_members] eV.
        forces_std: [n, 3] eV/Å, standard deviation of each component.
        stress_std: [3, 3] eV/Å³; None without periodicity.
    """

    member_energies: Array | None = None
    forces_std: Array | None = None
    stress_std: Array | None = None

    @property
    def energy_std(self) -> float | None:
        """Standard deviation of the energy, eV."""
        return None if self.member_energies is None else float(np.std(self.member_energies, ddof=1))

    @property
    def worst_force_std(self) -> float | None:
        """Largest deviation of the force on any atom, eV/Å: root of the mean squared distance from the mean force."""
        if self.forces_std is None:
            return None
        return float(np.linalg.norm(self.forces_std, axis=1).max(initial=0.0))


def spread(energies: Array, forces: Array, stresses: Array, *, periodic: bool) -> dict[str, Any]:
    """Fields of `Uncertain` from what each member says about one structure; none without members.

    Args:
        energies: [n_members] eV.
        forces: [n, n_members, 3] eV/Å.
        stresses: [n_members, 3, 3] eV/Å³.
        periodic: whether there is a stress.
    """
    if not len(energies):
        return {}
    return {
        "member_energies": energies,
        "forces_std": forces.std(axis=1, ddof=1),
        "stress_std": stresses.std(axis=0, ddof=1) if periodic else None,
    }


class _HasForceStd(Protocol):
    @property
    def worst_force_std(self) -> float | None: ...


def most_uncertain(results: Sequence[_HasForceStd], n: int | None = None) -> list[int]:
    """Positions of the results by their largest force deviation, the largest first: what to label next.

    Args:
        results: of `predict` or `relax` with a committee; those without a deviation are left out.
        n: how many at most.
    """
    known = [(-result.worst_force_std, i) for i, result in enumerate(results) if result.worst_force_std is not None]
    return [i for _, i in sorted(known)[:n]]
