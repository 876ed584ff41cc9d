import gzip
import json
import os
import re
import tracemalloc
import unicodedata

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relation_neurons import Fact, Relation, RelationNeuronsError
from relation_neurons.relations import corpus
from relation_neurons.relations.cooccurrence import COLUMNS, count_cooccurrences, read_cooccurrences
from relation_neurons.relations.corpus import corpus_files


def relation(name, *facts):
    return Relation(name, ("{} is",), (), tuple(Fact(*fact) for fact in facts))


CAPITALS = relation("capital", ("France", "Paris"), ("India", "New Delhi", ("Delhi", "Dilli")), ("Japan", "Tokyo"))
RIVERS = relation("river", ("Paris", "Seine"), ("France", "Loire"))
TEXTS = [
    "France: its capital is Paris, on the Seine.",
    "FRANCE has Parisian life.",
    "Old Delhi lies in India; new\n delhi too. India!",
    "Dilli alone.",
    "",
    "Paris and the seine and the Loire, but not that country.",
]
COUNTS = [  # by hand, of TEXTS: subject, object, both
    ("capital", "France", "Paris", 2, 2, 1, 6, "France = Paris"),
    ("capital", "India", "New Delhi", 1, 2, 1, 6, "India = New Delhi"),
    ("capital", "Japan", "Tokyo", 0, 0, 0, 6, "Japan = Tokyo"),
    ("river", "Paris", "Seine", 2, 2, 2, 6, "Paris = Seine"),
    ("river", "France", "Loire", 2, 1, 0, 6, "France = Loire"),
]


def lines(texts):
    return "".join(json.dumps({"id": 7, "text": text}) + "\n" for text in texts).encode()


PACK = {"": bytes, ".gz": gzip.compress, ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True)}


def rows(table):
    assert tuple(table.columns) == COLUMNS
    return list(table.itertuples(index=False, name=None))


@pytest.mark.parametrize("packed", PACK)
def test_counts_equal_manual_counts_for_every_file_type(tmp_path, packed):
    one = tmp_path / f"one.jsonl{packed}"
    one.write_bytes(PACK[packed](lines(TEXTS)))
    assert rows(count_cooccurrences([CAPITALS, RIVERS], one)) == COUNTS
    folder = tmp_path / "folder" / "deep"
    folder.mkdir(parents=True)
    for number, text in enumerate(TEXTS[:3]):
        (folder / f"{number}.txt{packed}").write_bytes(PACK[packed](text.encode()))
    (folder.parent / f"rest.jsonl{packed}").write_bytes(PACK[packed](b"\xef\xbb\xbf" + lines(TEXTS[3:]) + b"\r\n \n"))
    (folder / "README.md").write_text("France Paris")
    (folder / "paris.txt.md").write_text("France Paris")
    finished = []
    assert rows(count_cooccurrences([CAPITALS, RIVERS], tmp_path / "folder", progress=finished.append)) == COUNTS
    assert finished == [1] * len(list(corpus_files(tmp_path / "folder"))) == [1] * 4


def test_all_parts_of_a_multi_part_compressed_file_are_read(tmp_path):
    for packed in (".gz", ".zst"):
        path = tmp_path / f"parts.jsonl{packed}"
        path.write_bytes(PACK[packed](lines(TEXTS[:2])) + PACK[packed](lines(TEXTS[2:])))
        assert rows(count_cooccurrences([CAPITALS, RIVERS], path)) == COUNTS


@pytest.mark.parametrize(
    ("name", "text", "is_found"),
    [
        ("Paris", "Parisian", False),
        ("Paris", "comparis", False),
        ("Paris", "(PARIS)", True),
        ("Paris", "Paris's", True),
        ("Paris", "the _Paris_ of", True),
        ("Paris", "paris2024", False),
        ("New York", "New York City", True),
        ("New York City", "New York", False),
        ("New York", "Newyork", False),
        ("New York", "York, New", False),
        ("a a b", "a a a b", True),  # a name that begins again inside its own beginning
        ("Rolls-Royce", "rolls royce", True),
        ("Levi's", "Levi\u2019s", True),
        ("São Tomé", "SAO TOME", True),
        ("Sao Tome", "Sa\u0303o Tome\u0301", True),
        ("Straße", "STRASSE", True),
        ("Τιμής", "ΤΙΜΗΣ", True),
        ("Королёв", "королев", True),
        ("X", "\uff38", True),  # full width
        ("finance", "\ufb01nance", True),  # a ligature
        ("東京", "私は東京都にいる", True),
        ("京都", "東京都", True),
        ("東都", "東京都", False),
        ("パリ", "ﾊﾟﾘは", True),  # half width
        ("か", "が", False),  # another letter, not an accent
        ("Paris", "在Paris的", True),
        ("2008年", "在2008年的", True),
        ("008年", "在2008年的", False),
        ("अमर", "अमरा", False),  # a vowel is a mark: another word
        ("서울", "서울은", False),  # Korean has spaces
    ],
)
def test_names_match_as_whole_words(tmp_path, name, text, is_found):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (row,) = rows(count_cooccurrences([relation("r", (name, "object"))], tmp_path))
    assert row[3] == is_found


