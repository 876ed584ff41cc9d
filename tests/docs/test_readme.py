"""README's first table is what the embedded model writes with the neurons that the page links to."""

import re

import pytest

import relation_neurons as rn
from tests.docs.pages import ROOT

EXAMPLES = {
    "language": "The language spoken in Spain is Spanish. The language spoken in China is Chinese. ",
    "capital": "The capital of Spain is Madrid. The capital of China is Beijing. ",
}
ROW = re.compile(r"^\| (The (\w+) .+? is) \| (\w+) \| (\S+) \| (\w+) \|$", flags=re.MULTILINE)


@pytest.mark.model
def test_the_first_table_is_true(embedded):
    rows = ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(rows) == 4
    sets = rn.load_neurons(ROOT / "docs/gallery/language_neurons.parquet", embedded)
    assert [len(one) for one in sets.values()] == [50, 50]
    prompts = [EXAMPLES[about] + prompt for prompt, about, *_ in rows]
    found = rn.compare_generations(embedded, prompts, sets, max_new_tokens=4).table
    for text, (*_, clean, own, random) in zip(prompts, rows, strict=True):
        written = found[found["prompt"] == text].set_index("condition")["generated"]
        first = {name: re.match(r" (\w+)", words)[1] for name, words in written.items()}
        assert first == {"clean": clean, "language": own.strip("*"), "random": random}
        assert (own != own.strip("*")) == (own.strip("*") != clean)
