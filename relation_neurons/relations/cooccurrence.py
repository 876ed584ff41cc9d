"""How often a corpus names a fact's subject and its object, counted in documents (for the paper's Figure 23).

A document names something where the words of the name follow each other. As for `relations.key`, case and compatibility
forms do not count, nor do accents (of Latin, Greek and Cyrillic letters) and what is neither letter nor digit:
"Rolls-Royce" is found in "ROLLS ROYCE", "São Tomé" in "sao tome's". Words count as a whole: "Paris" is not found in
"Parisian". Scripts without spaces (Chinese, Japanese with its Katakana, Thai, Lao, Burmese, Khmer) show no words, so
there a name is found wherever its characters stand side by side: "京都" in "東京都" too.

Names are not disambiguated: "US" is found in "us", "Phoenix" may be a bird; and an object that stands inside its
subject, as Microsoft in Microsoft Word, is found wherever the subject is.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from relation_neurons.errors import nearest, refuse
from relation_neurons.progress import Progress, silent
from relation_neurons.relations.corpus import SUFFIXES, corpus_files, documents, refuse_file
from relation_neurons.relations.relation import Relation, key
from relation_neurons.relations.tables import shown
from relation_neurons.storage.files import read_parquet

COLUMNS = ("relation", "subject", "object", "n_subject", "n_object", "n_both", "n_documents")
REQUIRED = ("relation", "subject", "object", "n_both")

_ACCENTS = re.compile("[\u0300-\u036f]+")
# Thai and Lao, Burmese, Khmer, Hiragana and Katakana, Chinese characters: here each character is a word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u9fff\U00020000-\U000323af]"
)
_COUNT = re.compile(r"[0-9]{1,15}(\.0+)?")
_SHORT = 32  # characters up to which a piece of text is likely to come again


class _Node(NamedTuple):
    """What the words so far spell: the numbers of the things so named, and where further words lead."""

    ends: list[int]
    after: dict[str, _Node]


def count_cooccurrences(relations: Sequence[Relation], corpus: Path, *, progress: Progress = silent) -> pd.DataFrame:
    """Count the documents that name each fact's subject, its object, and both.

    Args:
        relations: The facts.
        corpus: A file or a folder, as described at the head of `relation_neurons.relations.corpus`.
        progress: Told of each finished file; there are as many as `corpus_files` finds.

    Returns:
        A row per fact, in order: `relation`, `subject`, `object`, `n_subject`, `n_object` (documents with the object
        or any of its aliases), `n_both`, and `n_documents`, the size of the corpus.

    Raises:
        RelationNeuronsError: No documents, a file that cannot be read or used, or a name without letters or digits.
    """
    facts = [(relation.name, fact) for relation in relations for fact in relation.facts]
    things: dict[tuple[str, ...], int] = {}  # subjects and objects, numbered by all their names
    pairs = [
        [things.setdefault(names, len(things)) for names in ((fact.subject,), (fact.object, *fact.aliases))]
        for _, fact in facts
    ]
    partners: dict[int, set[int]] = defaultdict(set)
    for one, other in pairs:
        partners[one].add(other)
    tree, n_documents = _tree(things), 0
    single: Counter[int] = Counter()
    both: Counter[tuple[int, int]] = Counter()
    for words in _documents_as_words(corpus, progress):
        n_documents += 1
        found = _named(tree, words)
        single.update(found)
        both.update((one, other) for one in found if one in partners for other in partners[one] & found)
    if not n_documents:
        raise refuse(f"Corpus {corpus} has no documents", expected=f"files that end in {', '.join(SUFFIXES)}")
    rows = [
        (relation, fact.subject, fact.object, single[one], single[other], both[one, other], n_documents)
        for (relation, fact), (one, other) in zip(facts, pairs, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read_cooccurrences(path: Path, relations: Sequence[Relation]) -> pd.DataFrame:
    """Read counts made elsewhere.

    Args:
        path: A `.csv` (UTF-8, commas between cells) or `.parquet` with the columns `relation`, `subject`, `object`,
            `n_both` and, if it has them, the others of `count_cooccurrences`.
        relations: The facts. Subjects and objects are compared by `relations.key`.

    Returns:
        A row per distinct fact that the table has, in the order of the facts and spelt as they are. Facts that it
        lacks have no row; their number is `attrs["n_facts_missing"]`. Rows for other facts are left out; their number
        is `attrs["n_rows_unused"]`.

    Raises:
        RelationNeuronsError: Not readable, a missing column, a count that is no whole number from 0, a relation that
            is not among `relations`, a fact that stands twice, or none of the facts.
    """
    table = _read_table(path)
    columns = [column for column in COLUMNS if list(table.columns).count(column) == 1]
    if not {*REQUIRED} <= {*columns}:
        found = f"{path}: has the columns {', '.join(map(str, table.columns))}"
        raise refuse(found, expected=f"{', '.join(REQUIRED)}, each once")
    facts = {
        (relation.name, key(fact.subject), key(fact.object)): (relation.name, fact.subject, fact.object)
        for relation in relations
        for fact in relation.facts
    }
    names = {relation.name for relation in relations}
    rows: dict[tuple[str, str, str], list[int]] = {}
    for number, cells in enumerate(table[columns].astype("object").fillna("").itertuples(index=False), start=1):
        where = f"{path}, row {number}"
        relation, subject, name, *counts = map(partial(_cell, where), columns, cells)
        if relation not in names:
            raise refuse(f"{where}: relation {shown(relation)} is unknown", expected=nearest(relation, names))
        fact = (relation, key(subject), key(name))
        if fact in rows:
            raise refuse(f"{where}: {shown(subject)}, {shown(name)} stands twice", expected="one row for each fact")
        rows[fact] = [int(count.split(".")[0]) for count in counts]
    kept = pd.DataFrame([(*facts[fact], *rows[fact]) for fact in facts if fact in rows], columns=columns)
    if kept.empty:
        raise refuse(f"{path}: has none of the {len(facts)} facts", do="check how subjects and objects are spelt")
    kept.attrs = {"n_facts_missing": len(facts) - len(kept), "n_rows_unused": len(rows) - len(kept)}
    return kept


def _documents_as_words(corpus: Path, progress: Progress) -> Iterator[list[str]]:
    split = lru_cache(maxsize=1 << 17)(_split)
    for path in corpus_files(corpus):
        for text in documents(path):
            words: list[str] = []
            for piece in text.split():
                words += split(piece) if len(piece) <= _SHORT else _split(piece)
            yield words
        progress(1)


def _split(text: str) -> tuple[str, ...]:
    """The words of a text, folded. No folding reaches across white space, so a text may be cut there before."""
    bare = _ACCENTS.sub("", unicodedata.normalize("NFD", key(text)))
    return tuple("".join(map(_spaced, unicodedata.normalize("NFC", bare))).split())


@lru_cache(maxsize=1 << 16)
def _spaced(character: str) -> str:
    """A character of a word, between spaces if it is a word by itself; a space for all other characters."""
    is_mark = unicodedata.category(character).startswith("M")  # as many scripts write vowels
    if not character.isalnum() and not is_mark:
        return " "
    return f" {character} " if _UNSPACED.match(character) else character


def _tree(things: Mapping[tuple[str, ...], int]) -> dict[str, _Node]:
    """All names, word by word from the first."""
    root = _Node([], {})
    for names, number in things.items():
        for words in map(_split, names):
            if not words:
                raise refuse(f"The name {shown(names[0])} or an alias has no letter or digit", do="leave it out")
            node = root
            for word in words:
                node = node.after.setdefault(word, _Node([], {}))
            node.ends.append(number)
    return root.after


def _named(tree: Mapping[str, _Node], words: Sequence[str]) -> set[int]:
    """The numbers of all that is named in a text."""
    found: set[int] = set()
    for start, word in enumerate(words):
        node, end = tree.get(word), start
        while node is not None:
            found.update(node.ends)
            end += 1
            node = node.after.get(words[end]) if end < len(words) else None
    return found


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix not in (".csv", ".parquet"):
        raise refuse(f"{path}: is of an unknown kind", expected="a name that ends in .csv or .parquet")
    if path.suffix == ".parquet":
        return read_parquet(path, "check what wrote it")
    try:
        texts = pa.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()))
        return pa.csv.read_csv(path, convert_options=texts).to_pandas()
    except (OSError, ValueError) as error:
        refuse_file(path, error)


def _cell(where: str, column: str, value: object) -> str:
    text, is_count = str(value).strip(), column.startswith("n_")
    if not (_COUNT.fullmatch(text) if is_count else text):
        expected = "a whole number from 0" if is_count else "a text that is not empty"
        raise refuse(f"{where}, column '{column}': is {shown(value)}", expected=expected)
    return text
