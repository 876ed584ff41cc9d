import csv
import io
import json

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relation_neurons import Fact, Relation, RelationNeuronsError
from relation_neurons.relations.frames import relation_from_frame
from relation_neurons.relations.lint import check_files
from relation_neurons.relations.loading import load_relations
from relation_neurons.relations.relation import key
from relation_neurons.relations.table_layout import table_layout
from relation_neurons.relations.tables import read_table

HEADER = "subject,object,template,template_zs,aliases,relation"
CAPITALS = Relation(
    "capital",
    ("The capital of {} is", "{} is ruled from"),
    ("{}: capital",),
    (Fact("France", "Paris"), Fact("India", "New Delhi", ("Delhi", "Dilli"))),
)


def write(folder, content, name="capital.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def refusal(path):
    with pytest.raises(RelationNeuronsError) as error:
        read_table(path)
    return str(error.value)


LINES = [
    ["object", "template", "subject", "note", "aliases", "template_zs"],
    ["Paris", "The capital of {} is", "France", "", "", "{}: capital"],
    ["New Delhi", "{} is ruled from", "India", "see, atlas; p. 3", "Delhi | Dilli", ""],
]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_is_read_with_any_separator_line_end_and_byte_order_mark(tmp_path, separator, end, mark):
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(LINES)
    assert read_table(write(tmp_path, mark + text.getvalue())) == (CAPITALS,)


def test_one_file_may_hold_several_relations_in_any_order_of_rows(tmp_path):
    rows = ["France,Paris,{} has the capital,,,capital", "France,euro,{} pays in,,,currency", "Japan,Tokyo,,,,capital"]
    capital, currency = read_table(write(tmp_path, "\n".join([HEADER, *rows])))
    assert capital == Relation(
        "capital", ("{} has the capital",), (), (Fact("France", "Paris"), Fact("Japan", "Tokyo"))
    )
    assert currency == Relation("currency", ("{} pays in",), (), (Fact("France", "euro"),))


def test_templates_are_the_distinct_ones_in_order(tmp_path):
    rows = ["a,b,{} x,,,", "c,d,{} y,{} z,,", "e,f,{} x,,,", "g,h,,,,"]
    (relation,) = read_table(write(tmp_path, "\n".join([HEADER, *rows]).replace("relation", "whatever"), "mine.csv"))
    assert (relation.name, relation.templates, relation.templates_zs) == ("mine", ("{} x", "{} y"), ("{} z",))


def test_aliases_of_all_rows_apply_to_every_fact_of_the_object(tmp_path):
    rows = ["a,b,{} x,,B1|B2,r", "c,b,,,B2 |B3,r", "d,e,,,,r", "f,b,,,,r"]
    (relation,) = read_table(write(tmp_path, "\n".join([HEADER, *rows])))
    names = ("B1", "B2", "B3")
    assert [fact.aliases for fact in relation.facts] == [names, names, (), names]


@pytest.mark.parametrize(
    ("cell", "aliases"),
    [
        ("", ()),
        (" ", ()),
        ("pol", ("pol",)),
        ("political leader | pol", ("political leader", "pol")),
        ("vocalist; soloist", ("vocalist", "soloist")),
        ('["political leader", "political figure", "pol"]', ("political leader", "political figure", "pol")),
        ("['political leader', 'pol']", ("political leader", "pol")),
        ("['it\\'s', \"pol\"]", ("it's", "pol")),
        ('["Washington, D.C."]', ("Washington, D.C.",)),
        ("Washington, D.C.|D.C.", ("Washington, D.C.", "D.C.")),
        ("[]", ()),
        ("political leader, political figure", None),
        ("Washington, D.C.", None),
        ("[1976]", None),
        ("['pol'", ("['pol'",)),
        ("[pol, leader]", None),
        ("[pol]", None),
        ("{'a', 'b'}", None),
    ],
)
def test_lists_of_aliases_are_read_or_refused(tmp_path, cell, aliases):
    text = io.StringIO()
    csv.writer(text).writerows(
        [["subject", "object", "template", "aliases"], ["George", "politician", "{} is a", cell]]
    )
    path = write(tmp_path, text.getvalue())
    frame = pd.DataFrame({"subject": ["George"], "object": ["politician"], "aliases": [cell]})
    if aliases is None:
        assert "line 2, field 'aliases': " in refusal(path)
        assert f"{cell!r} is not clearly a list of names. Expected: names separated by |, or a list" in refusal(path)
        with pytest.raises(RelationNeuronsError, match=r"column 'aliases': .* is not clearly a list"):
            relation_from_frame(frame, name="capital", templates=["{} is a"])
    else:
        assert read_table(path)[0].facts[0].aliases == aliases
        assert relation_from_frame(frame, name="capital", templates=["{} is a"]).facts[0].aliases == aliases


def test_a_table_states_the_language_of_each_relation(tmp_path):
    head, first = "subject,object,template,language,relation\n", "Bern,Schweiz,{} liegt in der,de,r\n"
    german, english = read_table(write(tmp_path, f"{head}{first}Rom,Italien,,,r\nRome,Italy,{{}} is in,,s\n"))
    assert (german.language, english.language) == ("de", "en")
    refused = refusal(write(tmp_path, f"{head}{first}Rom,Italien,,fr,r\n"))
    assert "line 3, field 'language': 'fr' is 'de' in an earlier row. Expected: one language" in refused
    assert "line 3, field 'language': is ' de'" in refusal(write(tmp_path, f"{head}{first}Rom,Italien,, de,r\n"))
    frame = pd.DataFrame({"subject": ["Bern"], "object": ["Schweiz"]})
    assert relation_from_frame(frame, name="r", templates=["{} liegt in der"], language="de").language == "de"


GOOD = "a,b,{} x,,,r\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "line 1, field 'header'"),
        ("\n\n", "line 1, field 'header'"),
        ("Subject,Object\n", "line 1, field 'header'"),
        ("subject|object\n", "line 1, field 'header'"),
        ("subject,object,a;subject;object\n", "line 1, field 'header'"),  # by comma or by semicolon?
        ("subject,object,object,template\na,b,c,{} x\n", "line 1, field 'object': occurs twice"),
        ("\nsubject,object,object,template\na,b,c,{} x\n", "line 2, field 'object': occurs twice"),
        (f"{HEADER}\n", "line 1, field 'row': there are no rows"),
        (f"{HEADER}\n{GOOD}c,d\n", "line 3, field 'row': has 2 cells. Expected: 6"),
        (f"{HEADER}\n{GOOD}\n\nc,d,,,,r,\n", "line 5, field 'row': has 7 cells"),
        (f'{HEADER}\n{GOOD}"c,d,,,,r\ne,f,,,,r\n', "line 3, field 'row': is not CSV"),
        (f'{HEADER}\n{GOOD}"c"c,d,,,,r\n', "line 3, field 'row': is not CSV"),
        (f"{HEADER}\n{GOOD}{'c' * 200_000},d,,,,r\n", "line 3, field 'row': is not CSV (field larger"),
        (f"{HEADER}\n{GOOD},d,,,,r\n", "line 3, field 'subject': is ''"),
        (f"{HEADER}\n{GOOD} c,d,,,,r\n", "line 3, field 'subject': is ' c'"),
        (f"{HEADER}\n{GOOD}c,\u00a0d,,,,r\n", "line 3, field 'object'"),
        (f'{HEADER}\n{GOOD}"c\nc",d,,,,r\ne,,,,,r\n', "line 5, field 'object': is ''"),  # line 3 and 4 are one row
        (f"{HEADER}\n{GOOD}c,d,{{}} and {{}},,,r\n", "line 3, field 'template': is '{} and {}'"),
        (f"{HEADER}\n{GOOD}c,d,,none,,r\n", "line 3, field 'template_zs': is 'none'"),
        (f"{HEADER}\n{GOOD}c,d,,,,s\n", "line 3, field 'template': no row of relation 's' has a template"),
        ("subject,object\na,b\n", "line 2, field 'template': no row of relation 'bad' has a template"),
        (f"{HEADER}\n{GOOD}c,d,{{}} x,,,\n", "line 3, field 'relation': is ''"),
        (f"{HEADER}\n{GOOD}c,d,,,x||y,r\n", "line 3, field 'aliases': has ''"),
        (f"{HEADER}\n{GOOD}c,d,,,x|B,r\n", "line 3, field 'aliases': 'B' is an object itself"),
        (f"{HEADER}\n{GOOD}c,d,,,D,r\n", "line 3, field 'aliases': 'D' is an object itself"),
        (f"{HEADER}\n{GOOD}c,d,,,Dee,r\ne,d,,,dee,r\n", "line 4, field 'aliases': 'dee' is 'Dee' elsewhere"),
        (f"{HEADER}\n{GOOD}c,é,,,,r\n".encode("latin-1"), "line 3, field 'file': byte 68 (0xe9) is not UTF-8"),
        (f"{HEADER}\n{GOOD}".encode("utf-16"), "line 1, field 'file': byte 0 (0xff) is not UTF-8"),
    ],
)
def test_an_invalid_table_is_refused_with_line_and_field(tmp_path, content, says):
    path = write(tmp_path, content, "bad.csv")
    assert refusal(path).startswith(f"{path}, {says}")


