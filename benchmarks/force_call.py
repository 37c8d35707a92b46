"""Time one force call (energy, forces and stress) of DPA4Calculator, side by side with the reference code.

The two implementations never share a process. Each one is loaded once in a worker subprocess which speaks
JSON lines over its standard streams, so that imports and model loading stay outside the timings and the calls
can be interleaved: ours, reference, ours, reference, and so on, with the same structures and thread count.

Every call gets a structure which no worker has seen before: a silicon diamond supercell whose atoms are
rattled and which is then shifted rigidly by a random vector. The shift leaves the energy alone but moves
every atom so far that no neighbour list kept from an earlier call can be used again; each timing includes
a new one.

The energies of the two must agree within 1e-5 eV + 5e-8 |E| in every call; otherwise the exit status is 1.

Examples:
    Ours alone::

        python benchmarks/force_call.py

    Side by side (``REF_PYTHON``: the interpreter of an environment with deepmd-kit and its PyTorch backend)::

        python benchmarks/force_call.py --reference-python REF_PYTHON --checkpoint dpa4.pt --json rows.json
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from ase import Atoms
from ase.build import bulk

Backend = Literal["ours", "reference"]

SUPERCELLS: dict[int, int] = {8: 1, 64: 2, 216: 3, 1000: 5}
DEFAULT_SIZES: tuple[int, ...] = (8, 64, 216)
LATTICE_CONSTANT = 5.43  # Å, silicon
RATTLE_STDEV = 0.05  # Å
ENERGY_ATOL = 1e-5  # eV
ENERGY_RTOL = 5e-8
SETTLE_SECONDS = 0.05  # lets the OpenMP threads of the previous worker fall asleep


# ----------------------------------------------------------------------------------------------------
# Structures
# ----------------------------------------------------------------------------------------------------


def fresh_silicon(n_atoms: int, rng: np.random.Generator) -> Atoms:
    """Build a rattled and rigidly shifted silicon supercell.

    Args:
        n_atoms: Number of atoms, one of the keys of `SUPERCELLS`.
        rng: Source of the random displacements and of the shift.

    Returns:
        A periodic diamond-structure supercell of the conventional cell.
    """
    repeat = SUPERCELLS[n_atoms]
    atoms: Any = bulk("Si", "diamond", a=LATTICE_CONSTANT, cubic=True) * (repeat, repeat, repeat)
    shift = rng.uniform(0.0, LATTICE_CONSTANT, size=3)
    atoms.positions += rng.normal(scale=RATTLE_STDEV, size=atoms.positions.shape) + shift
    atoms.wrap()
    result: Atoms = atoms
    return result


# ----------------------------------------------------------------------------------------------------
# Worker: runs in a subprocess with the interpreter of its backend
# ----------------------------------------------------------------------------------------------------


def load_calculator(backend: Backend, model: str) -> Any:
    """Load the ASE calculator of a backend.

    Args:
        backend: Which implementation to load.
        model: Registry name or checkpoint path for ours, checkpoint path for the reference.

    Returns:
        An ASE calculator.
    """
    if backend == "ours":
        from dpa4_core import DPA4Calculator

        return DPA4Calculator(model)
    from deepmd.calculator import DP

    return DP(model)


def serve(backend: Backend, model: str, threads: int) -> None:
    """Answer JSON-line requests on standard input until it closes.

    The first line written describes the worker. After that each request holds ``numbers``, ``positions`` and
    ``cell`` of a periodic structure and is answered by ``seconds``, ``energy``, ``forces`` and ``stress``.
    Whatever the libraries print goes to standard error, so that it cannot mix with the answers.

    Args:
        backend: Which implementation to serve.
        model: Registry name or checkpoint path.
        threads: Number of intra-op threads.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    import torch

    calculator = load_calculator(backend, model)
    torch.set_num_threads(threads)  # last word: a library may have set its own while it was imported

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    package = "dpa4-flows" if backend == "ours" else "deepmd-kit"
    answer(
        {
            "package": f"{package} {_package_version(package)}",
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
        }
    )
    for line in sys.stdin:
        request = json.loads(line)
        atoms: Any = Atoms(numbers=request["numbers"], positions=request["positions"], cell=request["cell"], pbc=True)
        atoms.calc = calculator
        start = time.perf_counter()
        energy = atoms.get_potential_energy()
        forces = atoms.get_forces()
        stress = atoms.get_stress()
        seconds = time.perf_counter() - start
        answer(
            {
                "seconds": seconds,
                "energy": float(energy),
                "forces": np.asarray(forces, dtype=float).tolist(),
                "stress": np.asarray(stress, dtype=float).tolist(),
            }
        )


