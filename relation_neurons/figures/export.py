"""Save figures as offline pages or as images for papers and slides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

from relation_neurons.errors import nearest, refuse
from relation_neurons.figures.style import INK

IMAGES = ("png", "svg", "pdf")
FORMATS = ("html", *IMAGES)
HEIGHT = 500
"""Height in pixels of figures without a height of their own."""
NEEDED = "pip install 'kaleido>=1.0', and install Chrome or Chromium (kaleido_get_chrome downloads one)"


def save_figure(
    figure: go.Figure, path: Path, *, width: int = 1000, height: int | None = None, scale: float = 2
) -> Path:
    """Save a figure with dark text on white, in the format given by the file extension.

    Args:
        figure: Any figure of `relation_neurons.figures`; it is not modified.
        path: File ending in .html (one page that includes plotly and works offline), or in .png, .svg
            or .pdf (which need Kaleido and Chrome or Chromium).
        width: Width of an image in pixels; a page adapts to its window.
        height: Height of an image in pixels; by default the figure's own height.
        scale: Resolution of a .png relative to its size in pixels.

    Returns:
        The path.

    Raises:
        RelationNeuronsError: If the extension is unknown, the file cannot be written, or Kaleido or a
            browser is missing.
    """
    return save_figures({Path(path): figure}, width=width, height=height, scale=scale)[0]


def save_figures(
    figures: Mapping[Path, go.Figure], *, width: int = 1000, height: int | None = None, scale: float = 2
) -> list[Path]:
    """Save several figures like `save_figure`, starting the browser only once."""
    images: dict[Path, go.Figure] = {}
    for path, figure in figures.items():
        extension = path.suffix.removeprefix(".").lower()
        if extension not in FORMATS:
            raise refuse(f"'{path.name}' has an unknown extension", expected=nearest(extension, FORMATS))
        printed = on_white(figure)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if extension == "html":
                page = printed.to_html(include_plotlyjs=True, config={"displaylogo": False, "responsive": True})
                path.write_text(page, encoding="utf-8")
        except OSError as error:
            raise refuse(f"{path} cannot be written ({error.strerror})", do="choose another path") from error
        if extension != "html":
            images[path] = printed
    if images:
        _write_images(images, width, height, scale)
    return list(figures)


def on_white(figure: go.Figure) -> go.Figure:
    """Copy a figure, with dark text on white instead of grey text without background."""
    return go.Figure(figure).update_layout(paper_bgcolor="white", plot_bgcolor="white", font_color=INK)


def _write_images(images: Mapping[Path, go.Figure], width: int, height: int | None, scale: float) -> None:
    """Render images in the browser, without MathJax, which would be downloaded."""
    try:
        import kaleido
        from kaleido.errors import KaleidoError
    except ImportError as error:
        raise refuse("Kaleido, which is needed for images, is not installed", do=NEEDED) from error
    jobs = [
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
        kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False})
    except (KaleidoError, RuntimeError, OSError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise refuse(f"The images could not be created ({first})", do=NEEDED) from error
