"""The files of a run: frames and log, which only grow, and the state to continue from, which is replaced as a whole.

Beside the trajectory ``run.traj`` stand ``run.csv`` (the log), ``run.json`` (model, settings, summary) and
``run.restart.npz``. The state says how far the other two had come when it was written; whatever was added to them
later belongs to steps that will be made again, and is cut off or skipped.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import ase.io
import numpy as np
from ase import Atoms
from ase.io.trajectory import Trajectory, TrajectoryReader

from dpa4_core.data.run_names import RESTART, TRAJECTORY_SUFFIXES
from dpa4_core.data.site_data import with_cartesian_constraints, with_states_in_info
from dpa4_core.errors import DPA4Error
from dpa4_core.files import replacing, replacing_text
from dpa4_core.md.integrators import State
from dpa4_core.md.result import Sample

FORMAT = 1
"""Of the restart file."""


class Paths(NamedTuple):
    """Where the files of a run are."""

    trajectory: Path
    log: Path
    summary: Path
    restart: Path
    lock: Path

    @classmethod
    def of(cls, trajectory: str | Path) -> Paths:
        """The files around ``trajectory``.

        Raises:
            DPA4Error: a suffix that is not one of a trajectory.
        """
        path = Path(trajectory).expanduser()
        if path.suffix.lower() not in TRAJECTORY_SUFFIXES:
            raise DPA4Error(f"{path} is no name of a trajectory; end it in {', '.join(TRAJECTORY_SUFFIXES)}")
        return cls(
            path,
            path.with_suffix(".csv"),
            path.with_suffix(".json"),
            path.with_suffix(RESTART),
            path.with_name(f".{path.stem}.lock"),
        )

    def remove(self) -> None:
        """Delete what an earlier run left; the state first, so that no half of a run is ever continued."""
        for path in (self.restart, self.log, self.summary, self.trajectory):
            path.unlink(missing_ok=True)


class Checkpoint(NamedTuple):
    """A state, and how far frames and log had come.

    Attributes:
        identity: of the run, plain JSON types.
        step: steps made.
        n_frames: frames in the trajectory.
        n_bytes: size of a text trajectory.
        n_rows: rows of the log.
        state: of the integrator.
    """

    identity: dict[str, Any]
    step: int
    n_frames: int
    n_bytes: int
    n_rows: int
    state: State

    def write(self, path: Path) -> None:
        """Replace ``path``."""
        header = {"format": FORMAT, **self._replace(state={})._asdict()}
        with replacing(path) as part, part.open("wb") as stream:
            arrays: dict[str, Any] = {"header": np.array(json.dumps(header)), **self.state}
            np.savez(stream, **arrays)

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """The checkpoint in ``path``.

        Raises:
            DPA4Error: not a restart file, a damaged one, or one of another version.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                header = json.loads(str(arrays["header"]))
                state = {name: arrays[name] for name in arrays.files if name != "header"}
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise DPA4Error(f"{path} is no restart file of a run ({error}); use overwrite to start anew") from error
        if header.pop("format", None) != FORMAT:
            raise DPA4Error(f"{path} is of another version of this program; use overwrite to start anew")
        return cls(**{**header, "state": state})


class Frames(Protocol):
    """A trajectory that is being written."""

    def write(self, atoms: Atoms) -> None:
        """Add a frame."""
        ...

    def size(self) -> int:
        """Bytes, where frames can be cut off."""
        ...

    def close(self) -> None: ...


def open_frames(path: Path, n_frames: int, n_bytes: int) -> Frames:
    """The trajectory after its first ``n_frames`` frames, which take ``n_bytes``; 0 for a new one."""
    if path.suffix.lower() == ".traj":
        return _ASEFrames(path, n_frames)
    return _TextFrames(path, n_bytes)


