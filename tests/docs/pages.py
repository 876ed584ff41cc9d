"""The pages of the documentation, and what is in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *ROOT.glob("docs/**/*.md"),
        *(ROOT / "data" / name for name in ("README.md", "languages/README.md")),
    ]
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCK = re.compile(r"^(<!-- skip: .*? -->\n)?```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str, *, skipped: bool = False) -> list[str]:
    """The fenced blocks of a page in a language: those that can be executed, or those marked to be skipped."""
    return [code for skip, name, code in BLOCK.findall(text) if name == language and bool(skip) == skipped]


def prose(text: str) -> list[tuple[int, str]]:
    """The lines of a page outside fenced blocks and tables, numbered from 1."""
    found, fenced = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.lstrip().startswith("|"):
            found.append((number, line))
    return found
