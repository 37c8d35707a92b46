"""One self-contained HTML page from a template: style, script and plotly.js are put inline, figures as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from dpa4_flows.plots.figure import FigureBlock


def render_page(template: str, blocks: Iterable[FigureBlock], /, **values: Any) -> str:
    """The page as text.

    Args:
        template: file beside this one.
        blocks: all figures that the page shows.
        values: what else the template asks for; text is escaped.
    """
    folder = resources.files("dpa4_flows.report")
    environment = Environment(
        loader=PackageLoader("dpa4_flows", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["count"] = "{:,}".format
    figure_data = {block.name: script_json(block.figure.to_json()) for block in blocks}
    return environment.get_template(template).render(
        style=(folder / "style.css").read_text(encoding="utf-8"),
        script=(folder / "script.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs() if figure_data else "",
        figure_data=figure_data,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **values,
    )


def script_json(text: str) -> str:
    """JSON that cannot end the script element it stands in."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