class _TextFrames:
    """Extended XYZ; what a kill left behind the last state is cut off."""

    def __init__(self, path: Path, n_bytes: int) -> None:
        if n_bytes and (not path.exists() or path.stat().st_size < n_bytes):
            raise DPA4Error(f"{path} has lost frames since its restart file was written; use overwrite to start anew")
        self._stream = path.open("ab")
        self._stream.truncate(n_bytes)
        self._stream.seek(n_bytes)

    def write(self, atoms: Atoms) -> None:
        text = io.StringIO()
        ase.io.write(text, with_cartesian_constraints(atoms), format="extxyz")
        self._stream.write(text.getvalue().encode())
        self._stream.flush()

    def size(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()


class _ASEFrames:
    """ASE's binary format. A frame counts once the header is updated, so a torn one is invisible; frames that came
    after the last state are there already when their steps are made again, and are not added twice.
    """

    def __init__(self, path: Path, n_frames: int) -> None:
        there = 0
        if n_frames == 0:
            path.unlink(missing_ok=True)
        else:
            there = _count(path)
            if there < n_frames:
                raise DPA4Error(f"{path} has {there} frames, its restart file says {n_frames}; use overwrite")
        self._surplus = [read_frame(path, place).info["step"] for place in range(n_frames, there)]
        self._stream = Trajectory(path, mode="a")

    def write(self, atoms: Atoms) -> None:
        while self._surplus and self._surplus[0] <= atoms.info["step"]:
            if self._surplus.pop(0) == atoms.info["step"]:
                return
        self._stream.write(with_states_in_info(atoms))

    def size(self) -> int:
        return 0

    def close(self) -> None:
        self._stream.close()


def read_frames(path: Path) -> Iterator[Atoms]:
    """All frames of a trajectory, one after the other."""
    if path.suffix.lower() == ".traj":
        with TrajectoryReader(path) as reader:
            yield from reader
    else:
        yield from ase.io.iread(path, ":")


def read_frame(path: Path, index: int) -> Atoms:
    """One frame of a trajectory; -1 is the last one."""
    frame = ase.io.read(path, index)
    assert isinstance(frame, Atoms)
    return frame


def _count(path: Path) -> int:
    try:
        with TrajectoryReader(path) as reader:
            return len(reader)
    except Exception as error:  # the reader of ASE raises many types
        raise DPA4Error(f"{path} cannot be read ({error}); use overwrite to start anew") from error


class Log:
    """The rows of a run in a CSV file.

    Args:
        path: file; None keeps the rows in memory only.
        n_rows: rows to keep of the file; the others belong to steps that will be made again.
    """

    def __init__(self, path: Path | None, n_rows: int) -> None:
        self.samples: list[Sample] = []
        self._stream = None
        if path is None:
            return
        if n_rows:
            self.samples = _read_rows(path, n_rows)
        with replacing_text(path) as stream:
            writer = csv.writer(stream)
            writer.writerow(Sample._fields)
            writer.writerows(_texts(sample) for sample in self.samples)
        self._stream = path.open("a", newline="")

    def write(self, sample: Sample) -> None:
        """Add a row."""
        self.samples.append(sample)
        if self._stream is not None:
            csv.writer(self._stream).writerow(_texts(sample))
            self._stream.flush()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


def _texts(sample: Sample) -> Iterable[str]:
    return (repr(value) for value in sample)  # the shortest text that gives the same number


def read_samples(path: Path) -> list[Sample]:
    """The rows of a log, also while it is written: a last line that is not whole is left out.

    Raises:
        DPA4Error: not the log of a run.
    """
    try:
        whole, _, _ = path.read_text().rpartition("\n")
        return _samples(csv.reader(whole.splitlines()))
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise DPA4Error(f"{path} is no log of a run ({error})") from error


def _samples(rows: Iterator[list[str]]) -> list[Sample]:
    """What stands in rows of a CSV file after its head."""
    return [Sample(int(row[0]), *(float(value) for value in row[1:])) for row in islice(rows, 1, None)]


def _read_rows(path: Path, n_rows: int) -> list[Sample]:
    try:
        with path.open(newline="") as stream:
            samples = _samples(islice(csv.reader(stream), n_rows + 1))
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise DPA4Error(f"{path} cannot be read ({error}); use overwrite to start anew") from error
    if len(samples) < n_rows:
        raise DPA4Error(f"{path} has {len(samples)} rows, its restart file says {n_rows}; use overwrite to start anew")
    return samples
