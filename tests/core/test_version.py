"""The version of the code: that of the package, and of a checkout its revision, from the files of git."""

from __future__ import annotations

from pathlib import Path

from dpa4_core.version import __version__, _revision, code_version

REVISION = "7f21790" + 33 * "a"


def test_the_revision_of_a_checkout_is_found_however_git_keeps_it(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    assert _revision(git) == ""  # an installed package
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text(f"{REVISION}\n")
    assert _revision(git) == REVISION
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert _revision(git) == ""  # no commit yet
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{REVISION} refs/heads/main\n")
    assert _revision(git) == REVISION
    (git / "refs" / "heads" / "main").write_text("b" + REVISION[1:])
    assert _revision(git).startswith("bf21790")
    own = git / "worktrees" / "other"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/other\n")
    (own / "commondir").write_text("../..\n")
    (git / "refs" / "heads" / "other").write_text("c" + REVISION[1:])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".git").write_text(f"gitdir: {own}\n")
    assert _revision(tmp_path / "other" / ".git").startswith("cf21790")


def test_the_version_of_the_code_begins_with_that_of_the_package() -> None:
    assert code_version() == __version__ or code_version().startswith(f"{__version__}+g")
