"""Version of the distribution, and of the code that runs: what results are marked with."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _installed() -> str:
    try:
        return version("dpa4-flows")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+source"


__version__ = _installed()

_SHOWN = 10  # digits of a revision


@cache
def code_version() -> str:
    """Version of the code: that of the package, with the revision where it runs from a checkout (``0.1.0+g7f21790``).

    Changes that were not committed do not show.
    """
    revision = _revision(Path(__file__).resolve().parent.parent / ".git")
    return f"{__version__}+g{revision[:_SHOWN]}" if revision else __version__


def _revision(git: Path) -> str:
    """Commit that is checked out, from the files of git; empty where there are none, or others than expected."""
    try:
        if git.is_file():  # of a worktree: it says where its own are
            git = git.parent / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
        for place in (git / name, common / name):
            if place.is_file():
                return place.read_text().strip()
        packed = (line.split() for line in (common / "packed-refs").read_text().splitlines())
        return next((line[0] for line in packed if line[1:] == [name]), "")
    except (OSError, ValueError):
        return ""
