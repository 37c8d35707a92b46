"""The training objective: deviations of energy, forces and virial, counted once over the whole step.

    L = p_E mean_b |ΔE_b|/N_b + p_F mean_i ‖ΔF_i‖ + p_W mean_b Σ|ΔW_b|/(9 N_b)

Frames count equally in the energy and virial terms, atoms in the force term. The means run over everything that is
labelled in the step, on all processes, so that how a step is cut into batches does not change it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dpa4_core.errors import DPA4Error
from dpa4_core.nn.segment import segment_sum


@dataclass(frozen=True)
class LossConfig:
    """Weights and form of the terms.

    Attributes:
        energy: weight of the energy per atom (eV/atom).
        forces: weight of the force (eV/Å).
        virial: weight of the virial per atom (eV/atom).
        property: weight of a trained property, in units of its spread over the training frames.
        kind: "mae": absolute values, the force as Euclidean norm per atom; "mse": squares; "huber": quadratic
            below ``delta``.
        delta: eV/atom and eV/Å.
        final_energy: weight of the energy at the end of the decay of the learning rate, which it approaches as the rate
            falls; 0: that of the beginning.
    """

    energy: float = 20.0
    forces: float = 20.0
    virial: float = 5.0
    property: float = 1.0
    kind: Literal["mae", "mse", "huber"] = "mae"
    delta: float = 0.01
    final_energy: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.energy, self.forces, self.virial, self.property)
        if min(*weights, self.final_energy) < 0 or max(weights) == 0:
            raise DPA4Error(f"the weights of the loss must not be negative nor all zero, got {weights}")
        if self.delta <= 0:
            raise DPA4Error(f"delta must be positive, not {self.delta}")
        if self.final_energy and not self.energy:
            raise DPA4Error("loss.final_energy is what loss.energy becomes, which is 0; give both")

    def energy_factor(self, fallen: float) -> float:
        """On the weight of the energy, where the learning rate has fallen by this share of its decay."""
        return 1.0 + fallen * (self.final_energy / self.energy - 1.0) if self.final_energy else 1.0


class Labels(NamedTuple):
    """Reference values of a batch; a weight is 0 where there is none (and for padding), so no value is a gap.

    Attributes:
        energy: [n_systems] float64, eV.
        forces: [n_atoms, 3] eV/Å.
        virial: [n_systems, 3, 3] eV, −V·stress.
        energy_weight, virial_weight: [n_systems].
        force_weight: [n_atoms].
        n_atoms: atoms of each system [n_systems], at least 1.
        volume: [n_systems] Å³, at least 1.
    """

    energy: Tensor
    forces: Tensor
    virial: Tensor
    energy_weight: Tensor
    force_weight: Tensor
    virial_weight: Tensor
    n_atoms: Tensor
    volume: Tensor


SUMS = ("energy_abs", "energy_sq", "force_abs", "force_sq", "force_norm", "stress_abs", "stress_sq", "energy")
"""What `energy_loss` adds up for the log; divide by the counts with `errors_from_sums`. The last one, with its sign, is
what the level of the energies follows: free atoms, of which a base knows nothing, are not in it.
"""


def energy_loss(
    config: LossConfig,
    labels: Labels,
    counts: Tensor,
    atom_energies: Tensor,
    gradient: Tensor,
    edge_vec: Tensor,
    src: Tensor,
    dst: Tensor,
    system_idx: Tensor,
) -> tuple[Tensor, Tensor]:
    """Loss of one batch and the sums of its errors.

    Args:
        config: weights of the terms.
        labels: reference values.
        counts: [3] labelled frames with energy, atoms with forces, frames with stress in the whole step: what the sums
            of the terms are divided by.
        atom_energies: [n_atoms] eV; gradient: ∂E/∂v [n_edges, 3] eV/Å.
        edge_vec: [n_edges, 3] Å; src, dst: [n_edges]; system_idx: [n_atoms].

    Returns:
        The loss [], a sum over the batch divided by ``counts``, and the `SUMS` [8] float64, detached.
    """
    n_atoms, n_systems = atom_energies.shape[0], labels.energy.shape[0]
    energy = segment_sum(atom_energies, system_idx, n_systems)
    forces = segment_sum(gradient, dst, n_atoms) - segment_sum(gradient, src, n_atoms)
    pair = -gradient[:, :, None] * edge_vec[:, None, :]
    virial = segment_sum(pair, system_idx[dst], n_systems)

    delta_e = ((energy - labels.energy) / labels.n_atoms).to(forces.dtype)
    delta_f = forces - labels.forces
    delta_w = (virial - labels.virial) / labels.n_atoms[:, None, None].to(virial.dtype)
    square_f = delta_f.square().sum(-1)
    # the norm has no derivative at zero, where padding and exact forces are
    norm_f = torch.where(square_f > 0, square_f, 1.0).sqrt() * (square_f > 0)

    if config.kind == "mae":
        term_e, term_f, term_w = delta_e.abs(), norm_f, delta_w.abs().mean((1, 2))
    elif config.kind == "mse":
        term_e, term_f, term_w = delta_e.square(), square_f / 3, delta_w.square().mean((1, 2))
    else:
        term_e, term_f = _huber(delta_e, config.delta), _huber(norm_f, config.delta)
        term_w = _huber(delta_w, config.delta).mean((1, 2))
    per_label = torch.where(counts > 0, 1.0 / counts, 0.0)
    loss = (
        config.energy * per_label[0] * (term_e * labels.energy_weight).sum()
        + config.forces * per_label[1] * (term_f * labels.force_weight).sum()
        + config.virial * per_label[2] * (term_w * labels.virial_weight).sum()
    )

    has_e, has_f, has_w = (weight > 0 for weight in (labels.energy_weight, labels.force_weight, labels.virial_weight))
    symmetric = 0.5 * (delta_w + delta_w.transpose(1, 2))
    stress = symmetric * (labels.n_atoms / labels.volume)[:, None, None].to(virial.dtype)
    voigt = torch.stack([stress[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))], dim=1)
    bound = segment_sum(torch.ones_like(edge_vec[:, 0]), system_idx[dst], n_systems) > 0
    sums = [
        (delta_e.abs() * has_e).sum(),
        (delta_e.square() * has_e).sum(),
        (delta_f.abs().sum(-1) * has_f).sum(),
        (square_f * has_f).sum(),
        (norm_f * has_f).sum(),
        (voigt.abs().sum(-1) * has_w).sum(),
        (voigt.square().sum(-1) * has_w).sum(),
        (delta_e * (has_e & bound)).sum(),
    ]
    return loss, torch.stack([value.detach().double() for value in sums])


def _huber(delta: Tensor, limit: float) -> Tensor:
    size = delta.abs()
    return torch.where(size <= limit, 0.5 * size.square(), limit * (size - 0.5 * limit))


def property_loss(
    config: LossConfig, labels: Labels, counts: Tensor, value: Tensor, spread: float, *, per_atom: bool
) -> tuple[Tensor, Tensor]:
    """Loss of a property [n_systems] against ``labels.energy``, in units of ``spread``; sums as in `energy_loss`.

    An extensive property is compared per atom, like its ``spread``.
    """
    delta = value - labels.energy
    scaled = (delta / spread / (labels.n_atoms if per_atom else 1.0)).to(labels.energy_weight.dtype)
    if config.kind == "mae":
        term = scaled.abs()
    else:
        term = scaled.square() if config.kind == "mse" else _huber(scaled, config.delta)
    loss = config.property * (term * labels.energy_weight).sum() / counts[0].clamp(min=1.0)
    has = labels.energy_weight > 0
    sums = torch.zeros(len(SUMS), dtype=torch.float64, device=delta.device)
    first = torch.stack([(delta.abs() * has).sum(), (delta.square() * has).sum()]).detach()
    return loss, torch.cat([first, sums[2:]])


class Errors(NamedTuple):
    """Errors over a number of frames; NaN where nothing is labelled.

    Attributes:
        energy_mae, energy_rmse: eV/atom.
        force_mae, force_rmse: eV/Å, over Cartesian components.
        force_norm_mae: eV/Å, mean Euclidean norm of the deviation; for isotropic errors twice ``force_mae``.
        stress_mae, stress_rmse: eV/Å³, over the six components.
    """

    energy_mae: float
    energy_rmse: float
    force_mae: float
    force_rmse: float
    force_norm_mae: float
    stress_mae: float
    stress_rmse: float


def errors_from_sums(sums: Tensor, counts: Tensor) -> Errors:
    """Mean errors from `SUMS` [8] and the counts [3] that they were added over."""
    n_e, n_f, n_w = (float(count) if count > 0 else float("nan") for count in counts)
    e1, e2, f1, f2, norm, w1, w2 = (float(value) for value in sums[:7])
    return Errors(
        e1 / n_e,
        (e2 / n_e) ** 0.5,
        f1 / (3 * n_f),
        (f2 / (3 * n_f)) ** 0.5,
        norm / n_f,
        w1 / (6 * n_w),
        (w2 / (6 * n_w)) ** 0.5,
    )
