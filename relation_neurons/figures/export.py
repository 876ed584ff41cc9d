"""Figures as files: pages that work offline, and images for papers and slides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

from relation_neurons.errors import nearest, refuse
from relation_neurons.figures.style import INK

IMAGES = ("png", "svg", "pdf")
FORMATS = ("html", *IMAGES)
HEIGHT = 500
"""Of figures that ask for none."""
NEEDED = "pip install 'kaleido>=1.0', and install Chrome or Chromium (kaleido_get_chrome downloads one)"


def save_figure(
    figure: go.Figure, path: Path, *, width: int = 1000, height: int | None = None, scale: float = 2
) -> Path:
    """Write a figure, dark on white; what it is like is told by the ending.

    Args:
        figure: Any of `relation_neurons.figures`; it stays as it is.
        path: Ends in .html (one page with plotly inside, which needs no network), .png, .svg or .pdf (which need
            Kaleido and a Chrome or Chromium).
        width: In pixels; a page is as wide as its window.
        height: In pixels; by default what the figure asks for.
        scale: How many pixels of a .png there are to one.

    Returns:
        The path.

    Raises:
        RelationNeuronsError: Another ending, a folder that cannot be written, or no Kaleido or browser.
    """
    return save_figures({Path(path): figure}, width=width, height=height, scale=scale)[0]


def save_figures(
    figures: Mapping[Path, go.Figure], *, width: int = 1000, height: int | None = None, scale: float = 2
) -> list[Path]:
    """Write several figures, all images with one start of the browser; otherwise as `save_figure`."""
    images: dict[Path, go.Figure] = {}
    for path, figure in figures.items():
        ending = path.suffix.removeprefix(".").lower()
        if ending not in FORMATS:
            raise refuse(f"'{path.name}' ends in none of the known formats", expected=nearest(ending, FORMATS))
        printed = on_white(figure)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if ending == "html":
                page = printed.to_html(include_plotlyjs=True, config={"displaylogo": False, "responsive": True})
                path.write_text(page, encoding="utf-8")
        except OSError as error:
            raise refuse(f"{path} cannot be written ({error.strerror})", do="choose another place") from error
        if ending != "html":
            images[path] = printed
    if images:
        _write_images(images, width, height, scale)
    return list(figures)


def on_white(figure: go.Figure) -> go.Figure:
    """A copy with dark text on white, without the grey that is legible on dark pages too."""
    return go.Figure(figure).update_layout(paper_bgcolor="white", plot_bgcolor="white", font_color=INK)


def _write_images(images: Mapping[Path, go.Figure], width: int, height: int | None, scale: float) -> None:
    """Let the browser draw; MathJax, which would be fetched from the network, is not needed."""
    try:
        import kaleido
        from kaleido.errors import KaleidoError
    except ImportError as error:
        raise refuse("Kaleido, which makes images, is not installed", do=NEEDED) from error
    orders = [
        {
            "fig": figure.to_dict(),
            "path": path,
            "opts": {
                "format": path.suffix.removeprefix(".").lower(),
                "width": width,
                "height": height or figure.layout.height or HEIGHT,
                "scale": scale,
            },
        }
        for path, figure in images.items()
    ]
    try:
        kaleido.write_fig_from_object_sync(orders, kopts={"mathjax": False})
    except (KaleidoError, RuntimeError, OSError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise refuse(f"The images could not be made ({first})", do=NEEDED) from error