def _package_version(package: str) -> str:
    """Return the installed version of a distribution, or a question mark for a bare source tree."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "?"


# ----------------------------------------------------------------------------------------------------
# Driver
# ----------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """One timed force call.

    Attributes:
        seconds: Wall-clock time inside the worker.
        energy: Potential energy in eV.
        forces: Forces in eV/Å, shape (N, 3).
        stress: Stress in eV/Å³, ASE's Voigt order, shape (6,).
    """

    seconds: float
    energy: float
    forces: np.ndarray
    stress: np.ndarray


class WorkerError(RuntimeError):
    """A worker ended early; the message carries the end of what it printed."""


class Worker:
    """A persistent subprocess which holds one loaded calculator.

    Attributes:
        info: What the worker said about itself: package, torch and Python versions, thread count.
    """

    def __init__(self, backend: Backend, python: str, model: str, threads: int) -> None:
        """Start the worker and wait until its model is loaded.

        Args:
            backend: Which implementation it serves.
            python: Interpreter to run it with.
            model: Registry name or checkpoint path.
            threads: Number of intra-op threads.
        """
        environment = dict(os.environ)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(threads)
        if backend == "reference":
            environment.pop("PYTHONPATH", None)  # another environment's packages must not leak in
            environment["DP_INTRA_OP_PARALLELISM_THREADS"] = str(threads)
            environment["DP_INTER_OP_PARALLELISM_THREADS"] = "1"
        self._backend: Backend = backend
        self._log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [
                python,
                str(Path(__file__).resolve()),
                *("--worker", backend, "--model", model, "--threads", str(threads)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            encoding="utf-8",
        )
        try:
            self.info: dict[str, Any] = self._read()
        except BaseException:
            self.close()
            raise

    def call(self, atoms: Atoms) -> Call:
        """Have the worker time one force call.

        Args:
            atoms: A periodic structure.

        Returns:
            The time and the results.
        """
        assert self._process.stdin is not None
        request = {
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
        }
        with contextlib.suppress(BrokenPipeError):  # _read explains why the worker is gone
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        reply = self._read()
        return Call(
            seconds=reply["seconds"],
            energy=reply["energy"],
            forces=np.array(reply["forces"]),
            stress=np.array(reply["stress"]),
        )

    def close(self) -> None:
        """End the subprocess and discard its log."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _read(self) -> dict[str, Any]:
        """Read one answer.

        Returns:
            The decoded JSON object.

        Raises:
            WorkerError: If the worker has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            tail = "".join(self._log.readlines()[-20:])
            raise WorkerError(f"the {self._backend} worker ended with status {code}:\n{tail}")
        reply: dict[str, Any] = json.loads(line)
        return reply


@dataclass
class Timing:
    """Timings of one implementation at one size, in seconds."""

    median: float
    minimum: float
    all: list[float] = field(repr=False)

    @classmethod
    def of(cls, calls: list[Call]) -> Timing:
        """Summarise a list of calls."""
        seconds = [call.seconds for call in calls]
        return cls(median=statistics.median(seconds), minimum=min(seconds), all=seconds)


@dataclass
class Row:
    """Results at one size.

    Attributes:
        n_atoms: Number of atoms.
        ours: Timings of DPA4Calculator, None if it was left out.
        reference: Timings of the reference, None if it was left out.
        ratio: Median of ours over median of the reference.
        energy_error: Largest energy difference over all calls, eV.
        force_error: Largest force-component difference over all calls, eV/Å.
        stress_error: Largest stress-component difference over all calls, eV/Å³.
        agree: Whether the energies agreed within the tolerance in every call.
    """

    n_atoms: int
    ours: Timing | None = None
    reference: Timing | None = None
    ratio: float | None = None
    energy_error: float | None = None
    force_error: float | None = None
    stress_error: float | None = None
    agree: bool | None = None


def energies_agree(first: float, second: float) -> bool:
    """Tell whether two energies (eV) agree within 1e-5 eV + 5e-8 |E|."""
    return abs(first - second) < ENERGY_ATOL + ENERGY_RTOL * max(abs(first), abs(second))


def measure(workers: dict[Backend, Worker], n_atoms: int, calls: int, warmup: int, seed: int) -> Row:
    """Time the workers in turn on the same sequence of structures.

    Args:
        workers: The loaded implementations, in the order in which they take turns.
        n_atoms: Number of atoms.
        calls: Number of timed calls of each worker.
        warmup: Number of calls before that whose times are dropped; their energies are still compared.
        seed: Seed of the random structures.

    Returns:
        The timings and, if there are two workers, how well they agree.
    """
    rng = np.random.default_rng((seed, n_atoms))
    done: dict[Backend, list[Call]] = {backend: [] for backend in workers}
    for _ in range(warmup + calls):
        atoms = fresh_silicon(n_atoms, rng)
        for backend, worker in workers.items():
            time.sleep(SETTLE_SECONDS)
            done[backend].append(worker.call(atoms))

    row = Row(n_atoms=n_atoms)
    if "ours" in done:
        row.ours = Timing.of(done["ours"][warmup:])
    if "reference" in done:
        row.reference = Timing.of(done["reference"][warmup:])
    if row.ours is not None and row.reference is not None:
        row.ratio = row.ours.median / row.reference.median
        pairs = list(zip(done["ours"], done["reference"], strict=True))
        row.energy_error = max(abs(a.energy - b.energy) for a, b in pairs)
        row.force_error = max(float(np.abs(a.forces - b.forces).max()) for a, b in pairs)
        row.stress_error = max(float(np.abs(a.stress - b.stress).max()) for a, b in pairs)
        row.agree = all(energies_agree(a.energy, b.energy) for a, b in pairs)
    return row


def machine_info() -> dict[str, Any]:
    """Describe the machine: processor, usable cores, operating system, load average of the last minute."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count()
    return {
        "cpu": model,
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def print_report(rows: list[Row], machine: dict[str, Any], workers: dict[str, dict[str, Any]]) -> None:
    """Print the table and what it was measured with.

    Args:
        rows: One row per size.
        machine: From `machine_info`.
        workers: What each worker said about itself.
    """
    from rich.console import Console
    from rich.table import Table

    def milliseconds(timing: Timing | None) -> tuple[str, str]:
        return ("-", "-") if timing is None else (f"{1e3 * timing.median:.1f}", f"{1e3 * timing.minimum:.1f}")

    def scientific(value: float | None) -> str:
        return "-" if value is None else f"{value:.1e}"

    table = Table(title="One force call (energy, forces, stress), ms")
    columns = (
        "atoms",
        "ours median",
        "ours min",
        "ref. median",
        "ref. min",
        "ours/ref.",
        "max |ΔE| eV",
        "max |ΔF| eV/Å",
    )
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("energies")
    for row in rows:
        table.add_row(
            str(row.n_atoms),
            *milliseconds(row.ours),
            *milliseconds(row.reference),
            "-" if row.ratio is None else f"{row.ratio:.2f}",
            scientific(row.energy_error),
            scientific(row.force_error),
            "-" if row.agree is None else "[green]agree[/]" if row.agree else "[bold red]DIFFER[/]",
        )

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    console.print(table)
    load = "" if machine["load"] is None else f", load average {machine['load']:.2f} before the run"
    console.print(f"machine: {machine['cpu']}, {machine['cores']} cores, {machine['system']}{load}")
    for backend, info in workers.items():
        versions = f"{info['package']}, torch {info['torch']}, Python {info['python']}"
        console.print(f"{backend}: {versions}, {info['threads']} threads")
    if "reference" not in workers:
        console.print("[yellow]No reference interpreter given (--reference-python): timed ours only.[/]")
    if "ours" not in workers:
        console.print("[yellow]Timed the reference only (--reference-only).[/]")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line.

    Args:
        argv: Arguments, default those of the process.

    Returns:
        The parsed arguments.
    """
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", default="dpa4-neo", help="registry name or checkpoint path for ours")
    parser.add_argument("--reference-python", metavar="PATH", help="interpreter which can import the reference")
    parser.add_argument("--checkpoint", metavar="PATH", help="checkpoint for the reference")
    parser.add_argument("--reference-only", action="store_true", help="leave ours out")
    parser.add_argument(
        *("--sizes", "-n"),
        type=int,
        nargs="+",
        choices=sorted(SUPERCELLS),
        default=list(DEFAULT_SIZES),
        help="numbers of atoms",
    )
    parser.add_argument("--calls", type=int, default=10, help="timed calls per size and implementation")
    parser.add_argument("--warmup", type=int, default=3, help="calls per size before the timed ones")
    parser.add_argument("--threads", type=int, default=2, help="threads of each implementation")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random structures")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the rows to this file")
    parser.add_argument("--worker", choices=["ours", "reference"], help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.calls < 1 or arguments.warmup < 0 or arguments.threads < 1:
        parser.error("--calls and --threads must be at least 1, --warmup at least 0")
    if arguments.worker is None:
        if arguments.reference_python and not arguments.checkpoint:
            parser.error("--reference-python needs --checkpoint")
        if arguments.reference_only and not arguments.reference_python:
            parser.error("--reference-only needs --reference-python")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark.

    Args:
        argv: Arguments, default those of the process.

    Returns:
        Exit status: 1 if the energies of the two implementations differ, 2 if a worker failed, else 0.
    """
    arguments = parse_arguments(argv)
    if arguments.worker is not None:
        serve(arguments.worker, arguments.model, arguments.threads)
        return 0

    machine = machine_info()
    workers: dict[Backend, Worker] = {}
    try:
        if not arguments.reference_only:
            workers["ours"] = Worker("ours", sys.executable, arguments.model, arguments.threads)
        if arguments.reference_python:
            checkpoint = str(Path(arguments.checkpoint).resolve())
            workers["reference"] = Worker("reference", arguments.reference_python, checkpoint, arguments.threads)
        rows = []
        for n_atoms in sorted(set(arguments.sizes)):
            print(f"timing {n_atoms} atoms ...", file=sys.stderr, flush=True)
            rows.append(measure(workers, n_atoms, arguments.calls, arguments.warmup, arguments.seed))
    except WorkerError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        for worker in workers.values():
            worker.close()

    infos: dict[str, dict[str, Any]] = {backend: worker.info for backend, worker in workers.items()}
    print_report(rows, machine, infos)
    if arguments.json is not None:
        result = {
            "machine": machine,
            "workers": infos,
            "threads": arguments.threads,
            "calls": arguments.calls,
            "warmup": arguments.warmup,
            "rows": [asdict(row) for row in rows],
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 1 if any(row.agree is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
