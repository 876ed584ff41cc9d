"""Pages of the site that are written elsewhere: README, changelog, notebooks, help texts; and links between them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import posixpath
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
REPOSITORY = "https://github.com/relation-neurons/relation_neurons/blob/main"
WIDTH = 92
"""Of help texts, in letters."""
LINK = re.compile(r"(\]\()([^)\s#]*)(#[^)\s]*)?\)")
FENCED = re.compile(r"(^```.*?^```$)", flags=re.MULTILINE | re.DOTALL)
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "data/README.md": "data.md",
    "data/languages/README.md": "translations.md",
} | {f"notebooks/{path.name}": f"tutorials/{path.stem}.md" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
"""Files of the repository outside `docs`, and the page that each becomes."""
ALONE = "---\nhide: [navigation]\n---\n"
"""In front of a page without neighbours in the navigation."""
DRAWN = {
    "layer_distribution_figure": "layers-layers",
    "controls_figure": "intra-effects-logprob",
    "pairs_figure": "inter-effects-logprob",
    "flips_figure": "inter-flips",
    "dose_slider_figure": "sweep-slider-logprob",
    "dose_figure": "sweep-mean-dose-logprob",
    "steps_figure": "cumulativity-steps",
    "answer_flows_figure": "cumulativity-flows",
    "templates_figure": "templates-templates-logprob",
    "concept_overlap_figure": "concepts-overlaps",
    "error_kinds_figure": "errors-kinds",
    "language_bars_figure": "languages-bars-accuracy",
    "score_pair_figure": "score-pair",
}
"""Functions that notebooks draw with, and the image of the gallery that shows such a figure."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from other files."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        content = tutorial(text) if source.endswith(".ipynb") else text
        files.append(File.generated(config, page, content=ALONE + content if page == "index.md" else content))
    files.append(File.generated(config, "cli.md", content=ALONE + command_line()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links between files of the repository lead to pages of the site."""
    source = {made: path for path, made in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    replace: Callable[[re.Match[str]], str] = partial(_site_link, source=source, page=page.file.src_uri)
    parts = FENCED.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(replace, part) for part in parts)


def _site_link(link: re.Match[str], source: str, page: str) -> str:
    """A link of a file of the repository, from where its page stands on the site."""
    before, target, anchor = link[1], link[2], link[3] or ""
    if not target or "://" in target:
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    made = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if path.startswith("docs/slurm/") or made is None:
        return f"{before}{REPOSITORY}/{path}{anchor})"
    return f"{before}{posixpath.relpath(made, posixpath.dirname(page) or '.')}{anchor})"


def tutorial(notebook: str) -> str:
    """A notebook as a page: text, code, and for each figure the gallery's example of it."""
    cells = [("".join(cell["source"]), cell["cell_type"]) for cell in json.loads(notebook)["cells"]]
    parts, shown = [], set()
    for source, kind in cells:
        if kind == "markdown":
            parts.append("\n".join(line for line in source.splitlines() if "colab-badge" not in line))
        elif "find_spec" not in source:  # what Colab installs
            parts.append(f"```python\n{source}\n```")
            for function, image in DRAWN.items():
                if f".{function}(" in source and image not in shown:
                    shown.add(image)
                    parts.append(_example(image))
    return "\n\n".join(parts)


def _example(image: str) -> str:
    return f"![Such a figure](../docs/gallery/{image}.png)\n\n*Such a figure, from the [gallery](../docs/gallery.md).*"


@cache
def command_line() -> str:
    """The help text of every command."""
    parts = ["# Command line\n\nThe text that each command prints with `--help`.\n"]
    for words in _commands():
        parts.append(f"{'##' if len(words) < 2 else '###'} {' '.join(words)}\n\n```text\n{help_text(*words)}```\n")
    return "\n".join(parts)


def _commands() -> Iterator[tuple[str, ...]]:
    from relation_neurons.cli.main import command_names

    for name in command_names():
        yield (name,)
        yield from ((name, one) for one in command_names(name))


def help_text(*words: str) -> str:
    """What a command prints with `--help`, in lines of `WIDTH`."""
    from relation_neurons.cli import main

    printed = io.StringIO()
    with (
        patch.object(sys, "argv", ["relation-neurons", *words, "--help"]),
        patch.dict(os.environ, {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        main.main()
    lines = (line.rstrip() for line in printed.getvalue().splitlines())
    return "\n".join(line if line.startswith(" ") else textwrap.fill(line, WIDTH) for line in lines) + "\n"
