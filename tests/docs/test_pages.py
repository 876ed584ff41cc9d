"""Links lead somewhere."""

import re

import pytest

from tests.docs.pages import NAMES, ROOT


@pytest.mark.parametrize("name", NAMES)
def test_links_inside_the_repository_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / name).read_text(encoding="utf-8")):
        if "://" not in target:
            assert ((ROOT / name).parent / target).exists(), target
