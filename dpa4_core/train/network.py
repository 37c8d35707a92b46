"""The network of a run before its first step: new or from weights, with offsets, new elements, adapters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray
from torch import nn

from dpa4_core.batches import Prediction, predict_batches
from dpa4_core.committee import Committee
from dpa4_core.data.batching import default_budget, pack
from dpa4_core.data.frame import Frame
from dpa4_core.data.graph import UNSPECIFIED_CHARGE_SPIN
from dpa4_core.data.neighbours import build_graph
from dpa4_core.errors import DPA4Error
from dpa4_core.loaded import load
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.lora import add_adapters
from dpa4_core.model.offsets import OffsetFit, OffsetResult, set_offsets, shift_offsets
from dpa4_core.model.property import PropertyModel
from dpa4_core.model.surgery import extend_elements, freeze
from dpa4_core.potential import DTYPES, Potential, repulsion_energy
from dpa4_core.train.base_check import compare
from dpa4_core.train.card import card
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.dataset import Dataset
from dpa4_core.train.settings_check import compare_settings
from dpa4_core.train.store import FrameStore

_SAMPLE_ATOMS = {"cpu": 5000, "cuda": 50_000}
"""Atoms in the frames that a base model is evaluated on to shift its offsets: half a minute on a CPU."""


_INDEPENDENT = 1e-8  # squares of shares of elements; smaller ones are rounding
_SAME_ATOM = 1e-3  # eV


_COMPARED_ATOMS = 500
"""Atoms in the frames whose labels are compared with a base model that keeps its offsets."""


@dataclass
class Network:
    """What is trained.

    Attributes:
        module: a `DPA4`, or a `PropertyModel` around one.
        info: identity card of the model to be.
        notes: what was done to it, for the log.
        shift: eV added to the offset of each species of a base model, empty without.
        doubts: what looks wrong in the labels beside what the base model says; see `dpa4_core.train.base_check`.
    """

    module: nn.Module
    info: ModelInfo
    notes: dict[str, Any] = field(default_factory=dict)
    shift: list[float] = field(default_factory=list)
    doubts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def backbone(self) -> DPA4:
        """The DPA4 in it."""
        return self.module.backbone if isinstance(self.module, PropertyModel) else self.module  # type: ignore[return-value]


def cutoff_of(config: TrainConfig) -> float:
    """Cutoff in Å of the network that ``config`` asks for, before the data are known."""
    if config.base is not None:
        return load(config.base).cutoff
    return config.network(["H"]).cutoff


def start(
    config: TrainConfig, data: Dataset, device: torch.device, notify: Callable[[int, int], None] = lambda i, n: None
) -> Network:
    """The network at step 0, on the CPU; a base model is compared with the data on ``device``.

    ``notify`` hears of each frame of that comparison: how many are done, and of how many.

    Elements that the base model does not know start from the one that ``finetune.elements_like`` names, or from new
    rows.

    Raises:
        DPA4Error: elements that a new network leaves out, or options that do not go together.
    """
    torch.manual_seed(config.seed())
    dtype = DTYPES[config.run.dtype]
    symbols = [chemical_symbols[z] for z in data.store.elements]
    if config.base is None:
        model = DPA4(config.network(symbols), dtype)
        if missing := sorted(set(symbols) - set(model.config.elements)):
            raise DPA4Error(f"the data hold {', '.join(missing)}, which model.elements does not list")
        base = None
        network = Network(model, ModelInfo())
    else:
        network = _from_base(config, symbols)
        base = network.info
    species = network.backbone.config.elements
    network.info = card(config, data, base, species, None)
    named = (data.store.arrays["charge_spin"] != np.array(UNSPECIFIED_CHARGE_SPIN)).any(axis=1)
    if network.backbone.config.charge_spin is None and named.any():
        network.notes["charge and spin"] = (
            f"{named.sum()} frames name them, but this network does not see them; a new one does with "
            "model.charge_spin = [0, 1]"
        )
    fit = None
    if config.property is not None:
        targets = np.array(data.store.arrays["target"][data.train])
        if config.property.kind == "extensive":
            targets /= data.store.arrays["n_atoms"][data.train]
        spread = float(np.std(targets))
        if spread <= 1e-9 * max(abs(float(np.mean(targets))), 1.0):  # rounding of a constant
            spread = 1.0
        head = dataclasses.replace(config.property, mean=float(np.mean(targets)), scale=spread)
        network.module = PropertyModel(network.backbone, head)
        network.notes["property"] = f"{head.name}: mean {head.mean:.4g}, spread {head.scale:.4g} {head.unit}".rstrip()
    elif config.base is None:
        fit = _fit_offsets(config, network, data)
    elif config.finetune.offsets == "shift":
        fit = _shift_offsets(config, network, data, device, notify)
    if fit is not None:
        network.info = card(config, data, base, species, fit)
        if network.info.undecided:
            network.notes["energy zeros"] = _undecided(network.info.undecided)
    if config.base is not None and config.property is None and not network.shift:
        _look_at_labels(config, network, data, device)
    adapted = _adapt(network.backbone, config)
    if adapted:
        network.notes["adapters"] = f"rank {config.finetune.lora_rank} on {len(adapted)} matrices"
    if config.finetune.freeze:
        network.notes["frozen"] = ", ".join(config.finetune.freeze)
    return network


def _adapt(model: DPA4, config: TrainConfig) -> list[str]:
    """Put in the adapters and freeze what ``config.finetune`` names; the names of the adapted layers."""
    options, adapted = config.finetune, []
    if options.lora_rank:
        alpha = options.lora_alpha or float(options.lora_rank)
        adapted = add_adapters(model, options.lora_rank, alpha, config.seed())
        if config.property is not None:
            model.fitting.requires_grad_(False)  # adapters train it, but only the head is used
        else:
            for table in (model.species.table, model.film.species.table):
                table.requires_grad_(True)
    if frozen := (*options.freeze, *["species"] * options.replay_own):
        # a step of Adam is as long for the row of an element that is only replayed as for one with something to learn
        freeze(model, frozen)
    return adapted


def _from_base(config: TrainConfig, symbols: list[str]) -> Network:
    assert config.base is not None
    base = load(config.base, dtype=config.run.dtype)
    if isinstance(base, Committee):
        raise DPA4Error(
            f"{config.base} is a committee; fine-tune one of its members, or all of them in a new committee"
        )
    model, info = base.model.requires_grad_(True), base.info
    known = {chemical_symbols[z] for z in (info.elements or model.config.atomic_numbers)}
    notes: dict[str, Any] = {"base": f"{info.name} ({info.sha256[:12]})"}
    if new := sorted(set(symbols) - known):
        like = {
            symbol: config.finetune.elements_like[symbol] for symbol in new if symbol in config.finetune.elements_like
        }
        model, info = extend_elements(model, info, new, like)
        notes["new elements"] = ", ".join(f"{s} like {like[s]}" if s in like else f"{s} from scratch" for s in new)
    return Network(model, dataclasses.replace(info, sha256=base.info.sha256), notes)


def restore(network: DPA4, config: TrainConfig) -> nn.Module:
    """A module of the same form as the one that was stored; its weights are loaded afterwards."""
    module: nn.Module = network
    if config.property is not None:
        module = PropertyModel(network, config.property)
    _adapt(network, config)
    return module


def _undecided(symbols: Sequence[str]) -> str:
    return (
        f"the energies tell {', '.join(symbols)} only together with other elements, in proportions that hardly vary: "
        "each got the share that is smallest in all; compounds of other proportions need frames of the elements, or of "
        "more compounds"
    )


def _fit_offsets(config: TrainConfig, network: Network, data: Dataset) -> OffsetResult | None:
    """Offsets from the labels, without the repulsion that the model adds by itself; None without energies."""
    store, model = data.store, network.backbone
    numbers = model.config.atomic_numbers
    chosen = _for_offsets(network, data, with_free_atoms=bool(config.run.offsets))
    if not len(chosen):
        network.notes["offsets"] = "no energies, offsets stay zero"
        return None
    energies = np.array(store.arrays["energy"][chosen])
    if model.config.bridge is not None:
        potential = Potential(model)
        for batch in pack([int(n) for n in store.arrays["n_atoms"][chosen]], 1024):
            graph = build_graph([store.system(int(chosen[i])) for i in batch], model.config.cutoff)
            energies[batch] -= repulsion_energy(potential.model, graph).numpy()
    fit = OffsetFit(len(numbers))
    fit.add(torch.from_numpy(store.composition(numbers)[chosen]), torch.from_numpy(energies))
    given = config.run.offsets if isinstance(config.run.offsets, dict) else _isolated(data)
    fixed = {numbers.index(atomic_numbers[symbol]): value for symbol, value in given.items()}
    result = fit.solve(fixed=fixed)
    set_offsets(model, result.offsets)
    network.notes["offsets"] = f"residual {1e3 * result.rmse_per_atom:.4g} meV/atom over {result.n_frames} frames"
    return result


def _shift_offsets(
    config: TrainConfig, network: Network, data: Dataset, device: torch.device, notify: Callable[[int, int], None]
) -> OffsetResult | None:
    """The mean error of the base model per element, added to its offsets; None without energies."""
    store, model = data.store, network.backbone
    numbers = model.config.atomic_numbers
    labelled = _for_offsets(network, data)
    if not len(labelled):
        network.notes["offsets"] = "no energies, offsets stay"
        return None
    chosen = sample_frames(store, labelled, _SAMPLE_ATOMS[device.type], config.run.seed)
    predictions = _predicted(network, store, chosen, device, notify)
    network.doubts = _doubts([store.frame(int(i)) for i in chosen], predictions)
    predicted = [prediction.energy for prediction in predictions]
    difference = store.arrays["energy"][chosen] - np.array(predicted)
    finite = np.isfinite(difference)
    fit = OffsetFit(len(numbers))
    fit.add(torch.from_numpy(store.composition(numbers)[chosen][finite]), torch.from_numpy(difference[finite]))
    result = fit.solve()
    before = np.sqrt(np.mean((difference[finite] / store.arrays["n_atoms"][chosen][finite]) ** 2))
    shift_offsets(model, result.offsets)
    network.shift = result.offsets.tolist()
    shifts = {chemical_symbols[z]: float(d) for z, d, s in zip(numbers, result.offsets, result.seen, strict=True) if s}
    text = ", ".join(f"{symbol} {value:+.3f}" for symbol, value in shifts.items())
    network.notes["offsets"] = (
        f"shifted by {text} eV; error of the base model {1e3 * before:.4g} meV/atom before, "
        f"{1e3 * result.rmse_per_atom:.4g} after ({result.n_frames} frames)"
    )
    return result


def _predicted(
    network: Network,
    store: FrameStore,
    chosen: NDArray[np.int64],
    device: torch.device,
    notify: Callable[[int, int], None],
) -> list[Prediction]:
    """What the base model says about the frames ``chosen``."""
    potential = Potential(network.backbone, network.info, device)
    systems = {int(i): store.system(int(i)) for i in chosen}
    predicted: dict[int, Prediction] = {}

    def settle(index: int, prediction: Prediction) -> None:
        predicted[index] = prediction
        notify(len(predicted), len(systems))

    predict_batches(systems, potential, default_budget(device), settle)
    network.backbone.cpu()
    return [predicted[int(i)] for i in chosen]


def _look_at_labels(config: TrainConfig, network: Network, data: Dataset, device: torch.device) -> None:
    """Compare the labels of a handful of frames with the base model."""
    chosen = sample_frames(data.store, data.train, _COMPARED_ATOMS, config.run.seed)
    predictions = _predicted(network, data.store, chosen, device, lambda done, total: None)
    network.doubts = _doubts([data.store.frame(int(i)) for i in chosen], predictions)


def _doubts(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """What looks wrong in labels beside what the base model says."""
    return compare(frames, predictions) + compare_settings(frames, predictions)


def sample_frames(store: FrameStore, frames: NDArray[np.int64], max_atoms: int, seed: int) -> NDArray[np.int64]:
    """Frames at random up to ``max_atoms``, and those without which less would be known of each element than from all.

    A composition that is no combination of those drawn tells elements apart that they do not.
    """
    order = np.random.default_rng(seed).permutation(frames)
    counts = store.composition(store.elements)[order]
    within = np.cumsum(store.arrays["n_atoms"][order]) <= max_atoms
    within[0] = True
    for element in np.flatnonzero(~(counts[within] > 0).any(axis=0)):
        within[np.flatnonzero(counts[:, element])[:3]] = True
    share = counts / counts.sum(axis=1, keepdims=True)
    while True:
        lengths, axes = np.linalg.eigh(share[within].T @ share[within])
        left = np.linalg.norm(share @ axes[:, lengths < _INDEPENDENT * lengths[-1]], axis=1)
        left[within] = 0.0  # one that is drawn tells no more if it is drawn again
        if left.max() ** 2 < _INDEPENDENT:
            return np.sort(order[within])
        within[left.argmax()] = True


def move_replay(data: Dataset, network: Network) -> None:
    """Shift the energies of the replayed frames like the offsets of the model whose energies they are."""
    if not (network.shift and len(data.replay)):
        return
    store, numbers = data.store, network.backbone.config.atomic_numbers
    moved = np.array(store.arrays["energy"])
    moved[data.replay] += store.composition(numbers)[data.replay] @ np.array(network.shift)
    store.arrays["energy"] = moved


def frames_of_level(data: Dataset) -> NDArray[np.int64]:
    """Training frames whose energies tell the level of all of them: those of bound atoms."""
    arrays = data.store.arrays
    return data.train[np.isfinite(arrays["energy"][data.train]) & (arrays["n_edges"][data.train] > 0)]


def _for_offsets(network: Network, data: Dataset, *, with_free_atoms: bool = False) -> NDArray[np.int64]:
    """Training frames whose energies tell the offsets.

    A free atom says nothing about the zero of bound ones, by several eV where it is magnetic; it is trained on, and
    counts here only if its element occurs in no other frame.
    """
    store = data.store
    labelled = data.train[~np.isnan(store.arrays["energy"][data.train])]
    free = store.arrays["n_edges"][labelled] == 0
    if with_free_atoms or not free.any():
        return labelled
    present = store.composition(store.elements)[labelled] > 0
    only_free = ~present[~free].any(axis=0)
    kept: NDArray[np.bool_] = ~free | present[:, only_free].any(axis=1)
    if not kept.all():
        network.notes["free atoms"] = f"{(~kept).sum()} frames are trained on, the offsets are those of bound atoms"
    return labelled[kept]


def _isolated(data: Dataset) -> dict[str, float]:
    """Energies of the free atoms among the training frames, by symbol.

    Raises:
        DPA4Error: an element has none, or two of different energies.
    """
    store, found = data.store, dict[str, tuple[float, str]]()
    for i in data.train[(store.arrays["n_atoms"][data.train] == 1) & (store.arrays["n_edges"][data.train] == 0)]:
        energy, name = float(store.arrays["energy"][i]), store.names[i]
        symbol = chemical_symbols[int(store.arrays["numbers"][store.first[i]])]
        if np.isnan(energy):
            continue
        other, first = found.setdefault(symbol, (energy, name))
        if abs(other - energy) > _SAME_ATOM:
            raise DPA4Error(
                f"free {symbol} has {other:g} eV in {first} and {energy:g} eV in {name}; keep the frame of the ground "
                f"state, or give the energy: run.offsets.{symbol} = {min(other, energy):g}"
            )
    symbols = [chemical_symbols[z] for z in store.elements]
    if missing := [symbol for symbol in symbols if symbol not in found]:
        raise DPA4Error(
            f"run.offsets = isolated needs a frame of one atom with an energy for each element, and there is none of "
            f"{', '.join(missing)}; add them, or give the energies, such as run.offsets.{missing[0]} = -1.5"
        )
    return {symbol: energy for symbol, (energy, _) in found.items()}
