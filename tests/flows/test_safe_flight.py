"""What breaks while one structure is checked or computed costs the others nothing."""

from __future__ import annotations

import pytest
from ase import Atoms
from ase.build import bulk

from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Static
from dpa4_core.testing import MorsePotential
from dpa4_flows.compute.flight import SafeFlight


class Strange(Atoms):
    """Raises when it is read."""

    problem: Exception = ArithmeticError("a structure like no other")

    def get_positions(self, *_: object, **__: object) -> None:  # type: ignore[override]
        raise self.problem

    positions = property(get_positions)  # type: ignore[assignment]


def strange() -> Atoms:
    atoms = bulk("Cu")
    atoms.__class__ = Strange
    return atoms


def test_an_unexpected_error_in_the_check_of_one_structure_is_its_own() -> None:
    flight = SafeFlight(MorsePotential())
    flight.put([("one", Static(bulk("Cu"))), ("strange", Static(strange())), ("other", Static(bulk("Al")))])
    results = {}
    while flight:
        results |= dict(flight.step())
    assert results["one"].error is None and results["other"].error is None
    assert results["strange"].error_code == "crashed" and "like no other" in results["strange"].error


@pytest.mark.parametrize("problem", [DPA4Error("no such model"), OSError("no space left")])
def test_what_every_structure_would_meet_ends_the_flight(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Strange, "problem", problem)
    with pytest.raises(type(problem)):
        SafeFlight(MorsePotential()).put([("strange", Static(strange()))])