ALPHABET = "aAbáÁ\u0301 \n-_.\u2019ﬁﬀΣςé東京1"
NAMES = st.text(ALPHABET, min_size=1, max_size=4).filter(lambda name: any(letter.isalnum() for letter in name))


def plain(text):
    text = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in text if not unicodedata.combining(letter))


def is_named(name, text):
    """A regular expression per name."""
    words = [
        word if word in "東京" else rf"(?<![^\W_東京]){word}(?![^\W_東京])"
        for word in re.findall(r"[東京]|[^\W_東京]+", plain(name))
    ]
    return bool(re.search(r"[\W_]*".join(words), plain(text)))


@given(st.data())
def test_counts_equal_those_of_a_regular_expression_per_name(tmp_path_factory, data):
    names = data.draw(st.lists(NAMES, min_size=1, max_size=5))
    one = st.sampled_from(names)
    facts = data.draw(st.lists(st.tuples(one, one, st.lists(one, max_size=2).map(tuple)), min_size=1, max_size=4))
    parts = st.lists(one | st.text(ALPHABET, max_size=3), max_size=6)
    texts = data.draw(st.lists(parts.map("".join), min_size=1, max_size=4))
    path = tmp_path_factory.getbasetemp() / "property.jsonl"
    path.write_bytes(lines(texts))
    expected = []
    for subject, object, aliases in facts:
        has_subject = [is_named(subject, text) for text in texts]
        has_object = [any(is_named(name, text) for name in (object, *aliases)) for text in texts]
        both = sum(left and right for left, right in zip(has_subject, has_object, strict=True))
        counts = (sum(has_subject), sum(has_object), both, len(texts))
        expected.append(("r", subject, object, *counts))
    assert [row[:-1] for row in rows(count_cooccurrences([relation("r", *facts)], path))] == expected


@pytest.mark.parametrize("make", [lambda _: "some words " * 500, lambda number: f"{number}" + "東京" * 400])
def test_memory_is_independent_of_corpus_size(tmp_path, make):
    peaks, sizes = [], []
    for n_lines in (20, 400):
        content = lines(map(make, range(n_lines)))
        (tmp_path / "a.jsonl").write_bytes(content)
        sizes.append(len(content))
        tracemalloc.start()
        count_cooccurrences([CAPITALS], tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert sizes[1] > 2 * peaks[0]
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "x"}\n\n{"text": "x"\n', "a.jsonl, line 3: is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n["x"]\n', "a.jsonl, line 2: has no text: ['x']"),
        ("a.jsonl", b'{"content": "x"}\n', "a.jsonl, line 1: has no text"),
        ("a.jsonl", b'{"text": null}\n', "a.jsonl, line 1: has no text"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl, line 1: is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xe9"}\n', "a.jsonl, line 2: byte 10 is not UTF-8"),
        ("a.jsonl", '{"text": "x"}\n'.encode("utf-16"), "a.jsonl, line 1: byte 0 is not UTF-8"),
        ("a.txt", b"caf\xe9", "a.txt: byte 3 is not UTF-8"),
        ("a.txt.gz", b"no gzip at all", "a.txt.gz: cannot be read"),
        ("a.txt.gz", gzip.compress(b"x" * 999, mtime=0)[:-9], "a.txt.gz: cannot be read"),
        ("a.jsonl.zst", PACK[".zst"](b'{"text": "x"}' * 99)[:-5], "a.jsonl.zst: cannot be read"),
        ("a.jsonl", b"\n", "has no documents. Expected: files that end in .txt, "),
        ("a.md", b"x", "has no documents"),
    ],
)
def test_an_invalid_corpus_is_refused_with_its_location(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RelationNeuronsError, match=re.escape(says)):
        count_cooccurrences([CAPITALS], tmp_path)


