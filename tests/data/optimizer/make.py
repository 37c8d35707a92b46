"""Numbers of the reference optimiser (deepmd-kit 3.2.0); run where that is installed, see README.md.

make.py presets.json: model parameters of each preset as the reference reads them, {preset: params}
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from deepmd.pt.model.model import get_model
from deepmd.pt.optimizer import hybrid_muon

HERE = Path(__file__).parent
SHAPES = {
    "tall.matrix": (12, 5),
    "wide.matrix": (5, 12),
    "tall_too.matrix": (12, 5),
    "square.matrix": (8, 8),
    "slices.weight": (3, 6, 4),
    "thin.weight": (1, 7, 3),
    "networks.0.bias": (4, 6),
    "column.weight": (9, 1),
    "norm.adam_scale": (2, 6),
    "conv.adamw_gate_w": (5, 4),
}
N_STEPS = 5


class Float32Iteration:
    """The torch module with bfloat16 replaced, so that the orthogonalisation runs in float32."""

    bfloat16 = torch.float32

    def __getattr__(self, name):
        return getattr(torch, name)


def trajectories() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(20260602)
    data = {"lr": np.array([4e-4, 2e-3, 2e-3, 1.5e-3, 8e-4])}
    for name, shape in SHAPES.items():
        data[f"{name}/initial"] = (0.5 * rng.standard_normal(shape)).astype(np.float32)
        # a common direction plus noise: agreement of gradient and momentum somewhere between 0 and 1
        drift, noise = rng.standard_normal(shape), rng.standard_normal((N_STEPS, *shape))
        size = np.array([1.0, 1e-3, 30.0, 1.0, 0.2]).reshape(-1, *[1] * len(shape))
        data[f"{name}/gradients"] = (size * (drift + noise)).astype(np.float32)
    data["slices.weight/gradients"][2, 1] = 0.0
    for damping in (False, True):
        for precision, module in (("float32", Float32Iteration()), ("bfloat16", torch)):
            hybrid_muon.torch = module
            weights = {name: torch.nn.Parameter(torch.tensor(data[f"{name}/initial"])) for name in SHAPES}
            optimizer = hybrid_muon.HybridMuonOptimizer(
                list(weights.values()),
                named_parameters=list(weights.items()),
                enable_gram=False,
                flash_muon=False,
                magma_muon=damping,
            )
            for step in range(N_STEPS):
                for name, weight in weights.items():
                    weight.grad = torch.tensor(data[f"{name}/gradients"][step])
                optimizer.param_groups[0]["lr"] = float(data["lr"][step])
                optimizer.step()
            tag = f"{precision}_{'damped' if damping else 'plain'}"
            data |= {f"{name}/{tag}": weight.detach().numpy() for name, weight in weights.items()}
    hybrid_muon.torch = torch
    return data


def routes(presets: dict[str, dict]) -> dict[str, np.ndarray]:
    """Names and routes of all trainable parameters of each preset."""
    data = {}
    for preset, params in presets.items():
        named = [(n, p) for n, p in get_model(params).named_parameters() if p.requires_grad]
        optimizer = hybrid_muon.HybridMuonOptimizer([p for _, p in named], named_parameters=named)
        optimizer._build_param_routing()
        kinds = {}
        for ours, theirs in (("adam", "adam_no_decay"), ("adamw", "adam_decay"), ("muon", "muon_params")):
            kinds |= {entry["name"]: ours for entry in optimizer._routing[0][theirs]}
        data[f"{preset}/names"] = np.array([name for name, _ in named])
        data[f"{preset}/routes"] = np.array([kinds[name] for name, _ in named])
        data[f"{preset}/numbers"] = np.array([p.numel() for _, p in named])
    return data


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(HERE / "trajectories.npz", **trajectories())
    np.savez_compressed(HERE / "routes.npz", **routes(json.loads(Path(sys.argv[1]).read_text())))
