"""Co-occurrence of subjects and objects in the documents of a corpus (the paper's Figure 23).

A document mentions a name if it contains the words of the name in sequence. As in `relations.key`,
case and compatibility forms are ignored; so are accents (of Latin, Greek and Cyrillic letters) and
all characters that are neither letters nor digits: "Rolls-Royce" matches "ROLLS ROYCE", "São Tomé"
matches "sao tome's". Only whole words match: "Paris" does not match "Parisian". Scripts without
spaces (Chinese, Japanese including Katakana, Thai, Lao, Burmese, Khmer) do not mark words, so a
name in them matches wherever its characters are adjacent: "京都" also matches in "東京都".

Names are not disambiguated: "US" matches "us", and "Phoenix" may be a bird. An object that is part
of its subject, such as Microsoft in Microsoft Word, matches wherever the subject does.
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
from relation_neurons.relations.diagnostics import shown
from relation_neurons.relations.relation import Fact, Relation, fact_ids, key
from relation_neurons.storage.parquet import read_parquet

COLUMNS = ("relation", "subject", "object", "n_subject", "n_object", "n_both", "n_documents", "fact")
REQUIRED = ("relation", "subject", "object", "n_both")

_ACCENTS = re.compile("[\u0300-\u036f]+")
# Thai, Lao, Burmese, Khmer, Hiragana, Katakana and Chinese: each character is treated as a word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u9fff\U00020000-\U000323af]"
)
_COUNT = re.compile(r"[0-9]{1,15}(\.0+)?")
_SHORT = 32  # longest token, in characters, whose words are cached


class _Node(NamedTuple):
    """A node of a trie of words.

    Attributes:
        ends: Ids of the entities with a name that ends here.
        children: The nodes reached by one more word.
    """

    ends: list[int]
    children: dict[str, _Node]


def count_cooccurrences(relations: Sequence[Relation], corpus: Path, *, progress: Progress = silent) -> pd.DataFrame:
    """Count the documents that mention each fact's subject, its object, and both.

    Args:
        relations: The facts.
        corpus: A file or a folder, as described in `relation_neurons.relations.corpus`.
        progress: Called with 1 after each finished file; `corpus_files` lists the files.

    Returns:
        A row per fact, in order: `relation`, `subject`, `object`, `n_subject`, `n_object`
        (documents with the object or any of its aliases), `n_both`, `n_documents`, the size of
        the corpus, and `fact` (see `relation.fact_ids`).

    Raises:
        RelationNeuronsError: The corpus has no documents, a file cannot be read or parsed, or a
            name has no letters or digits.
    """
    facts = _named_facts(relations)
    entities: dict[tuple[str, ...], int] = {}  # the id of each subject and object, by all its names
    pairs = [
        [entities.setdefault(names, len(entities)) for names in ((fact.subject,), (fact.object, *fact.aliases))]
        for _, _, fact in facts
    ]
    objects: dict[int, set[int]] = defaultdict(set)
    for subject, answer in pairs:
        objects[subject].add(answer)
    trie, n_documents = _trie(entities), 0
    single: Counter[int] = Counter()
    both: Counter[tuple[int, int]] = Counter()
    for words in _documents_as_words(corpus, progress):
        n_documents += 1
        mentioned = _mentioned(trie, words)
        single.update(mentioned)
        subjects = mentioned & objects.keys()
        both.update((subject, answer) for subject in subjects for answer in objects[subject] & mentioned)
    if not n_documents:
        raise refuse(f"Corpus {corpus} has no documents", expected=f"files that end in {', '.join(SUFFIXES)}")
    rows = [
        (relation, fact.subject, fact.object, *(single[subject], single[name], both[subject, name]), n_documents, label)
        for (relation, label, fact), (subject, name) in zip(facts, pairs, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read_cooccurrences(path: Path, relations: Sequence[Relation]) -> pd.DataFrame:
    """Read co-occurrence counts from a table.

    Args:
        path: A `.csv` file (UTF-8, comma-separated) or `.parquet` file with the columns `relation`,
            `subject`, `object`, `n_both` and, optionally, the other columns of
            `count_cooccurrences`.
        relations: The facts. Subjects and objects are compared by `relations.key`.

    Returns:
        A row per fact that is in the table, in the order and spelling of `relations`, with its
        identifier `fact`.
        Facts that are not in the table have no row; their number is `attrs["n_facts_missing"]`.
        Rows for other facts are dropped; their number is `attrs["n_rows_unused"]`.

    Raises:
        RelationNeuronsError: The file cannot be read, a column is missing, a count is not a
            non-negative integer, a relation is not in `relations`, a fact occurs twice
            with different counts, or the table has none of the facts.
    """
    table = _read_table(path)
    columns = [column for column in COLUMNS if list(table.columns).count(column) == 1 and column != "fact"]
    if not {*REQUIRED} <= {*columns}:
        found = f"{path}: has the columns {', '.join(map(str, table.columns))}"
        raise refuse(found, expected=f"{', '.join(REQUIRED)}, each once")
    facts = [
        ((relation, key(fact.subject), key(fact.object)), (relation, fact.subject, fact.object), identifier)
        for relation, identifier, fact in _named_facts(relations)
    ]
    counts = _counts_by_fact(table[columns], {relation.name for relation in relations}, path)
    rows = [(*names, *counts[pair], identifier) for pair, names, identifier in facts if pair in counts]
    kept = pd.DataFrame(rows, columns=[*columns, "fact"])
    if kept.empty:
        raise refuse(f"{path}: has none of the {len(facts)} facts", do="check the spelling of subjects and objects")
    unused = counts.keys() - {pair for pair, _, _ in facts}
    kept.attrs = {"n_facts_missing": len(facts) - len(kept), "n_rows_unused": len(unused)}
    return kept


def _named_facts(relations: Sequence[Relation]) -> list[tuple[str, str, Fact]]:
    """Every fact with its relation's name and its identifier."""
    return [
        (relation.name, identifier, fact)
        for relation in relations
        for identifier, fact in zip(fact_ids(relation.facts), relation.facts, strict=True)
    ]


