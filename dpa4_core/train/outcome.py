"""What a run achieved: errors of its model on the validation frames and on a sample of the training frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.frames import Frame
from dpa4_core.errors import DPA4Error
from dpa4_core.evaluate import Metrics, evaluate
from dpa4_core.files import replacing, write_json
from dpa4_core.loaded import load
from dpa4_core.potential import Potential
from dpa4_core.properties import load_property
from dpa4_core.train.checkpoint import CHECKPOINT, check_state, exists, latest_state
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.dataset import Dataset, prepare, with_split
from dpa4_core.train.forgetting import Forgetting, forgetting
from dpa4_core.train.log import read_log
from dpa4_core.train.standing import OTHERS, standing
from dpa4_core.train.store import STORE

_SAMPLE = 200  # training frames that are looked at: enough to see overfitting


@dataclass(frozen=True)
class Outcome:
    """Errors of the model of a run.

    Attributes:
        validation: on the frames that were not trained on; None without any.
        train: on a sample of the training frames.
        base: errors on the validation frames before the first step, by name; None for a new model.
        worse: what became worse than that, see `losses`.
        forgetting: of a fine-tune, what it does to other systems; None if its base is gone or knows none of them.
    """

    validation: Metrics | None
    train: Metrics
    base: dict[str, float] | None
    worse: list[dict[str, Any]]
    forgetting: Forgetting | None = None


def assess(folder: str | Path, *, device: str = "cpu", notify: Callable[[str], None] = lambda text: None) -> Outcome:
    """Evaluate ``model.dpa4`` of a run and write ``metrics.json`` and ``parity.npz`` into its folder.

    Args:
        folder: of the run.
        device: where to compute.
        notify: called with what is being done.

    Raises:
        DPA4Error: the folder holds no run that got as far as a model.
    """
    folder = Path(folder)
    config, data = _run_of(folder)
    read = load if config.property is None else load_property
    potential: Any = read(folder / "model.dpa4", device=device, dtype=config.run.dtype)
    random = np.random.default_rng(0)
    sample = np.sort(random.permutation(data.train)[:_SAMPLE])
    notify(f"errors on {len(sample)} training frames")
    train = evaluate(_frames(data, sample, config), potential)
    validation = None
    if len(data.validation):
        notify(f"errors on {len(data.validation)} validation frames")
        validation = evaluate(_frames(data, data.validation, config), potential, keep=True)
    validations = [record for record in read_log(folder / "log.jsonl") if record["kind"] == "validation"]
    base = _before(validations)
    worse, forgotten = [] if base is None else losses(validations), None
    if config.base is not None and isinstance(potential, Potential):
        notify("what other systems became")
        forgotten = _forgetting(config, data, potential, notify)
    outcome = Outcome(validation, train, base, worse, forgotten)
    if validation is not None and validation.parity is not None:
        arrays = {}
        for name, pair in (
            ("energy", validation.parity.energy),
            ("forces", validation.parity.force),
            ("stress", validation.parity.stress),
            ("property", validation.parity.property),
        ):
            arrays[f"{name}_reference"], arrays[f"{name}_predicted"] = pair
        with replacing(folder / "parity.npz") as part, part.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
    plain = {
        "model": "model.dpa4",
        "validation": None if validation is None else _plain(validation),
        "train": _plain(train),
        "base": outcome.base,
        "warnings": outcome.worse,
        "forgetting": None if outcome.forgetting is None else dataclasses.asdict(outcome.forgetting),
    }
    write_json(folder / "metrics.json", plain)
    return outcome


def losses(validations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Why a fine-tune did not get away from its base: what became worse where it came closest; one entry per quantity.

    Args:
        validations: records of the log, the first that of the base.

    Returns:
        ``code`` "worse_than_base", ``quantity``, ``step``, and mean absolute errors ``before`` and ``after`` (eV/atom,
        eV/Å, eV/Å³); nothing where the model is better than the base. Where only the change of other crystals was too
        large, ``code`` "forgets_too_much", ``quantity`` `OTHERS` and the smallest such change as ``after`` (eV/atom).
    """
    base, *later = validations
    if not later or any(record["improved"] for record in later):
        return []
    if forgetful := [record for record in later if record.get("worse") == [OTHERS]]:
        least = min(forgetful, key=lambda record: record["forgotten"])
        found = {"step": least["step"], "before": 0.0, "after": least["forgotten"]}
        return [{"code": "forgets_too_much", "quantity": OTHERS, **found}]
    closest = min(later, key=lambda record: (len(standing(record, base).worse), standing(record, base).score))
    return [
        {
            "code": "worse_than_base",
            "quantity": quantity,
            "step": closest["step"],
            "before": base[f"{quantity}_mae"],
            "after": closest[f"{quantity}_mae"],
        }
        for quantity in standing(closest, base).worse
    ]


def _forgetting(
    config: TrainConfig, data: Dataset, model: Potential, notify: Callable[[str], None]
) -> Forgetting | None:
    """Compare the model with its base, if that is still there."""
    assert config.base is not None
    try:
        base = load(config.base, device=model.device, dtype=config.run.dtype)
    except DPA4Error as error:
        notify(f"changes of other systems are left out: {error}")
        return None
    if not isinstance(base, Potential):
        return None
    return forgetting(base, model, data.trained)


def validation_frames(folder: str | Path) -> list[Frame]:
    """The frames of a run that its model was not trained on.

    Raises:
        DPA4Error: as for `assess`.
    """
    config, data = _run_of(Path(folder))
    return _frames(data, data.validation, config)


def _frames(data: Dataset, chosen: NDArray[np.int64], config: TrainConfig) -> list[Frame]:
    """Frames of a run, with the property that it trains among their properties."""
    frames = [data.store.frame(int(i)) for i in chosen]
    if config.property is None:
        return frames
    values = data.store.arrays["target"][chosen].tolist()
    name = config.property.name
    return [dataclasses.replace(frame, properties={name: value}) for frame, value in zip(frames, values, strict=True)]


def _run_of(folder: Path) -> tuple[TrainConfig, Dataset]:
    """Configuration and data of the run in ``folder``, which must have a model."""
    checkpoint = folder / CHECKPOINT
    if not ((folder / "model.dpa4").exists() and exists(checkpoint)):
        raise DPA4Error(f"{folder} holds no trained model yet; let the run reach its first validation")
    state = latest_state(checkpoint).state
    check_state(state, checkpoint)
    config = TrainConfig.from_dict(state.values["config"], where=str(checkpoint))
    data = prepare(config, folder / STORE, state.values["cutoff"], known_key=state.values["data"])
    return config, with_split(data, state.tensors["data/validation"].numpy())


def _before(validations: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """The validation at step 0, which only a fine-tuned model has."""
    names = ("energy_mae", "energy_rmse", "force_mae", "force_rmse", "force_norm_mae", "stress_mae", "stress_rmse")
    if not validations or validations[0]["step"] != 0:
        return None
    return {name: validations[0][name] for name in names if validations[0].get(name) is not None}


def _plain(metrics: Metrics) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(metrics).items() if key != "parity"}
