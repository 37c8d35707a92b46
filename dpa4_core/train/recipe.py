"""How fast and how long is trained where nobody says so: numbers found on real weights and data (docs/training.md)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """What a configuration leaves open.

    Attributes:
        lr: learning rate of the matrices; from a base an upper limit, which a trial step lowers, see
            `dpa4_core.train.probe`.
        vector_rate: learning rate of vectors and scalars over that of the matrices.
        row_rate: the same of the rows of the elements.
        frames: of a batch, at least, in the median; one alone has no say in what is common to all.
        epochs: passes over the frames.
        min_steps: of the run, however few the frames are.
    """

    lr: float
    vector_rate: float
    row_rate: float
    frames: int
    epochs: float
    min_steps: int


NEW = Recipe(
    lr=5e-4,  # published for networks of this size (arXiv 2606.02419)
    vector_rate=1.0,
    row_rate=1.0,
    frames=1,  # small data sets need many small steps
    epochs=100.0,
    min_steps=1,
)

ALL_WEIGHTS = Recipe(
    # a step at 1e-4 from DPA4-Neo moves energies by 1 to 5 meV/atom and forces by 0.6 to 13 meV/Å through the matrices,
    # as much as there is to be gained; in 100 steps 3e-5, 5e-5 and 1e-4 end at the same errors, and the lower the rate,
    # the less the energies sway on the way there
    lr=5e-5,
    # the 7,086 vectors and scalars move energies by 13 meV/atom at 1e-4, all of them together: more than the million
    # numbers in matrices, and nothing that the data ask for
    vector_rate=0.1,
    # the rows of an element in the two species tables, 40 numbers, change nothing that does not hold the element: what
    # they take over, the matrices of all elements need not learn, see docs/training.md
    row_rate=10.0,
    frames=4,
    epochs=20.0,
    min_steps=300,  # 60 frames of 16 atoms come down by a factor of two in 100 steps, and ten minutes allow some 500
)

ADAPTERS = Recipe(
    # the products of two thin factors move energies and forces by 0.6 of what whole matrices do; 300 steps at 1e-4 end
    # no lower than at this rate, and change other systems more
    lr=5e-5,
    vector_rate=0.05,
    row_rate=10.0,
    frames=4,
    epochs=20.0,
    min_steps=300,
)

PROPERTY_ON_BASE = Recipe(lr=1e-4, vector_rate=1.0, row_rate=1.0, frames=1, epochs=20.0, min_steps=1)  # the head is new
PROPERTY_ON_ADAPTERS = Recipe(lr=5e-4, vector_rate=1.0, row_rate=1.0, frames=1, epochs=20.0, min_steps=1)


def recipe(*, base: bool, adapters: bool, head: bool) -> Recipe:
    """That of a run.

    Args:
        base: it starts from weights.
        adapters: only adapters on them are trained.
        head: it is a property that is trained, not energies.
    """
    if not base:
        return NEW
    if head:
        return PROPERTY_ON_ADAPTERS if adapters else PROPERTY_ON_BASE
    return ADAPTERS if adapters else ALL_WEIGHTS