def _counts_by_fact(table: pd.DataFrame, relations: set[str], path: Path) -> dict[tuple[str, str, str], list[int]]:
    """The counts of each row, by relation and the keys of subject and object."""
    counts: dict[tuple[str, str, str], list[int]] = {}
    for number, cells in enumerate(table.astype("object").fillna("").itertuples(index=False), start=1):
        where = f"{path}, row {number}"
        relation, subject, name, *texts = map(partial(_cell, where), table.columns, cells)
        if relation not in relations:
            raise refuse(f"{where}: relation {shown(relation)} is unknown", expected=nearest(relation, relations))
        fact = (relation, key(subject), key(name))
        numbers = [int(text.split(".")[0]) for text in texts]
        if counts.setdefault(fact, numbers) != numbers:
            found = f"{where}: {shown(subject)}, {shown(name)} occurs twice, with other counts"
            raise refuse(found, expected="the same counts for the same fact")
    return counts


def _documents_as_words(corpus: Path, progress: Progress) -> Iterator[list[str]]:
    split = lru_cache(maxsize=1 << 17)(_split)
    for path in corpus_files(corpus):
        for text in documents(path):
            words: list[str] = []
            for token in text.split():
                words += split(token) if len(token) <= _SHORT else _split(token)
            yield words
        progress(1)


def _split(text: str) -> tuple[str, ...]:
    """The normalised words of a text; normalisation never crosses white space."""
    bare = _ACCENTS.sub("", unicodedata.normalize("NFD", key(text)))
    return tuple("".join(map(_spaced, unicodedata.normalize("NFC", bare))).split())


@lru_cache(maxsize=1 << 16)
def _spaced(character: str) -> str:
    """The character if part of a word, padded if a word by itself; otherwise a space."""
    is_mark = unicodedata.category(character).startswith("M")  # many scripts write vowels as marks
    if not character.isalnum() and not is_mark:
        return " "
    return f" {character} " if _UNSPACED.match(character) else character


def _trie(entities: Mapping[tuple[str, ...], int]) -> dict[str, _Node]:
    """A trie of the words of all names."""
    root = _Node([], {})
    for names, entity in entities.items():
        for words in map(_split, names):
            if not words:
                raise refuse(f"The name {shown(names[0])} or one of its aliases has no letter or digit", do="remove it")
            node = root
            for word in words:
                node = node.children.setdefault(word, _Node([], {}))
            node.ends.append(entity)
    return root.children


def _mentioned(trie: Mapping[str, _Node], words: Sequence[str]) -> set[int]:
    """The ids of all entities that a text mentions."""
    mentioned: set[int] = set()
    for start, word in enumerate(words):
        node, end = trie.get(word), start
        while node is not None:
            mentioned.update(node.ends)
            end += 1
            node = node.children.get(words[end]) if end < len(words) else None
    return mentioned


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix not in (".csv", ".parquet"):
        raise refuse(f"{path}: has an unknown file extension", expected=".csv or .parquet")
    if path.suffix == ".parquet":
        return read_parquet(path, "check the program that wrote it")
    try:
        texts = pa.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()))
        return pa.csv.read_csv(path, convert_options=texts).to_pandas()
    except (OSError, ValueError) as error:
        refuse_file(path, error)


def _cell(where: str, column: str, value: object) -> str:
    text, is_count = str(value).strip(), column.startswith("n_")
    if not (_COUNT.fullmatch(text) if is_count else text):
        expected = "a non-negative integer" if is_count else "a non-empty text"
        raise refuse(f"{where}, column '{column}': is {shown(value)}", expected=expected)
    return text
