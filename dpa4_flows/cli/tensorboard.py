"""The log of a training run as TensorBoard reads it, where that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from dpa4_core.errors import DPA4Error

_NOT_PLOTTED = ("kind", "step", "end", "epoch", "improved")


class TensorBoardLog:
    """Writes every number of a record under its kind.

    Args:
        folder: of the run; event files are in ``tensorboard`` in it, or in the folders of the members of a committee.

    Raises:
        DPA4Error: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise DPA4Error("--tensorboard needs a package: pip install 'dpa4-flows[tensorboard]'") from error
        self._open = lambda place: SummaryWriter(str(place / "tensorboard"))
        self._folder = folder
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, record: dict[str, Any]) -> None:
        """Add one record of the log."""
        if record["kind"] == "member":
            self.close()
            self._folder = Path(record["folder"])
        if record["kind"] not in ("train", "validation"):
            return
        self._writer = self._writer or self._open(self._folder)
        timing = record.get("timing") or {}
        for name, value in {**record, **timing}.items():
            if isinstance(value, int | float) and name not in _NOT_PLOTTED:
                self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None
