"""Time per structure and peak memory of a large run, from 10 to 10,000 structures.

    python benchmarks/growth.py                         # toy potential: the cost of everything around the model
    python benchmarks/growth.py --model dpa4-neo --sizes 10 100 1000
    python benchmarks/growth.py --calculation static

Each size is a process of its own that relaxes the same kind of structures (metals in cells of four atoms, strained and
rattled at random, seeded) from one extended XYZ file into a run folder. Time is that of the work, after the model was
loaded and has computed one structure; counting the input and starting the process are shown apart. On a busy machine
look at the processor time. The smallest sizes pay for batches that never fill.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from dpa4_core.predict import predict
from dpa4_flows.documents.calculations import relax_settings, static_settings
from dpa4_flows.large.folder import Task, prepare_folder
from dpa4_flows.large.summary import summarise
from dpa4_flows.large.worker import RunWorker
from dpa4_flows.model_ref import ModelRef

METALS = {"Cu": 3.61, "Ni": 3.52, "Ag": 4.09, "Pd": 3.89, "Al": 4.05}


def crystal(rng: np.random.Generator) -> Atoms:
    """A conventional fcc cell of a random metal, off its minimum."""
    symbol = str(rng.choice(list(METALS)))
    atoms = bulk(symbol, "fcc", a=METALS[symbol] * (0.97 + 0.06 * rng.random()), cubic=True)
    atoms.positions += rng.normal(0.0, 0.03, (4, 3))
    return atoms


def write_input(path: Path, n: int) -> None:
    """``n`` structures, a frame at a time."""
    rng = np.random.default_rng(7)
    with path.open("w") as file:
        for _ in range(n):
            ase.io.write(file, crystal(rng), format="extxyz")


def measure(options: argparse.Namespace, n: int, folder: Path) -> dict[str, float]:
    """One run in this process."""
    path = folder / f"{n}.extxyz"
    write_input(path, n)
    torch.set_num_threads(options.threads)
    model = ModelRef(options.model, device=options.device).resolve()
    potential = model.load()
    predict([crystal(np.random.default_rng(0))], potential)
    if options.calculation == "relax":
        settings = relax_settings(
            fmax=options.fmax, max_steps=500, relax_cell=True, pressure_gpa=0.0, dtype=model.dtype
        )
    else:
        settings = static_settings(dtype=model.dtype)
    before = _peak_mb()
    start = time.perf_counter()
    run = prepare_folder(folder / f"run-{n}", Task(options.calculation, model, settings, False), [path])
    counted = time.perf_counter()
    cpu = time.process_time()
    RunWorker(run, [path], potential, max_atoms_per_batch=options.max_atoms_per_batch).work()
    wall, cpu = time.perf_counter() - counted, time.process_time() - cpu
    summary = summarise(run)
    stored = sum(file.stat().st_size for file in (run.path / "shards").iterdir())
    return {
        "n": n,
        "done": summary.n_done,
        "failed": summary.n_failed + summary.n_unconverged,
        "count_ms": 1e3 * (counted - start) / n,
        "wall_ms": 1e3 * wall / n,
        "cpu_ms": 1e3 * cpu / n,
        "before_mb": before,
        "peak_mb": _peak_mb(),
        "stored_kb": stored / 1e3 / n,
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--model", default="dpa4_core.testing:MorsePotential")
    parser.add_argument("--calculation", choices=["relax", "static"], default="relax")
    parser.add_argument("--fmax", type=float, default=0.05)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-atoms-per-batch", type=int, default=None)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(options, options.sizes[0], options.one)))
        return
    print(f"{options.calculation} with {options.model} on {options.device}, {options.threads} threads")
    header = ("structures", "ms each", "ratio", "CPU ms each", "ratio", "peak MB", "ratio", "counting ms", "kB stored")
    print(" ".join(f"{title:>12}" for title in header))
    first: dict[str, float] = {}
    for n in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            arguments = [*sys.argv[1:], "--sizes", str(n), "--one", folder]
            done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        first = first or found
        ratios = [found[key] / first[key] for key in ("wall_ms", "cpu_ms", "peak_mb")]
        cells = (
            *(f"{n:,}", f"{found['wall_ms']:.2f}", f"{ratios[0]:.2f}", f"{found['cpu_ms']:.2f}", f"{ratios[1]:.2f}"),
            *(f"{found['peak_mb']:.0f}", f"{ratios[2]:.2f}", f"{found['count_ms']:.3f}", f"{found['stored_kb']:.2f}"),
        )
        print(" ".join(f"{cell:>12}" for cell in cells), flush=True)
        if found["done"] != n or found["failed"]:
            print(f"{'':>12} {found['done']} done, {found['failed']} of them failed or not converged")


if __name__ == "__main__":
    main()