def test_a_missing_corpus_or_unknown_extension_is_refused(tmp_path):
    (tmp_path / "gone.txt").symlink_to(tmp_path / "none.txt")
    with pytest.raises(RelationNeuronsError, match=r"gone.txt: cannot be read \(.*No such file"):
        count_cooccurrences([CAPITALS], tmp_path)
    with pytest.raises(RelationNeuronsError, match="does not exist"):
        count_cooccurrences([CAPITALS], tmp_path / "none")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(RelationNeuronsError, match=r"unknown file extension.*\.jsonl\.zst"):
        count_cooccurrences([CAPITALS], tmp_path / "a.csv")
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0)
        with pytest.raises(RelationNeuronsError, match="Permission denied"):
            count_cooccurrences([CAPITALS], tmp_path)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_document_above_the_size_limit_is_refused(tmp_path, monkeypatch, name):
    content = lines(["Paris"])
    (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(corpus, "LARGEST", len(content))
    assert count_cooccurrences([CAPITALS], tmp_path)["n_object"][0] == 1
    monkeypatch.setattr(corpus, "LARGEST", len(content) - 1)
    with pytest.raises(RelationNeuronsError, match=f"a document has more than {len(content) - 1} bytes"):
        count_cooccurrences([CAPITALS], tmp_path)


def test_a_name_without_words_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("!!!")
    with pytest.raises(RelationNeuronsError, match="'!!!' or one of its aliases has no letter"):
        count_cooccurrences([relation("band", ("!!!", "Sacramento"))], tmp_path)


def test_a_table_of_counts_is_read_back(tmp_path):
    table = pd.DataFrame(COUNTS, columns=COLUMNS)
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        found = read_cooccurrences(tmp_path / name, [CAPITALS, RIVERS])
        pd.testing.assert_frame_equal(found, table)
        assert found.attrs == {"n_facts_missing": 0, "n_rows_unused": 0}


def test_a_table_may_be_incomplete_reordered_respelt_and_have_other_facts(tmp_path):
    content = """\ufeffnote,n_both,object,relation,subject
"a, b",3.0,paris,capital,FRANCE
,0,NA,capital,1984
,12,Seine,river,Paris
"""
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    found = read_cooccurrences(tmp_path / "a.csv", [RIVERS, CAPITALS])
    columns = ["relation", "subject", "object", "n_both", "fact"]
    rows = [("river", "Paris", "Seine", 12, "Paris = Seine"), ("capital", "France", "Paris", 3, "France = Paris")]
    expected = pd.DataFrame(rows, columns=columns)
    pd.testing.assert_frame_equal(found, expected)
    assert found.attrs == {"n_facts_missing": 3, "n_rows_unused": 1}


def test_a_fact_that_a_relation_repeats_has_a_row_for_each_copy(tmp_path):
    twice = relation("capital", ("France", "Paris"), ("France", "Paris"), ("Japan", "Tokyo"))
    (tmp_path / "a.txt").write_text("France: Paris")
    counts = count_cooccurrences([twice], tmp_path / "a.txt")
    assert counts["fact"].tolist() == ["France = Paris", "France = Paris (2)", "Japan = Tokyo"]
    assert counts["n_both"].tolist() == [1, 1, 0]
    counts.to_csv(tmp_path / "counts.csv", index=False)
    pd.testing.assert_frame_equal(read_cooccurrences(tmp_path / "counts.csv", [twice]), counts)


GOOD = "relation,subject,object,n_both\ncapital,France,Paris,3\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "cannot be read"),
        (GOOD.replace("n_both", "n"), "has the columns relation, subject, object, n. Expected: relation, "),
        (GOOD.replace("relation,", "object,"), "has the columns object, subject, object, n_both"),
        (GOOD.replace(",", ";"), "has the columns relation;subject;object;n_both"),
        (f"{GOOD}capital,India,New Delhi,-1\n", "row 2, column 'n_both': is '-1'. Expected: a non-negative integer"),
        (f"{GOOD}capital,India,New Delhi,1.5\n", "row 2, column 'n_both': is '1.5'"),
        (f"{GOOD}capital,India,New Delhi,\n", "row 2, column 'n_both': is ''"),
        (f"{GOOD}capital,India,New Delhi,many\n", "row 2, column 'n_both': is 'many'"),
        (f"{GOOD}capital,India, ,1\n", "row 2, column 'object': is ' '"),
        (
            f"{GOOD}capitol,India,New Delhi,1\n",
            "row 2: relation 'capitol' is unknown. Expected: did you mean 'capital'",
        ),
        (f"{GOOD}capital,france,PARIS,1\n", "row 2: 'france', 'PARIS' occurs twice"),
        (f"{GOOD}capital,India,1\n", "cannot be read (CSV parse error"),
        (GOOD.replace("France", "Francia"), "has none of the 3 facts"),
        (GOOD.replace("France", "é").encode("latin-1"), "cannot be read"),
    ],
)
def test_an_invalid_table_is_refused(tmp_path, content, says):
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RelationNeuronsError) as error:
        read_cooccurrences(path, [CAPITALS])
    assert str(path) in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), 0.5, -1.0, 1e300, None])
def test_counts_in_parquet_must_be_integers(tmp_path, value):
    table = pd.DataFrame({"relation": "capital", "subject": "France", "object": "Paris", "n_both": [value]})
    table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(RelationNeuronsError, match="column 'n_both'"):
        read_cooccurrences(tmp_path / "a.parquet", [CAPITALS])


@pytest.mark.parametrize("name", ["a.parquet", "none.parquet", "none.csv", "a.txt"])
def test_a_file_that_is_not_a_table_is_refused(tmp_path, name):
    for present in ("a.parquet", "a.txt"):
        (tmp_path / present).write_text("nothing")
    with pytest.raises(RelationNeuronsError, match=r"cannot be read|unknown file extension"):
        read_cooccurrences(tmp_path / name, [CAPITALS])
