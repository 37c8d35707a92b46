"""HybridMuon: Muon for matrices, Adam for everything else (arXiv 2606.02419; K. Jordan et al., Muon, 2024).

A matrix W with gradient G and momentum M moves along the polar factor of its Nesterov momentum,

    W ← (1 − lr·λ) W,   M ← βM + (1−β)G,   U = βM + (1−β)G,
    W ← W − lr · 0.18·√max(m, n) · d · polar(U),

so that the elements of an update have the RMS 0.18·lr for every shape and one learning rate serves both halves.
The damping d ("Magma-lite", arXiv 2602.15322) falls when gradient and momentum disagree. Matrices of one shape are
processed together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import cosine_similarity

from dpa4_core.errors import DPA4Error

Route = Literal["adam", "adamw", "muon"]

# p(σ) = aσ + bσ³ + cσ⁵ on the singular values: eight steps that lift small ones fast, two that settle at one
_ITERATION = ((3.4445, -4.7750, 2.0315),) * 8 + ((2.0, -1.5, 0.5),) * 2
# as in the reference; the iteration gains at most 8e4, so that updates fade out for momenta of norm below 1e-12
_NORM_FLOOR = 1e-7
_DAMPING_FLOOR = 0.1
_ROWS = ".adam_type_embedding"
_SLOTS: dict[str, tuple[str, ...]] = {
    "adam": ("mean", "square"),
    "adamw": ("mean", "square"),
    "muon": ("momentum", "score"),
}


@dataclass(frozen=True)
class OptimizerConfig:
    """Hyper-parameters shared by all published models.

    Attributes:
        weight_decay: λ of the decoupled decay, for Muon and the decaying Adam parameters; per unit learning rate.
        momentum: β of Muon.
        betas: decay of the first and second moment of Adam.
        eps: added to the root of Adam's second moment. Tiny, because gradients differ by many orders of magnitude.
        damping: shorten the steps of matrices whose gradient disagrees with their momentum.
        update_rms: root mean square of the elements of an undamped Muon update, in units of the learning rate.
        vector_rate: learning rate of vectors and scalars, which Adam moves, in units of that of the matrices; None: the
            same, or what the recipe of a run says.
        row_rate: the same for the rows of the elements in the species tables; only those in the data have a gradient.
    """

    weight_decay: float = 1e-3
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-20
    damping: bool = True
    update_rms: float = 0.18
    vector_rate: float | None = None
    row_rate: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("momentum", self.momentum), ("betas[0]", self.betas[0]), ("betas[1]", self.betas[1])):
            if not 0 <= value < 1:
                raise DPA4Error(f"{name} must be in [0, 1), got {value}")
        for name in ("weight_decay", "eps", "update_rms", "vector_rate", "row_rate"):
            if not 0 <= (getattr(self, name) or 0.0) < math.inf:
                raise DPA4Error(f"{name} must be finite and not negative, got {getattr(self, name)}")


def route(official_name: str, shape: Iterable[int]) -> Route:
    """Which rule moves a parameter; "adamw" is Adam with decoupled weight decay.

    The official names carry the choice: biases and ``adam_*`` use Adam, ``adamw_*`` decay, other tensors with two
    axes or more (not counting axes of length one) are matrices, leading axes numbering independent ones.
    """
    leaf = next((part for part in reversed(official_name.split(".")) if not part.isdigit()), "")
    # a lone b is a bias, but a capital B is the second factor of an adapter
    if leaf == "b" or "bias" in leaf.lower() or leaf.lower().startswith("adam_"):
        return "adam"
    if leaf.lower().startswith("adamw_"):
        return "adamw"
    return "muon" if sum(n != 1 for n in shape) >= 2 else "adam"


def parameter_groups(
    named_parameters: Iterable[tuple[str, Parameter]],
    official: Callable[[str], str],
) -> list[dict[str, Any]]:
    """Groups of the trainable parameters for `HybridMuon`, sorted by name.

    Args:
        named_parameters: as a module lists them.
        official: name of a parameter in an official checkpoint, see `dpa4_core.model.official.official_name`.
    """
    members: dict[tuple[Route, bool], list[tuple[str, Parameter]]] = {}
    for name, parameter in sorted(named_parameters, key=lambda item: item[0]):
        if parameter.requires_grad:
            published = official(name)
            key = route(published, parameter.shape), published.endswith(_ROWS)
            members.setdefault(key, []).append((name, parameter))
    return [{"params": members[key], "route": key[0], "rows": key[1]} for key in sorted(members)]


def orthogonalise(matrices: Tensor, precision: torch.dtype) -> Tensor:
    """Polar factors of matrices [k, m, n] with m ≤ n, computed and returned in ``precision``.

    Singular values end within half a percent of one in float32, those below some 1e-5 of the norm excepted.
    """
    norms = torch.linalg.vector_norm(matrices, dim=(-2, -1), keepdim=True)
    x = (matrices / norms.clamp_min(_NORM_FLOOR)).to(precision)
    for a, b, c in _ITERATION:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class HybridMuon(torch.optim.Optimizer):
    """Muon and Adam in one optimiser, over the groups made by `parameter_groups`.

    A parameter without a gradient is moved as if its gradient were zero. Nothing in a step waits for the device.

    Args:
        groups: from `parameter_groups`; the parameters are float32 or float64.
        config: hyper-parameters.
        lr: learning rate, changed by `set_lr`.
        precision: of the orthogonalisation; by default float64 for float64 parameters, otherwise bfloat16 on a GPU
            and float32 on a CPU, where bfloat16 is fast on some machines only.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        config: OptimizerConfig | None = None,
        *,
        lr: float = 5e-4,
        precision: torch.dtype | None = None,
    ) -> None:
        self.config = config or OptimizerConfig()
        self.precision = precision
        if not groups:
            raise DPA4Error("no parameter is trainable; unfreeze some or add adapters")
        super().__init__(groups, {"lr": lr, "step": 0, "rows": False})
        self.set_lr(lr)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of named parameters with its ``route``."""
        if param_group.get("route") not in _SLOTS:
            raise DPA4Error(f"a group needs a route, one of {', '.join(_SLOTS)}, got {param_group.get('route')!r}")
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            if parameter.dtype not in (torch.float32, torch.float64):
                # updates of relative size 1e-4 would be lost in half precision
                raise DPA4Error(f"parameter {name} is {parameter.dtype}; train float32 weights and use autocast")
            if group["route"] == "muon":
                score = parameter.new_full(_blocks(parameter.detach()).shape[:1], 0.5)
                self.state[parameter] = {"momentum": torch.zeros_like(parameter), "score": score}
            else:
                self.state[parameter] = {slot: torch.zeros_like(parameter) for slot in _SLOTS[group["route"]]}

    def set_lr(self, lr: float) -> None:
        """Learning rate of the next steps, that of the matrices."""
        self.lr = lr
        for group in self.param_groups:
            factor = self.config.row_rate if group["rows"] else self.config.vector_rate
            group["lr"] = lr if group["route"] == "muon" or factor is None else lr * factor

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters from their gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["step"] += 1
            if group["route"] != "adam":
                torch._foreach_mul_(group["params"], 1 - group["lr"] * self.config.weight_decay)
            if group["route"] == "muon":
                self._muon(group)
            else:
                self._adam(group)
        return loss

    def _adam(self, group: dict[str, Any]) -> None:
        """Bias-corrected Adam (arXiv 1412.6980)."""
        parameters = group["params"]
        gradients = [_gradient(p) for p in parameters]
        means, squares = (self._slot(parameters, slot) for slot in ("mean", "square"))
        beta_1, beta_2 = self.config.betas
        torch._foreach_lerp_(means, gradients, 1 - beta_1)
        torch._foreach_mul_(squares, beta_2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta_2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, math.sqrt(1 - beta_2 ** group["step"]))
        torch._foreach_add_(roots, self.config.eps)
        torch._foreach_addcdiv_(parameters, means, roots, -group["lr"] / (1 - beta_1 ** group["step"]))

    def _muon(self, group: dict[str, Any]) -> None:
        buckets: dict[Any, list[Tensor]] = {}
        for parameter in group["params"]:
            shape = _blocks(parameter).shape[1:]
            buckets.setdefault((shape, parameter.dtype, parameter.device), []).append(parameter)
        for parameters in buckets.values():
            directions = self._directions(parameters)
            steps = [_unblock(d, p.shape) for d, p in zip(directions, parameters, strict=True)]
            torch._foreach_add_(parameters, steps, alpha=-group["lr"])

    def _directions(self, parameters: list[Tensor]) -> list[Tensor]:
        """Descent directions [k, m, n], m ≤ n, of matrices of one shape, with damping; updates momenta and scores."""
        gradients, momenta = [_gradient(p) for p in parameters], self._slot(parameters, "momentum")
        torch._foreach_lerp_(momenta, gradients, 1 - self.config.momentum)
        gradient, momentum = (torch.cat([_blocks(t) for t in tensors]) for tensors in (gradients, momenta))

        update = torch.lerp(gradient, momentum, self.config.momentum)
        direction = orthogonalise(update, self._precision(update)).to(update.dtype)
        direction = direction * (self.config.update_rms * math.sqrt(update.shape[-1]))
        scores = self._slot(parameters, "score")
        counts = [len(score) for score in scores]
        if self.config.damping:
            # the logistic function of the cosine, stretched so that ±1 is mapped to 0 and 1
            cosine = cosine_similarity(momentum.flatten(1), gradient.flatten(1), eps=1e-12)
            low, high = 1 / (1 + math.exp(0.5)), 1 / (1 + math.exp(-0.5))
            agreement = ((torch.sigmoid(cosine / 2) - low) / (high - low)).clamp(0, 1)
            torch._foreach_lerp_(scores, list(agreement.split(counts)), 0.1)
            direction = direction * _damping(torch.cat(scores))[:, None, None]
        return list(direction.split(counts))

    def _precision(self, x: Tensor) -> torch.dtype:
        if self.precision is not None:
            return self.precision
        return torch.bfloat16 if x.is_cuda and x.dtype == torch.float32 else x.dtype

    def _slot(self, parameters: list[Tensor], slot: str) -> list[Tensor]:
        return [self.state[p][slot] for p in parameters]

    def mean_damping(self) -> Tensor:
        """Mean factor on the Muon steps, over all matrices; 1 without damping. Stays on the device."""
        scores = [state["score"] for state in self.state.values() if "score" in state]
        if not (self.config.damping and scores):
            return torch.ones(())
        return torch.cat([_damping(score) for score in scores]).mean()

    def state_tensors(self) -> dict[str, Tensor]:
        """The state as ``parameter/slot`` → tensor, and ``step``. The tensors are the live ones, not copies."""
        tensors = {"step": torch.tensor(self.param_groups[0]["step"])}
        for group in self.param_groups:
            for name, parameter in zip(group["param_names"], group["params"], strict=True):
                tensors |= {f"{name}/{slot}": self.state[parameter][slot] for slot in _SLOTS[group["route"]]}
        return tensors

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy in what `state_tensors` gave.

        Raises:
            DPA4Error: a tensor is missing, left over or of another shape; nothing is changed then.
        """
        load_tensors(self.state_tensors(), tensors, "optimizer state")
        for group in self.param_groups:
            group["step"] = int(tensors["step"])


