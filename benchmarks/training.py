"""Time training steps (loss, gradient of the weights, optimiser), side by side: eager, compiled, bf16, reference.

Every mode runs in a process of its own that holds the same network and sees the same batches of liquid water; steps
are interleaved (one of each mode, again and again), so that a change in the load of the machine meets all of them.
"plain" is eager with all derivatives by autograd, as on a GPU. The labels are random numbers: they cost the same as
real ones. For the reference the interpreter of an environment with deepmd-kit and its PyTorch backend is needed; it
gets our weights as an official checkpoint, the same frames and the same terms of the loss, and its first gradient must
agree with ours.

Printed per mode: seconds per step (median and fastest), the ratio to our eager float32, atoms per second, peak memory
(of the process on the CPU, of the allocator on a GPU), share of padding, seconds of the first step (compilation), and
the loss after the last step. ``--curve`` prints the losses of all steps, to see that the modes learn alike.

Examples:
    python benchmarks/training.py
    python benchmarks/training.py --preset neo --steps 20 --modes eager compiled bf16 compiled+bf16 --device cuda
    python benchmarks/training.py --modes eager reference --reference-python REF_PYTHON
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

MODES = ("eager", "plain", "compiled", "bf16", "compiled+bf16", "reference")
DENSITY = 0.0334  # water molecules per Å³ at 300 K
STRESS_SCALE = 0.01  # eV/Å³


def water(n_molecules: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers [n], positions [n, 3] and cell [3, 3] of rattled, randomly turned molecules on a cubic grid."""
    side = (n_molecules / DENSITY) ** (1 / 3)
    per_edge = int(np.ceil(n_molecules ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(per_edge)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n_molecules]
    centres = (grid + 0.5) * side / per_edge + rng.normal(scale=0.1, size=grid.shape)
    angle = np.radians(104.5 / 2)
    shape = 0.96 * np.array([[0, 0, 0], [np.sin(angle), np.cos(angle), 0], [-np.sin(angle), np.cos(angle), 0]])
    positions = []
    for centre in centres:
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        positions.append(centre + shape @ turn)
    return np.tile([8, 1, 1], n_molecules), np.concatenate(positions), side * np.eye(3)


def frames(n_frames: int, n_molecules: int) -> list[dict[str, np.ndarray]]:
    """Frames with random labels of plausible size, the same in every process."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(n_frames):
        numbers, positions, cell = water(n_molecules, rng)
        stress = rng.normal(scale=STRESS_SCALE, size=(3, 3))
        made.append(
            {
                "numbers": numbers,
                "positions": positions,
                "cell": cell,
                "energy": np.array(-5.0 * len(numbers) + rng.normal()),
                "forces": rng.normal(size=(len(numbers), 3)),
                "stress": (stress + stress.T) / 2,
            }
        )
    return made


# ---- our workers


def serve_ours(arguments: argparse.Namespace, mode: str, answer: Any) -> None:
    """Answer every line on standard input with one training step."""
    import torch

    from dpa4_core.data.frames import Frame
    from dpa4_core.data.system import System
    from dpa4_core.memory import keep_freed_memory
    from dpa4_core.model.checkpoint import read_model
    from dpa4_core.nn.edges import PLAIN
    from dpa4_core.train import step as steps
    from dpa4_core.train.config import OptimizerConfig
    from dpa4_core.train.loader import BatchMaker, Padding
    from dpa4_core.train.loss import LossConfig
    from dpa4_core.train.optimizer import HybridMuon, parameter_groups
    from dpa4_core.train.routing import official
    from dpa4_core.train.store import LabelledFrame, build_store

    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if arguments.tf32 else "highest")
    model, _ = read_model(Path(arguments.weights), dtype=torch.float32)
    model = model.to(device)
    items = []
    for number, frame in enumerate(frames(arguments.frames, arguments.molecules)):
        n = len(frame["numbers"])
        system = System(
            frame["numbers"], frame["positions"], frame["cell"], np.ones(3, dtype=bool), np.zeros((n, 3), dtype=bool)
        )
        labels = {"energy": float(frame["energy"]), "forces": frame["forces"], "stress": frame["stress"]}
        items.append(LabelledFrame(Frame(system, **labels, name=f"water:{number}")))
    compiled, mixed = "compiled" in mode, "bf16" in mode
    with tempfile.TemporaryDirectory() as folder:
        store = build_store(Path(folder) / "data", items, cutoff=model.config.cutoff, sources=["water"], key="")
        per_step = arguments.frames_per_step
        most = int(np.sort(store.arrays["n_edges"])[-per_step:].sum())
        padding = Padding(3 * arguments.molecules * per_step + 1, int(1.02 * most) + 1, per_step + 1)
        maker = BatchMaker(store, model.config, torch.float32, padding=padding if compiled else None)
        if mode == "plain":
            steps.trained_strategy = lambda *_: PLAIN
        step = steps.Step(model, LossConfig(), compiled=compiled, mixed_precision=mixed)
        groups = parameter_groups(model.named_parameters(), lambda name: official(name, model.config))
        optimizer = HybridMuon(groups, OptimizerConfig(), lr=5e-4)
        for number, _line in enumerate(sys.stdin):
            chosen = (np.arange(per_step) + number * per_step) % arguments.frames
            batch = maker.make(chosen, None if number == 0 else (0, number))
            counts = torch.from_numpy(maker.counts(chosen)).to(device)
            started, used = time.perf_counter(), time.process_time()
            loss, _ = step(batch.to(device), counts)
            loss.backward()
            norm = torch.sqrt(sum(p.grad.double().square().sum() for p in model.parameters() if p.grad is not None))
            optimizer.step()
            value = float(loss)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds, cpu = time.perf_counter() - started, time.process_time() - used
            optimizer.zero_grad(set_to_none=True)
            padded = 1 - batch.n_real[1] / len(batch.src)
            answer(seconds=seconds, cpu=cpu, loss=value, norm=float(norm), memory=peak_gib(device), padding=padded)


def peak_gib(device: Any) -> float:
    """Peak memory so far in GiB."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


# ---- the reference


def serve_reference(arguments: argparse.Namespace, answer: Any) -> None:
    """The same with deepmd-kit: its model, forces and virial by its own derivative, and the loss written out here."""
    import torch
    from deepmd.pt.model.model import get_model
    from deepmd.pt.utils import env

    torch.set_num_threads(arguments.threads)
    state = torch.load(arguments.checkpoint, weights_only=True, map_location="cpu")["model"]
    params = state["_extra_state"]["model_params"]
    params["descriptor"]["random_gamma"] = False  # a gauge; without it the gradients can be compared
    model = get_model(params).to(env.DEVICE)
    weights = {k.replace("model.Default.", ""): v for k, v in state.items() if k != "_extra_state"}
    lacking = model.load_state_dict(weights, strict=False).missing_keys
    assert not [key for key in lacking if "extra_state" not in key], lacking
    symbols = {1: "H", 8: "O"}
    types = {number: params["type_map"].index(symbol) for number, symbol in symbols.items()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-4)
    data = frames(arguments.frames, arguments.molecules)
    per_step = arguments.frames_per_step
    for number, _line in enumerate(sys.stdin):
        chosen = [data[(i + number * per_step) % arguments.frames] for i in range(per_step)]
        stacked = {key: torch.from_numpy(np.stack([frame[key] for frame in chosen])) for key in chosen[0]}
        kinds = torch.tensor([[types[int(z)] for z in frame["numbers"]] for frame in chosen])
        volume = torch.linalg.det(stacked["cell"]).abs()
        n_atoms = kinds.shape[1]
        model.train()
        started, used = time.perf_counter(), time.process_time()
        coord = stacked["positions"].reshape(per_step, -1).requires_grad_()
        out = model(coord, kinds, box=stacked["cell"].reshape(per_step, 9))
        energy = (out["energy"][:, 0] - stacked["energy"]).abs().mean() / n_atoms
        force = (out["force"] - stacked["forces"]).norm(dim=-1).mean()
        target = -volume[:, None, None] * stacked["stress"]
        virial = (out["virial"].reshape(per_step, 3, 3) - target).abs().mean() / n_atoms
        loss = 20 * energy + 20 * force + 5 * virial
        loss.backward()
        norm = torch.sqrt(sum(p.grad.double().square().sum() for p in model.parameters() if p.grad is not None))
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        answer(seconds=seconds, cpu=cpu, loss=float(loss), norm=float(norm), memory=memory, padding=0.0)


# ---- driver


class Worker:
    """A process that takes one training step per request."""

    def __init__(self, mode: str, python: str, arguments: list[str], environment: dict[str, str]) -> None:
        command = [python, __file__, "--worker", mode, *arguments]
        self.mode, self.rows = mode, []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def step(self) -> None:
        """Ask for one step and keep its row."""
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.mode} ended:\n{self.process.stderr.read()[-3000:]}")
        self.rows.append(json.loads(line))

    def close(self) -> None:
        """Let the process end."""
        self.process.stdin.close()
        self.process.wait()


