"""Figures one below the other on a page that needs no network, for commands that draw beside what they print."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from plotly.offline import get_plotlyjs

from dpa4_core.files import write_text
from dpa4_flows.plots.figure import FigureBlock

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
figure {{ margin: 0 0 3rem; }} figcaption {{ color: #555; }}</style>
<script>{plotly}</script></head><body><h1>{title}</h1>
{figures}
<p>{words}</p>
{caveats}</body></html>
"""


def write_page(path: Path, title: str, blocks: Sequence[FigureBlock], words: str, caveats: Sequence[str] = ()) -> None:
    """Write the page.

    Args:
        path: file to write.
        title: of the page.
        blocks: figures; those without a title have none.
        words: below the figures.
        caveats: what to know before the numbers are quoted.
    """
    page = _PAGE.format(
        title=html.escape(title),
        plotly=get_plotlyjs(),
        figures="\n".join(map(_figure, blocks)),
        words=html.escape(words),
        caveats=_caveat_list(caveats),
    )
    write_text(path, page)


def _figure(block: FigureBlock) -> str:
    head = f"<h2>{html.escape(block.title)}</h2>" if block.title else ""
    drawn = block.figure.to_html(full_html=False, include_plotlyjs=False)
    return f"<figure>{head}{drawn}<figcaption>{html.escape(block.caption)}</figcaption></figure>"


def _caveat_list(caveats: Sequence[str]) -> str:
    if not caveats:
        return ""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in caveats)
    return f"<h2>Before quoting these numbers</h2><ul>{items}</ul>"