@torch.no_grad()
def load_tensors(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor], what: str) -> None:
    """Copy ``tensors`` into ``targets`` of the same names and shapes; ``what`` names them in an error."""
    for name in sorted(targets.keys() ^ tensors.keys()):
        raise DPA4Error(f"{what}: {name} is {'missing' if name in targets else 'not known'}; was the model changed?")
    for name, target in targets.items():
        if target.shape != tensors[name].shape:
            expected, found = tuple(target.shape), tuple(tensors[name].shape)
            raise DPA4Error(f"{what}: {name} has shape {found} instead of {expected}; was the model changed?")
    for name, target in targets.items():
        target.copy_(tensors[name])


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _damping(score: Tensor) -> Tensor:
    return _DAMPING_FLOOR + (1 - _DAMPING_FLOOR) * score


def _matrix_shape(shape: Iterable[int]) -> tuple[int, int]:
    rows, cols = [n for n in shape if n != 1][-2:]
    return rows, cols


def _blocks(tensor: Tensor) -> Tensor:
    """The independent matrices of a tensor as [k, m, n], transposed where that makes m ≤ n."""
    rows, cols = _matrix_shape(tensor.shape)
    matrices = tensor.reshape(-1, rows, cols)
    return matrices.mT if rows > cols else matrices


def _unblock(blocks: Tensor, shape: torch.Size) -> Tensor:
    """Inverse of `_blocks`."""
    rows, cols = _matrix_shape(shape)
    return (blocks.mT if rows > cols else blocks).reshape(shape)
