"""`dpa4 doctor`: what this installation can do, and how to mend what it cannot."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
import typer
from fireworks import fw_config
from rich.markup import escape
from rich.table import Table

from dpa4_core.errors import DPA4Error
from dpa4_core.model import registry
from dpa4_core.shares import n_processes
from dpa4_core.version import code_version
from dpa4_flows.bundled import bundled_campaigns
from dpa4_flows.cli.console import out, print_json
from dpa4_flows.cli.lazy import USER_ERROR
from dpa4_flows.cli.options import AsJson
from dpa4_flows.engines import open_launchpad
from dpa4_flows.store.jobs import load_job_store

DEFAULT_MODEL = "dpa4-neo"

EXTRAS = {
    "nvalchemiops": ("batched neighbour lists on CUDA", "pip install 'dpa4-flows[cuda]'"),
    "phonopy": ("phonons in dpa4 stability", "pip install 'dpa4-flows[phonons]'"),
    "torch_sim": ("the potentials in torch-sim", "pip install 'dpa4-flows[torchsim]' (Python 3.12 or later)"),
}
"""Optional modules: what they are for and how to get them."""

app = typer.Typer()


class Check(NamedTuple):
    """One line of the report; ``problem`` stops work, ``note`` does not."""

    name: str
    status: Literal["ok", "note", "problem"]
    text: str


@app.command()
def doctor(
    as_json: AsJson = False,
) -> None:
    """Check Python, torch, threads, cache, model, extras, Materials Project key and FireWorks.

    The exit code is 1 if something that every command needs is missing; notes are about optional parts.
    """
    checks = [check for group in (_software(), _hardware(), _models(), _services()) for check in group]
    if as_json:
        print_json([check._asdict() for check in checks])
    else:
        table = Table("", "what", "found", show_lines=False)
        marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[bold red]problem[/]"}
        for check in checks:
            table.add_row(marks[check.status], check.name, escape(check.text))
        out.print(table)
    if any(check.status == "problem" for check in checks):
        raise typer.Exit(USER_ERROR)


def _software() -> Iterator[Check]:
    yield Check("dpa4-flows", "ok", code_version())
    version = platform.python_version_tuple()
    supported = (3, 11) <= (int(version[0]), int(version[1])) <= (3, 13)
    text = platform.python_version() + ("" if supported else "; 3.11 to 3.13 are tested")
    yield Check("Python", "ok" if supported else "note", text)
    for package in ("torch", "pymatgen", "jobflow", "atomate2", "FireWorks"):
        yield Check(package, "ok", importlib.metadata.version(package))
    for module, (purpose, remedy) in EXTRAS.items():
        found = importlib.util.find_spec(module) is not None
        yield Check(
            module,
            "ok" if found else "note",
            f"for {purpose}" + ("" if found else f"; not installed: {remedy}"),
        )


def _hardware() -> Iterator[Check]:
    shared = f"; batches are shared among {n_processes()} processes" if n_processes() > 1 else ""
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} (OMP_NUM_THREADS or --threads){shared}"
    yield Check("CPU threads", "ok", threads)
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Check("CUDA", "ok", ", ".join(names))
    elif torch.backends.mps.is_available():
        yield Check("MPS", "ok", "Apple GPU; best effort, with --device mps")
    else:
        yield Check("GPU", "note", "none; everything runs on the CPU")


def _models() -> Iterator[Check]:
    folder = registry.cache_dir()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    writable = os.access(nearest, os.W_OK)
    yield Check(
        "model cache",
        "ok" if writable else "problem",
        f"{folder}" + ("" if writable else " cannot be written"),
    )
    cached = registry.is_cached(DEFAULT_MODEL)
    text = "in the cache" if cached else f"not fetched yet: dpa4 fetch {DEFAULT_MODEL}"
    yield Check(DEFAULT_MODEL, "ok" if cached else "note", text)
    names = ", ".join(bundled_campaigns())
    yield Check("bundled campaigns", "ok" if names else "problem", names or "none; the installation is incomplete")


def _services() -> Iterator[Check]:
    key = os.environ.get("MP_API_KEY") or os.environ.get("PMG_MAPI_KEY") or ""
    if not key:
        yield Check("Materials Project key", "note", "none; set MP_API_KEY to fetch competing phases online")
    elif len(key) != 32:
        yield Check("Materials Project key", "note", f"MP_API_KEY has {len(key)} characters, a key has 32")
    else:
        yield Check("Materials Project key", "ok", "set")
    if fw_config.LAUNCHPAD_LOC is None:
        yield Check("FireWorks LaunchPad", "note", "no my_launchpad.yaml; needed for --engine fireworks only")
    else:
        yield _service("FireWorks LaunchPad", f"{fw_config.LAUNCHPAD_LOC} answers", _open_and_close)
        yield _service("jobflow store", "configured for workers", load_job_store)


def _open_and_close() -> None:
    with open_launchpad():
        pass


def _service(name: str, success: str, check: Callable[[], object]) -> Check:
    try:
        check()
    except DPA4Error as error:
        return Check(name, "note", str(error))
    return Check(name, "ok", success)
