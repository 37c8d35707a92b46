"""What is known about a set of weights besides the numbers: origin, licence, level of theory, elements."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any

from dpa4_core.strict import AtMost, Within


@dataclass(frozen=True)
class ModelInfo:
    """Identity card of a model; stored in our files and shown by ``dpa4 info``.

    Attributes:
        name: registry name, or stem of the file.
        sha256: checksum of the file it was loaded from; empty for a model that was never stored.
        level_of_theory: functional and +U policy of the training data, free text.
        corrections: name of the energy-correction scheme that fits this level of theory, or "" if unknown.
        trained_for: what the training set covers.
        licence: licence of the weights.
        source: where the file came from.
        elements: atomic numbers seen in training.
        n_parameters: trainable parameters.
        training: facts about the training run as found in the checkpoint (steps, learning rate, ...).
        zeros: elements whose energy zero fine-tuning shifted, each with what tells the data that it was shifted to;
            energies of elements that have not the same one are not comparable.
        undecided: elements that the data of the model hold in fixed proportions to others only, so that their energy
            zeros are not known one by one.
        dispersion: name of what is added for dispersion, "" for none; a stored model has none.
    """

    name: str = "unnamed"
    sha256: str = ""
    level_of_theory: str = "unknown"
    corrections: str = ""
    trained_for: str = "unknown"
    licence: str = "unknown"
    source: str = ""
    elements: Annotated[tuple[Annotated[int, Within(1, 118)], ...], AtMost(118)] = ()
    n_parameters: Annotated[int, Within(0, 1e12)] = 0
    training: dict[str, Any] = field(default_factory=dict)
    zeros: dict[str, str] = field(default_factory=dict)
    undecided: tuple[str, ...] = ()
    dispersion: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; without the dispersion where there is none, as files of earlier versions have it."""
        fields = dataclasses.asdict(self)
        return fields if self.dispersion else {name: fields[name] for name in fields if name != "dispersion"}
