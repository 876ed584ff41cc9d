"""Pages are in plain words and short lines, and their links lead somewhere."""

import json
import re

import pytest

from tests.docs.pages import NAMES, PAGES, ROOT, prose

LONGEST = 100
BANNED = (
    r"silenc\w*",
    r"doubt\w*",
    r"reckon\w*",
    r"goes on",
    r"go on",
    r"went on",
    r"set aside",
    r"sets aside",
    r"what of",
    r"solved examples?",
    r"said",
    r"by way of",
)
WORDS = re.compile(rf"\b(?:{'|'.join(BANNED)})\b", flags=re.IGNORECASE)
QUOTED = re.compile(r"`[^`]*`|\]\([^)]*\)|^> .*$", flags=re.MULTILINE)
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


def notebook_text(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return "\n".join(line for line in text.splitlines() if "colab-badge" not in line)


TEXTS = {name: page.read_text(encoding="utf-8") for name, page in zip(NAMES, PAGES, strict=True)}
TEXTS |= {path.name: notebook_text(path) for path in NOTEBOOKS}


@pytest.mark.parametrize("name", TEXTS)
def test_lines_of_prose_are_short(name):
    assert [number for number, line in prose(TEXTS[name]) if len(line) > LONGEST] == []


@pytest.mark.parametrize("name", TEXTS)
def test_words_are_those_of_the_field(name):
    found = [(number, WORDS.findall(QUOTED.sub("", line))) for number, line in prose(TEXTS[name])]
    assert [(number, words) for number, words in found if words] == []


@pytest.mark.parametrize("name", NAMES)
def test_links_inside_the_repository_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#\s]+)", TEXTS[name]):
        if "://" not in target:
            assert ((ROOT / name).parent / target).exists(), target