def test_a_file_name_that_is_not_a_relation_name_needs_a_column(tmp_path):
    path = write(tmp_path, "subject,object,template\na,b,{} x\n", " mine .csv")
    assert "field 'relation': is ' mine '" in refusal(path)


@pytest.mark.parametrize("name", ["none.csv", ".", "nul\0.csv"])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path, name):
    assert "field 'file': cannot be read" in refusal(tmp_path / name)


def test_a_frame_gives_the_same_relation_as_its_file():
    subject_object = {"subject": ["France", "India"], "object": ["Paris", "New Delhi"], "year": [1, 2]}
    frame = pd.DataFrame({**subject_object, "aliases": [None, "Delhi|Dilli"]}, index=[7, 7])
    made = relation_from_frame(frame, name="capital", templates=CAPITALS.templates, templates_zs=["{}: capital"])
    assert made == CAPITALS
    for nothing in (float("nan"), pd.NA, pd.NaT, ""):
        frame["aliases"] = pd.Series([nothing, "Delhi|Dilli"], index=frame.index, dtype=object)
        assert relation_from_frame(frame, name="capital", templates=["{} x"]).facts == CAPITALS.facts
    without = relation_from_frame(frame[["object", "subject"]], name="capital", templates=["{} x"])
    assert without.facts == (Fact("France", "Paris"), Fact("India", "New Delhi"))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"subject": ["a"]}, "has the columns ['subject']"),
        ({"subject": ["a", None], "object": ["b", "c"]}, "row 'y', column 'subject': is ''"),
        ({"subject": ["a", "d"], "object": ["b", 1984]}, "row 'y', column 'object': is 1984"),
        ({"subject": ["a", "d"], "object": ["b", ["c"]]}, "row 'y', column 'object': is ['c']"),
        ({"subject": ["a", "d"], "object": ["b", "c "]}, "row 'y', column 'object': is 'c '"),
        ({"subject": ["a", "d\ud800"], "object": ["b", "c"]}, "row 'y', column 'subject': is 'd\\ud800'"),
        ({"subject": ["a", "d"], "object": ["b", "c"], "aliases": ["", "x|b"]}, "row 'y', column 'aliases': 'b'"),
        ({"subject": [], "object": []}, "field 'samples'"),
    ],
)
def test_an_invalid_frame_is_refused_with_row_and_column(columns, says):
    frame = pd.DataFrame(columns, index=["x", "y"][: len(columns["subject"])], dtype=object)
    with pytest.raises(RelationNeuronsError, match="Frame of relation 'mine'") as error:
        relation_from_frame(frame, name="mine", templates=["{} x"])
    assert says in str(error.value)


