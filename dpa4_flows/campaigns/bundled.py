"""Bundled campaigns by name: copied to be adapted, or run as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

from dpa4_flows.bundled import CAMPAIGN_FILE, bundled_campaigns
from dpa4_flows.campaigns.sections import ConfigError


def copy_campaign(name: str, target: Path) -> list[Path]:
    """Copy a bundled campaign to ``target`` and return the files written.

    Raises:
        ConfigError: unknown name, or ``target`` holds files already.
    """
    campaigns = bundled_campaigns()
    if name not in campaigns:
        raise ConfigError(f"no bundled campaign {name!r}; choose from {', '.join(campaigns)}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists and is not an empty folder; name another one")
    shutil.copytree(
        campaigns[name],
        target,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("runs", "__pycache__", ".*"),
    )
    return sorted(path for path in target.rglob("*") if path.is_file())


def find_campaign(name_or_file: str) -> tuple[Path, Path]:
    """Campaign file and the folder that its runs go to by default.

    A file wins over a bundled campaign of the same name; a folder stands for the campaign file in it. Runs of a bundled
    campaign go to the working directory, since an installed package is not a place for results.
    """
    path = Path(name_or_file)
    if path.is_dir() and (path / CAMPAIGN_FILE).is_file():
        path = path / CAMPAIGN_FILE
    if path.is_file():
        return path, path.resolve().parent / "runs"
    campaigns = bundled_campaigns()
    if name_or_file in campaigns:
        return campaigns[name_or_file] / CAMPAIGN_FILE, Path.cwd() / "runs"
    raise ConfigError(
        f"campaign file {name_or_file} does not exist and is not a bundled campaign ({', '.join(campaigns) or 'none'})"
    )
