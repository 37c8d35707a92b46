"""Files that come with the program: campaigns, found in a source checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

CAMPAIGN_FILE = "campaign.toml"

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = (_PACKAGE / "_workflows", _PACKAGE.parent / "workflows")  # wheel, source checkout


def bundled_campaigns() -> dict[str, Path]:
    """Folder of each bundled campaign by name."""
    found: dict[str, Path] = {}
    for folder in _FOLDERS:
        for file in sorted(folder.glob(f"*/{CAMPAIGN_FILE}")):
            found.setdefault(file.parent.name, file.parent)
    return found


def bundled_compounds() -> list[Path]:
    """Files with the competing compounds of all bundled campaigns."""
    folders = bundled_campaigns().values()
    return [file for folder in folders for file in sorted((folder / "structures").glob("competing*.json*"))]