def test_a_frame_needs_each_column_once_and_a_template():
    frame = pd.DataFrame([["a", "b", "c"]], columns=["subject", "object", "object"])
    with pytest.raises(RelationNeuronsError, match="each once"):
        relation_from_frame(frame, name="mine", templates=["{} x"])
    with pytest.raises(RelationNeuronsError, match="prompt_templates"):
        relation_from_frame(frame.iloc[:, :2], name="mine", templates=[])
    with pytest.raises(RelationNeuronsError, match="'name'"):
        relation_from_frame(frame.iloc[:, :2], name="", templates=["{} x"])


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


NAMES = st.text(min_size=1, max_size=8).map(str.strip).filter(bool)


@given(
    st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=6), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"])
)
def test_tables_from_spreadsheets_round_trip(scratch, pairs, separator, end):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("subject", "object", "template"), *((*pair, "{} x") for pair in pairs)])
    (relation,) = read_table(write(scratch, text.getvalue(), "round.csv"))
    assert relation == Relation("round", ("{} x",), (), tuple(Fact(*pair) for pair in pairs))
    frame = pd.DataFrame(pairs, columns=["subject", "object"])
    assert relation_from_frame(frame, name="round", templates=["{} x"]) == relation


TABLE = f'{HEADER}\na,b,{{}} x,{{}} y,bee,r\n"c\nc",d,,,dee|di,r\ne,f,{{}} z,,,s\n'.encode()
PIECES = st.sampled_from(
    [b"\0", b'"', b",", b";", b"\t", b"\n", b"\r", b"|", b"{}", b" ", b"\xff", b"\xef\xbb\xbf", b"b", b"r"]
)