def write_weights(preset: str, folder: Path) -> tuple[Path, Path]:
    """A new network of ``preset`` for H and O with no zero block, as our file and as an official checkpoint."""
    import torch

    from dpa4_core.model.checkpoint import write_model, write_official
    from dpa4_core.model.config import DPA4Config
    from dpa4_core.model.dpa4 import DPA4
    from dpa4_core.model.info import ModelInfo

    torch.manual_seed(0)
    model = DPA4(DPA4Config.preset(preset, elements=("H", "O")))
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():  # branches that start at zero would hide part of the gradient
                parameter.normal_(0, 0.02)
    info = ModelInfo(elements=(1, 8))
    return write_model(model, info, folder / "w.dpa4"), write_official(model, info, folder / "w.pt")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["eager"])
    parser.add_argument("--steps", type=int, default=6, help="steps after the first one, which is not timed")
    parser.add_argument("--molecules", type=int, default=64)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--frames-per-step", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--reference-python", default="")
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--weights", default="", help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print must not mix with the answers

        def answer(**row: float) -> None:
            answers.write(json.dumps(row) + "\n")
            answers.flush()

        if arguments.worker == "reference":
            serve_reference(arguments, answer)
        else:
            serve_ours(arguments, arguments.worker, answer)
        return

    with tempfile.TemporaryDirectory() as folder:
        weights, checkpoint = write_weights(arguments.preset, Path(folder))
        passed = ["--weights", str(weights), "--checkpoint", str(checkpoint), "--device", arguments.device]
        for name in ("molecules", "frames", "frames_per_step", "threads"):
            passed += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
        passed += ["--tf32"] if arguments.tf32 else []
        threads = str(arguments.threads)
        environment = os.environ | {"OMP_NUM_THREADS": threads, "DP_INTRA_OP_PARALLELISM_THREADS": threads}
        environment |= {"DP_INTER_OP_PARALLELISM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        workers = []
        for mode in arguments.modes:
            python = arguments.reference_python if mode == "reference" else sys.executable
            if not python:
                raise SystemExit("the reference needs --reference-python")
            workers.append(Worker(mode, python, passed, environment))
        for _ in range(arguments.steps + 1):
            for worker in workers:
                worker.step()
        for worker in workers:
            worker.close()
    report(workers, arguments)


def report(workers: list[Worker], arguments: argparse.Namespace) -> None:
    """The table, and the first gradients against each other."""
    n_atoms = 3 * arguments.molecules * arguments.frames_per_step
    print(f"{arguments.preset}, {n_atoms} atoms per step, {arguments.device}, {arguments.threads} thread(s)")
    head = (
        "mode  s/step (median)  s/step (min)  CPU s/step (median)  speed-up  atoms/s  peak GiB  padding  first step s"
    )
    print(head + "  last loss")
    base = statistics.median(row["seconds"] for row in workers[0].rows[1:])
    table = []
    for worker in workers:
        timed = worker.rows[1:]
        seconds = statistics.median(row["seconds"] for row in timed)
        row = {
            "mode": worker.mode,
            "median_s": seconds,
            "min_s": min(row["seconds"] for row in timed),
            "cpu_s": statistics.median(row["cpu"] for row in timed),
            "speed_up": base / seconds,
            "atoms_per_s": n_atoms / seconds,
            "peak_gib": max(row["memory"] for row in worker.rows),
            "padding": timed[-1]["padding"],
            "first_s": worker.rows[0]["seconds"],
            "last_loss": timed[-1]["loss"],
            "first_loss": worker.rows[0]["loss"],
            "first_norm": worker.rows[0]["norm"],
        }
        table.append(row)
        numbers = [f"{row[key]:.4g}" for key in list(row)[1:10]]
        print("  ".join([worker.mode, *numbers]))
    for row in table[1:]:
        deviation = abs(row["first_norm"] / table[0]["first_norm"] - 1)
        print(f"first step of {row['mode']}: loss {row['first_loss']:.6f} ({table[0]['first_loss']:.6f}), ", end="")
        print(f"gradient norm off by {deviation:.2e} of that of {table[0]['mode']}")
    if arguments.curve:
        for worker in workers:
            print(worker.mode, " ".join(f"{row['loss']:.4f}" for row in worker.rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
