"""The folder of a large run: what it computes with what, and where everything lies in it.

``dpa4-run.json``   model, settings, input: written once, never changed
``inputs.parquet``  the input files with their sizes, times and numbers of structures
``shards/``         one Parquet file for each finished slice of the input
``journal/``        results of unfinished slices, a line for each
``claims/``         who computes which slice
``workers/``        heartbeats and counts of the processes
``logs/``           what the processes of ``--workers`` have to say
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpa4_core.data.readers import RUN_FILE
from dpa4_core.digests import digest
from dpa4_core.errors import DPA4Error
from dpa4_core.files import write_json
from dpa4_core.version import code_version
from dpa4_flows.large.inputs import fingerprint, first_difference, read_index, write_index
from dpa4_flows.large.rows import SCHEMA, Row, read_attempts, read_journal, read_shard
from dpa4_flows.model_ref import ModelRef

INDEX_FILE = "inputs.parquet"
FORMAT_VERSION = 1
COMMANDS = {"relax": "relax", "static": "predict"}
"""What computes each kind of calculation on the command line."""

_FOLDERS = ("shards", "journal", "claims", "workers", "logs")
_SLICES = 64  # of a small input, so that several workers have something to do
_LARGEST_SLICE = 1000  # rows of a shard: some MB


class RunFolderError(DPA4Error):
    """The folder of a run cannot be used as asked; one sentence."""


@dataclass(frozen=True)
class Task:
    """What is computed for each structure.

    Attributes:
        calculation: ``"relax"`` or ``"static"``.
        model: with its checksum.
        settings: every setting that changes the numbers, as the keys of calculations have them.
        with_forces: whether the rows hold forces.
        level_of_theory: of the model, for the reader.
    """

    calculation: str
    model: ModelRef
    settings: dict[str, Any]
    with_forces: bool
    level_of_theory: str = ""

    def identity(self) -> dict[str, Any]:
        """What must agree for results to share a folder."""
        return {
            "calculation": self.calculation,
            "model_sha256": self.model.sha256,
            "settings": self.settings,
            "with_forces": self.with_forces,
        }


@dataclass(frozen=True)
class RunFolder:
    """A run whose folder exists.

    Attributes:
        path: the folder.
        task: what is computed.
        fingerprint: of the input files.
        n_structures: in the input, broken ones included.
        slice_size: structures in a slice, and rows in a shard.
        created: ISO 8601.
        inputs: files and folders as they were given, the first hundred.
        started_in: folder that their names are relative to; empty in a run of an older version.
        code_version: of the code that began it.
    """

    path: Path
    task: Task
    fingerprint: str
    n_structures: int
    slice_size: int
    created: str
    inputs: list[str] = field(default_factory=list)
    started_in: str = ""
    code_version: str = ""

    def input_paths(self) -> list[Path]:
        """All files and folders of the input, where they were when the run was made."""
        found = {i: Path(text) for i, text in enumerate(self.inputs)}
        for file in read_index(self.path / INDEX_FILE):
            if file.input not in found:
                found[file.input] = Path(file.label.removesuffix(file.relative))
        return [Path(self.started_in) / found[i] for i in sorted(found)]

    @property
    def n_slices(self) -> int:
        return -(-self.n_structures // self.slice_size)

    def slice_length(self, number: int) -> int:
        """Structures in slice ``number``; the last one may be shorter."""
        return min(self.slice_size, self.n_structures - number * self.slice_size)

    def shard(self, number: int) -> Path:
        return self.path / "shards" / f"{number:06d}.parquet"

    def journals(self, number: int) -> list[Path]:
        """Journals of slice ``number``, one for each process that worked on it, in their order."""
        found = (self.path / "journal").glob(f"{number:06d}.*.jsonl")
        return sorted(found, key=lambda path: int(path.name.split(".")[1]))

    def journal(self, number: int, generation: int) -> Path:
        """Journal of the process that holds slice ``number`` with this generation of its lease."""
        return self.path / "journal" / f"{number:06d}.{generation}.jsonl"

    def unfinished(self) -> list[int]:
        """Numbers of the slices without a shard."""
        done = set(self.finished())
        return [number for number in range(self.n_slices) if number not in done]

    def finished(self) -> list[int]:
        """Numbers of the slices with a shard."""
        names = (path.name.partition(".")[0] for path in (self.path / "shards").glob("*.parquet"))
        return sorted(int(name) for name in names if name.isdecimal())

    def journal_rows(self, number: int) -> dict[int, Row]:
        """Results of an unfinished slice by index; of two for the same structure the later one."""
        return {row["index"]: row for path in self.journals(number) for row in read_journal(path)}

    def attempts(self, number: int) -> Counter[int]:
        """How often a process began to compute a structure of slice ``number`` alone."""
        return Counter(index for path in self.journals(number) for index in read_attempts(path))

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """All results in the order of the input, finished or not, a shard at a time."""
        names = columns or SCHEMA.names
        for number in range(self.n_slices):
            found = {} if self.shard(number).exists() else self.journal_rows(number)
            if self.shard(number).exists():  # perhaps by now, and its journals are gone
                yield from read_shard(self.shard(number), columns)
            else:
                for index in sorted(found):
                    yield {name: found[index].get(name) for name in names}

    def origin(self) -> dict[str, str]:
        """Model and code, for a row of a table."""
        return {
            "model_name": self.task.model.title,
            "model_sha256": self.task.model.sha256 or "",
            "level_of_theory": self.task.level_of_theory,
            "code_version": self.code_version,
        }

    def facts(self) -> dict[str, Any]:
        """What a file of results says about its origin."""
        return {
            **self.origin(),
            **self.task.identity(),
            "fingerprint": self.fingerprint,
            "n_structures": self.n_structures,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def clean(self, numbers: Collection[int]) -> None:
        """Remove what only unfinished slices need, of slices that nobody is at work on any more."""
        for folder in ("journal", "claims"):
            with suppress(OSError):  # another process does the same, or still looks
                for path in (self.path / folder).iterdir():
                    number = path.name.partition(".")[0]
                    if not number.isdecimal() or int(number) in numbers:
                        path.unlink(missing_ok=True)
        for path in (self.path / "shards").glob(".*.part"):  # of processes that were killed
            path.unlink(missing_ok=True)


def is_run_folder(path: Path) -> bool:
    """Whether a large run lives in this folder."""
    return (path / RUN_FILE).is_file()


def open_folder(path: Path) -> RunFolder:
    """The run in a folder.

    Raises:
        RunFolderError: there is none, or one of another version.
    """
    try:
        stored = json.loads((path / RUN_FILE).read_text())
        if "task" not in stored:
            raise RunFolderError(f"{path} holds a run of another kind; give another folder")
        if stored["format_version"] != FORMAT_VERSION:
            raise RunFolderError(
                f"{path} has version {stored['format_version']}, this program reads {FORMAT_VERSION}; "
                "use the program that made it"
            )
        task = Task(**{**stored["task"], "model": ModelRef(**stored["task"]["model"])})
        facts = {key: stored[key] for key in ("fingerprint", "n_structures", "slice_size", "created", "inputs")}
        later = {key: stored.get(key, "") for key in ("started_in", "code_version")}
        return RunFolder(path, task, **facts, **later)
    except FileNotFoundError:
        raise RunFolderError(f"{path} is not the folder of a run (no {RUN_FILE} in it)") from None
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(f"{path / RUN_FILE} is not of this program ({error}); give another folder") from None


def prepare_folder(
    path: Path, task: Task, inputs: Sequence[Path], counted: Callable[[int], None] = lambda total: None
) -> RunFolder:
    """Make the folder of a run, or find that it holds a part of exactly this run.

    Args:
        path: the folder.
        task: what to compute.
        inputs: files and folders, all of them different.
        counted: told now and then how many structures were found.

    Raises:
        RunFolderError: the folder holds something else.
        StructureError: an input is missing, or there is no structure.
    """
    if not is_run_folder(path):
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"{path} is a file; give a folder")
        ours = (RUN_FILE, INDEX_FILE, *_FOLDERS)  # another process may just be making them
        found = [p.name for p in path.iterdir()] if path.exists() else []
        if strange := [name for name in found if name not in ours and not name.endswith(".part")]:
            raise RunFolderError(f"{path} holds other files ({strange[0]}); give the name of a new folder")
        _create(path, task, inputs, counted)
    run = open_folder(path)
    _refuse_others(run, task, inputs)
    for name in _FOLDERS:
        (path / name).mkdir(exist_ok=True)
    return run


def _create(path: Path, task: Task, inputs: Sequence[Path], counted: Callable[[int], None]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    try:
        total, identity = write_index(path / INDEX_FILE, inputs, counted)
    except ValueError:
        with suppress(OSError):
            path.rmdir()
        raise
    stored = {
        "format_version": FORMAT_VERSION,
        "task": {**asdict(task), "model": asdict(task.model)},
        "fingerprint": identity,
        "n_structures": total,
        "slice_size": max(1, min(_LARGEST_SLICE, -(-total // _SLICES))),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
        "inputs": [str(p) for p in inputs[:100]],
        "started_in": str(Path.cwd()),
    }
    if not is_run_folder(path):  # of two that start together both write the same
        write_json(path / RUN_FILE, stored)


def _refuse_others(run: RunFolder, task: Task, inputs: Sequence[Path]) -> None:
    stored, asked = run.task.identity(), task.identity()
    advice = "give another folder for it"
    if stored["calculation"] != asked["calculation"]:
        command = COMMANDS.get(stored["calculation"], stored["calculation"])
        raise RunFolderError(f"{run.path} holds results of `dpa4 {command}`; {advice}")
    if stored["model_sha256"] != asked["model_sha256"]:
        raise RunFolderError(
            f"{run.path} holds results of model {run.task.model.title} (sha256 {str(stored['model_sha256'])[:12]}…), "
            f"not of {task.model.title} ({str(asked['model_sha256'])[:12]}…); {advice}"
        )
    if difference := _difference(stored["settings"], asked["settings"]):
        raise RunFolderError(f"{run.path} holds results with other settings ({difference}); {advice}")
    if stored["with_forces"] != asked["with_forces"]:
        has = "with" if stored["with_forces"] else "without"
        raise RunFolderError(f"{run.path} holds results {has} forces, and now it is asked otherwise; {advice}")
    if run.fingerprint != fingerprint(inputs):
        found = first_difference(run.path / INDEX_FILE, inputs) or "other files"
        raise RunFolderError(f"{run.path} holds results of another input ({found}); {advice}")


def _difference(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    names = [name for name in {**stored, **asked} if digest(stored.get(name)) != digest(asked.get(name))]
    return ", ".join(f"{name} {stored.get(name)} there, {asked.get(name)} now" for name in names)