@st.composite
def mutated_tables(draw):
    data = TABLE
    for _ in range(draw(st.integers(1, 4))):
        start, length = draw(st.integers(0, len(data))), draw(st.sampled_from([0, 0, 1, 2, 7, 400]))
        new = draw(st.one_of(PIECES, st.just(b""), st.binary(max_size=4), st.just(data[:start])))
        data = data[:start] + new + data[start + length :]
    return data


@given(st.one_of(st.binary(max_size=200), mutated_tables(), st.text().map(str.encode)))
@example(TABLE)
@example(f"{HEADER}\n".encode() + b"\0" * 1000)
def test_arbitrary_bytes_are_read_or_refused_with_file_line_and_field(scratch, data):
    path = write(scratch, data, "any.csv")
    try:
        relations = read_table(path)
    except RelationNeuronsError as error:
        place = str(error).removeprefix(f"{path}, line ").split(", field '")
        assert place[0].isdigit()
        assert 1 <= int(place[0]) <= len(data.splitlines()) + 1
        assert place[1]
    else:
        for relation in relations:
            assert relation.facts
            assert all(template.count("{}") == 1 for template in relation.templates)
            for fact in relation.facts:
                assert key(fact.subject)
                assert key(fact.object)


ELEMENTS = "Element;object;Symbol;Names\nHydrogen;1;H;\nIron;26;Fe;ferrum|steel\n"
NAMED = {"subject": "Element", "object": "Symbol", "aliases": "Names"}


def test_a_bare_table_equals_the_table_that_was_renamed(tmp_path):
    templates = ("The symbol of {} is", "{} has the symbol")
    path = write(tmp_path, ELEMENTS, "elements.csv")
    (bare,) = load_relations(path, templates=templates, columns=NAMED)
    rows = [("subject", "object", "aliases", "template"), ("Hydrogen", "H", "", templates[0])]
    rows += [("Iron", "Fe", "ferrum|steel", templates[1])]
    (tmp_path / "own").mkdir()
    assert load_relations(write(tmp_path / "own", "\n".join(map(",".join, rows)), "elements.csv")) == (bare,)
    texts = [f"{name}={theirs}" for name, theirs in NAMED.items()]
    assert load_relations(path, templates=templates, columns=texts) == (bare,)


def test_templates_from_outside_are_for_tables_without_any(tmp_path):
    own = write(tmp_path, "subject,object,template\na,b,{} x\n", "own.csv")
    bare = write(tmp_path, "subject,object\nc,d\n", "bare.csv")
    first, second = load_relations(own, bare, templates=["{} y"])
    assert (first.templates, second.templates) == (("{} x",), ("{} y",))


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        (ELEMENTS, {}, "the columns are 'Element', 'object', 'Symbol', 'Names'. Expected: a header with the columns"),
        (ELEMENTS, {"columns": {"subject": "Elements"}}, "no column 'Elements'. Expected: did you mean 'Element'"),
        (ELEMENTS, {"columns": {"subject": "Element"}}, "no row of relation 'bare' has a template"),
        (ELEMENTS, {"columns": {"subjekt": "Element"}}, "'subjekt' is not a column .* did you mean 'subject'"),
        (ELEMENTS, {"columns": {"subject": "Symbol", "object": "Symbol"}}, "'Symbol' is named twice"),
        (ELEMENTS, {"columns": ["subject=Element", "subject=Symbol"]}, "'subject' is named twice"),
        (ELEMENTS, {"columns": ["subject"]}, "'subject' does not say which column"),
        (ELEMENTS, {"columns": ["subject="]}, "Column 'subject' has no name"),
        (ELEMENTS, {"templates": ["The symbol is"]}, "Template 'The symbol is' cannot be used"),
        ("subject,object,template\na,b,{} x\n", {"templates": ["{} y"]}, "every relation has its own"),
        ("subject,object,template\na,b,{} x\n", {"columns": {"aliases": "no"}}, "no column 'no'"),
    ],
)
def test_layouts_that_do_not_fit_are_refused(tmp_path, text, options, says):
    with pytest.raises(RelationNeuronsError, match=says):
        load_relations(write(tmp_path, text, "bare.csv"), **options)


def test_columns_and_templates_need_a_table(tmp_path):
    with pytest.raises(RelationNeuronsError, match="Columns are named, but there is no table"):
        load_relations("country_capital", columns=NAMED)
    path = write(tmp_path, json.dumps({"name": "a", "prompt_templates": ["{} is"], "samples": []}), "a.json")
    with pytest.raises(RelationNeuronsError, match="Templates are given, but there is no table"):
        check_files([path], layout=table_layout(["{} was"]))
