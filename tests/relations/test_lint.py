import json
from copy import deepcopy
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import relation_neurons.relations.lint_parser
from relation_neurons import Fact, Relation, RelationNeuronsError
from relation_neurons.errors import refuse
from relation_neurons.relations.lint import Problem, check, format_problems
from relation_neurons.relations.loading import data_folder, shipped_names
from relation_neurons.relations.relation import read_relation
from relation_neurons.relations.splits import split_relations, stable_rank
from relation_neurons.relations.tables import read_table

SMALL = {"n_evaluation": 1, "shots": 1}
FACTS = [["Ab", "uno"], ["Cd", "due"], ["Ef", "tre"], ["Gh", "quattro"]]


def relation_file(*, facts=FACTS, **fields):
    """A relation file with one sample a line: name, templates and source on lines 2 to 4, samples from line 6 on."""
    content = {"name": "r", "prompt_templates": ["The number of {} is"], "source": "me", **fields}
    head = [f"{json.dumps(name)}: {json.dumps(value)}," for name, value in content.items()]
    lines = [json.dumps(dict(zip(("subject", "object"), fact, strict=True))) for fact in facts]
    return "\n".join(["{", *head, '"samples": [', ",\n".join(lines), "]}"])


def found(tmp_path, content, name="mine.json", **sizes):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    problems = check(path, **{**SMALL, **sizes})
    assert {problem.file for problem in problems} <= {str(path)}
    return problems


def places(problems):
    return [(problem.level, problem.line, problem.field) for problem in problems]


NESTED = {"person_father": ["'David'"], "person_mother": ["'Mary'", "'Elizabeth'"]}
"""Objects with which others begin, such as David Beckham; each is the name in use."""


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_relation_has_no_problem(name):
    problems = check(data_folder() / "relations" / f"{name}.json")
    assert [problem.found.split(" is the beginning of ")[0] for problem in problems] == NESTED.get(name, [])


def test_a_good_file_has_no_problem(tmp_path):
    assert found(tmp_path, relation_file()) == []
    assert found(tmp_path, "\ufeff" + relation_file().replace("\n", "\r\n")) == []
    assert found(tmp_path, TABLE, "mine.csv") == []


E, W = "error", "warning"


@pytest.mark.parametrize(
    ("content", "level", "line", "field", "says"),
    [
        (b"", E, 1, "file", "is not JSON at column 1"),
        (relation_file()[:-1], E, 10, "file", "is not JSON at column 2"),
        (relation_file().replace('"me",', '"me"'), E, 5, "file", "is not JSON at column 1: Expecting ','"),
        (relation_file(source="é").encode().replace(b"\\u00e9", b"\xe9"), E, 4, "file", "byte 71 (0xe9) is not UTF-8"),
        (relation_file().encode("utf-16"), E, 1, "file", "byte 0 (0xff) is not UTF-8"),
        ("[" * 100_000, E, None, "file", "is nested too deeply"),
        (relation_file(properties={"year": 0}).replace(": 0}", ": " + "9" * 5000 + "}"), E, None, "file", "too long"),
        ("[1]", E, 1, "file", "is [1]"),
        (relation_file(name=" r"), E, 2, "name", "' r'"),
        (relation_file(name="\ud800"), E, 2, "name", "'\\ud800'"),
        (relation_file().replace('"name"', '"nam"'), E, 1, "name", "None"),
        (relation_file(prompt_templates=[]), E, 3, "prompt_templates", "[]"),
        (relation_file(prompt_templates="{}"), E, 3, "prompt_templates", "'{}'"),
        (relation_file(prompt_templates=["{} is", "none"]), E, 3, "prompt_templates 2", "'none'"),
        (relation_file(prompt_templates=["{} and {} are"]), E, 3, "prompt_templates 1", "'{} and {} are'"),
        (relation_file(prompt_templates_zs=["{} is", 7]), E, 5, "prompt_templates_zs 2", "7"),
        (relation_file(source=None), E, 4, "source", "None"),
        (relation_file(properties="x"), E, 5, "properties", "'x'"),
        (relation_file(language=""), E, 5, "language", "''"),
        (relation_file(translations=[1]), E, 5, "translations", "[1]"),
        (relation_file(translations={"de": {"subjects": {}}}), E, 5, "translations: de", "field 'subjects' is {}"),
        (relation_file(facts=[*FACTS, ["", "x"]]), E, 10, "samples 5: subject", "''"),
        (relation_file(facts=[*FACTS, ["x", "y "]]), E, 10, "samples 5: object", "'y '"),
        (relation_file().replace('"subject": "Cd", ', ""), E, 7, "samples 2: subject", "None"),
        (relation_file().replace('{"subject": "Cd", "object": "due"}', '"Cd"'), E, 7, "samples 2", "'Cd'"),
        (relation_file(aliases=["uno"]), E, 5, "aliases", "['uno']"),
        (relation_file(aliases={"New York": ["x"]}), E, 5, "aliases: 'New York'", "no sample has this object"),
        (relation_file(aliases={"uno": "one"}), E, 5, "aliases: uno", "'one'"),
        (relation_file(aliases={"uno": ["one", " eins"]}), E, 5, "aliases: uno 2", "' eins'"),
        (relation_file(aliases={"uno": ["one", "Due"]}), E, 5, "aliases: uno 2", "'Due' is an object itself"),
        (
            relation_file(aliases={"uno": ["one", "eins", "ONE"]}),
            E,
            5,
            "aliases: uno 3",
            "'ONE' is an object itself or",
        ),
        (relation_file(facts=FACTS[:2]), E, None, "samples", "'r' has 2 subjects"),
        (
            relation_file(facts=[["Ab", "uno"], ["Ab", "due"], ["Ab", "tre"]]).replace("Ab", "Xy"),
            E,
            None,
            "samples",
            "1 subj",
        ),
        (relation_file(year=1), W, 5, "year", "is ignored"),
        (relation_file().replace('"Cd",', '"Cd", "aliases": [],'), W, 7, "samples 2: aliases", "is ignored"),
        (
            relation_file().replace('"Cd",', '"Cd",\n"subject": "Ij",'),
            W,
            8,
            "samples 2: subject",
            "overrides an earlier",
        ),
        (relation_file(facts=[*FACTS, ["cd", "due"]]), W, 10, "samples 5: subject", "samples 2: subject, line 7"),
        (relation_file(facts=[*FACTS, ["CD", "tre"]]), W, 10, "samples 5: subject", "'tre' and 'due' (samples 2"),
        (
            relation_file(facts=[*FACTS, ["C\u00e7d", "tre"], ["c-cd", "due"], ["Ccd.", "uno"]]),
            W,
            12,
            "samples 7: subject",
            "differs from 'C\u00e7d' (samples 5: subject, line 10)",
        ),
        (relation_file(facts=[*FACTS, ["uno Due", "due"]]), W, 10, "samples 5: object", "'due' occurs in 'uno Due'"),
        (relation_file(facts=[*FACTS, ["l'\u00cele-Verte", "ile"]]), W, 10, "samples 5: object", "occurs in"),
        (
            relation_file(facts=[*FACTS, ["\u5df4\u9ece\u4eba", "\u5df4\u9ece"]]),
            W,
            10,
            "samples 5: object",
            "occurs in",
        ),
        (
            relation_file(facts=[*FACTS, ["x\u0430y", "sei"]]),
            W,
            10,
            "samples 5: subject",
            "CYRILLIC and LATIN (\u0430 U+0430)",
        ),
        (
            relation_file(facts=[*FACTS, ["\u041a\u0438\u0435\u0432", "sei"]]),
            W,
            10,
            "samples 5: subject",
            "in CYRILLIC letters",
        ),
        (relation_file(facts=[*FACTS, ["x\ty", "sei"]]), W, 10, "samples 5: subject", "'x\\ty' has U+0009"),
        (relation_file(facts=[*FACTS, ["x", "se\u200bi\ufffd"]]), W, 10, "samples 5: object", "has U+200B, U+FFFD"),
        (
            relation_file(facts=[*FACTS, *zip("xyzvw", ["sei"] * 5, strict=True)]),
            W,
            None,
            "samples",
            "5 of 9 facts have the object 'sei'",
        ),
        (relation_file(prompt_templates=["{} is", "{}: ."]), W, 3, "prompt_templates 2", "has no word"),
        (relation_file(prompt_templates=["Is it {}?"]), W, 3, "prompt_templates 1", "ends in '?'"),
        (relation_file(prompt_templates=["The {} is "]), W, 3, "prompt_templates 1", "has leading or trailing spaces"),
        (relation_file(prompt_templates=["The {} {is"]), W, 3, "prompt_templates 1", "has a brace"),
        (
            relation_file(prompt_templates=["{} is", "{} Is"]),
            W,
            3,
            "prompt_templates 2",
            "repeats prompt_templates 1, line 3",
        ),
        (relation_file(prompt_templates=["{} is not Uno but"]), W, 3, "prompt_templates 1", "has the object 'uno'"),
        (relation_file(prompt_templates=["{} i\u0455"]), W, 3, "prompt_templates 1", "CYRILLIC and LATIN"),
        (relation_file(aliases={"uno": ["on\u0435"]}), W, 5, "aliases: uno 1", "CYRILLIC and LATIN"),
    ],
)
def test_problems_in_a_json_file_are_located(tmp_path, content, level, line, field, says):
    problems = found(tmp_path, content)
    assert (level, line, field) in places(problems)
    assert [problem for problem in problems if problem.field == field and says in problem.found]
    assert {problem.level for problem in problems} <= {level, W}


HEADER = "subject,object,template,template_zs,aliases,relation\n"
TABLE = HEADER + "Ab,uno,The number of {} is,,,r\nCd,due,,,,r\nEf,tre,,,,r\nGh,quattro,,,,r\n"


@pytest.mark.parametrize(
    ("content", "level", "line", "field", "says"),
    [
        (b"\xff", E, 1, "file", "byte 0"),
        ("a,b\n", E, 1, "header", "the columns are 'a', 'b'"),
        ("ab\n", E, 1, "header", "'ab\\n'"),
        (TABLE + "x\n", E, 6, "row", "has 1 cells"),
        (TABLE + '"x,y,,,,r', E, 6, "row", "is not CSV"),
        (TABLE + ",y,,,,r", E, 6, "subject", "''"),
        (TABLE + "x,y ,,,,r", E, 6, "object", "'y '"),
        (TABLE + "x,y,none,,,r", E, 6, "template", "'none'"),
        (TABLE + "x,y,,,Uno,r", E, 6, "aliases", "'Uno' is an object"),
        (TABLE + "x,y,{} z,,,s", E, None, "samples", "'s' has 1 subjects"),
        (TABLE.replace("relation", "group"), W, 1, "header", "column 'group' is ignored"),
        (TABLE + '"x\ny",tre,,,,r', W, 6, "subject", "U+000A"),
        (TABLE + "x,y,,{} z?,,r", W, 6, "template_zs", "ends in '?'"),
        (TABLE + "x,y,,,on\u0435|z,r", W, 6, "aliases", "CYRILLIC"),
        (TABLE + "cd,tre,,,,r", W, 6, "subject", "'due' (subject, line 3)"),
    ],
)
def test_problems_in_a_table_are_located(tmp_path, content, level, line, field, says):
    problems = found(tmp_path, content, "mine.csv")
    assert (level, line, field) in places(problems)
    assert [problem for problem in problems if problem.field == field and says in problem.found]
    assert {problem.level for problem in problems} <= {level, W}


def test_all_problems_are_sorted_by_line(tmp_path):
    facts = [["Ab", " uno"], ["", 7], ["Ef", "tre"], ["Gh", "quattro"], ["ef", "tre"], ["Ij", "cinque"]]
    content = relation_file(
        facts=facts, name="", aliases={"tre": ["three", ""], "none": []}, prompt_templates=["{}", "x"]
    )
    assert places(found(tmp_path, content)) == [
        (E, 2, "name"),
        (E, 3, "prompt_templates 2"),
        (W, 3, "prompt_templates 1"),
        (E, 5, "aliases: tre 2"),
        (E, 5, "aliases: none"),
        (E, 7, "samples 1: object"),
        (E, 8, "samples 2: subject"),
        (E, 8, "samples 2: object"),
        (W, 11, "samples 5: subject"),
    ]
    table = TABLE + "x,y\n,z,,,,r\nab,sei,,,,r\n,,,{},,s\n"
    assert places(found(tmp_path, table, "mine.csv")) == [
        (E, 6, "row"),
        (E, 7, "subject"),
        (W, 8, "subject"),
        (E, 9, "template"),
        (E, 9, "subject"),
        (E, 9, "object"),
        (W, 9, "template_zs"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "\u03b1 Centauri",
        "AC\u7c73\u5170",
        "\u65e5\u7523\u30b9\u30ab\u30a4\u30e9\u30a4\u30f3",
        "\u0646\u06cc\u0645\u200c\u0641\u0627\u0635\u0644\u0647",
    ],
)
def test_other_scripts_are_not_reported_as_lookalikes(tmp_path, name):
    letters = [
        problem
        for problem in found(tmp_path, relation_file(facts=[*FACTS, [name, "sei"]]))
        if "mixes" in problem.found or "U+" in problem.found
    ]
    assert [problem.found for problem in letters] == (
        [f"{name!r} mixes GREEK and LATIN (\u03b1 U+03B1)"] if "Cent" in name else []
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [("\u30d0\u30b9", "\u30d1\u30b9"), ("\u0e01\u0e32", "\u0e01\u0e35"), ("\u0939\u093f", "\u0939\u0940"), ("C", "D")],
)
def test_marks_that_form_another_letter_distinguish_subjects(tmp_path, one, other):
    facts = [[one, "uno"], [other, "due"], [f"{one}{one}", "tre"]]
    assert not [p for p in found(tmp_path, relation_file(facts=facts)) if "differs from" in p.found]


def test_objects_match_as_whole_words(tmp_path):
    facts = [
        ["Unosville", "uno"],
        ["Parisian caf\u00e9", "Paris"],
        ["Ij", "\u30a4\u30f3"],
        ["\u30a4\u30f3\u30c9", "sei"],
    ]
    assert not [p for p in found(tmp_path, relation_file(facts=facts)) if "occurs in" in p.found]


def test_a_relation_has_the_same_problems_as_its_file(tmp_path):
    facts = (Fact("Ab", "uno", ("one", "Due")), Fact("Cd", "due"), Fact("Cd ", "tre"))
    problems = check(Relation("mine", ("{} is?",), (), facts), **SMALL)
    content = relation_file(
        facts=[[fact.subject, fact.object] for fact in facts],
        prompt_templates=["{} is?"],
        aliases={"uno": ["one", "Due"]},
    )
    from_file = found(tmp_path, content.replace('"r"', '"mine"'))
    assert {(p.level, p.field, p.found) for p in problems} == {(p.level, p.field, p.found) for p in from_file}
    assert {(p.file, p.line) for p in problems} == {("mine", None)}
    assert not check(Relation("mine", ("{} is",), (), tuple(Fact(*fact) for fact in FACTS)), **SMALL)


def test_relations_of_one_file_are_split_together(tmp_path):
    first, second, third, fourth = sorted(["ab", "cd", "ef", "gh"], key=lambda subject: stable_rank(0, subject))
    r = "".join(f"{subject},{subject} x,,,,r\n" for subject in (first, second, third)).replace("x,,", "x,{} is,", 1)
    s = "".join(f"{subject},{subject} y,,,,s\n" for subject in (second, third, fourth)).replace("y,,", "y,{} is,", 1)
    for alone in (r, s):
        assert E not in {problem.level for problem in found(tmp_path, HEADER + alone, "mine.csv")}
    (error,) = [problem for problem in found(tmp_path, HEADER + r + s, "mine.csv") if problem.level == E]
    assert "'r' has 3 subjects, and 1 facts that no relation uses" in error.found  # s evaluates the second
    assert (error.line, error.field, error.expected) == (None, "samples", "enough for n_evaluation=1, shots=1")


def test_every_relation_with_too_few_facts_is_reported(tmp_path):
    problems = found(tmp_path, TABLE + "x,y,{} z,,,s\nx,y,{} z,,,t\n", "mine.csv", n_evaluation=4)
    assert [problem.found.split()[1] for problem in problems if problem.level == E] == ["'r'", "'s'", "'t'"]


def test_a_file_that_is_refused_as_a_whole_has_an_error(tmp_path, monkeypatch):
    def strict(raw, where):
        if len(raw["samples"]) > 1:
            raise refuse(f"{where}: too much", expected="less")

    monkeypatch.setattr(relation_neurons.relations.lint_parser, "relation_from_dict", strict)
    assert found(tmp_path, relation_file()) == [Problem(E, str(tmp_path / "mine.json"), 1, "file", "too much", "less")]


def test_only_the_first_of_nested_overridden_fields_is_reported(tmp_path):
    content = relation_file().replace('"source": "me"', '"samples": [{"subject": 1}, {"subject": 2}]')
    assert places(found(tmp_path, content)) == [(W, 5, "samples")]
    content = relation_file(aliases={"uno": [" eins", "eins", "one"]})
    assert places(found(tmp_path, content)) == [(E, 5, "aliases: uno 1")]


@pytest.mark.parametrize("depth", range(100, 1100, 50))
def test_a_value_nested_up_to_the_limit_is_refused_and_located(tmp_path, depth):
    path = tmp_path / "deep.json"
    path.write_text(relation_file().replace('"Cd"', "[" * depth + "]" * depth), encoding="utf-8")
    with pytest.raises(RelationNeuronsError, match=r"deep\.json"):
        read_relation(path)
    assert E in {problem.level for problem in check(path, **SMALL)}


@pytest.mark.parametrize("path", ["none.json", "none.csv", ".", "nul\0.json", "x" * 5000])
def test_a_file_that_cannot_be_opened_is_an_error(tmp_path, path):
    (problem,) = check(tmp_path / path)
    assert (problem.level, problem.line, problem.field) == (E, None, "file")
    assert "cannot be read" in problem.found


def test_invalid_split_sizes_are_refused():
    for sizes in ({"n_evaluation": 0}, {"shots": -1}):
        with pytest.raises(RelationNeuronsError, match="Expected: at least"):
            check("none.json", **sizes)


def test_problems_are_printed_one_per_line():
    problems = [
        Problem(E, "a.csv", 3, "subject", "is ''", "a name"),
        Problem(W, "a.csv", None, "samples", "is odd", "more"),
    ]
    assert format_problems(problems).splitlines() == [
        "a.csv:3: error: subject: is ''. Expected: a name.",
        "a.csv: warning: samples: is odd. Expected: more.",
        "Errors: 1. Warnings: 1.",
    ]
    assert format_problems([]) == "Errors: 0. Warnings: 0."


@given(st.integers(0, 11), st.sampled_from(["subject", "object"]), st.sampled_from([None, 0, 1, 3]), st.integers(0, 5))
def test_an_invalid_name_is_located_in_any_json_layout(scratch, number, part, indent, blank):
    samples = [{"subject": f"s{n}", "object": f"o{n}", "note": [{"}": "]"}]} for n in range(12)]
    samples[number][part] = " here"
    content = {"x": {"y": ["\n", {"samples": [1]}]}, "name": "r", "prompt_templates": ["{} is"], "samples": samples}
    text = "\n" * blank + json.dumps(content, indent=indent)
    (line,) = [line for line, words in enumerate(text.split("\n"), start=1) if '" here"' in words]
    errors = [problem for problem in found(scratch, text) if problem.level == E]
    assert places(errors) == [(E, line, f"samples {number + 1}: {part}")]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("check")


def refused(path, n_evaluation, shots):
    """Why loader or split refuse a file, empty if they do not; that anything else is raised fails the test."""
    try:
        relations = read_table(path) if path.suffix == ".csv" else (read_relation(path),)
    except RelationNeuronsError as error:
        return str(error)
    try:
        split_relations(relations, n_evaluation=n_evaluation, n_shots=shots)
    except RelationNeuronsError as error:
        return f"{path}: {error}"
    return ""


def agree(path, data, n_evaluation, shots):
    """The equivalence that the module states."""
    path.write_bytes(data)
    problems = check(path, n_evaluation=n_evaluation, shots=shots)
    errors = [problem for problem in problems if problem.level == E]
    refusal = refused(path, n_evaluation, shots)
    assert bool(errors) is bool(refusal), format_problems(problems)
    assert refusal.encode().startswith(str(path).encode() * bool(refusal))
    last = data.count(b"\n") + data.count(b"\r") + 1
    for problem in problems:
        assert problem.file == str(path)
        assert problem.field
        assert problem.line is None or 1 <= problem.line <= last
    format_problems(problems).encode()
    return bool(errors)


BASE = {
    "name": "r",
    "prompt_templates": ["{} is", "The {} of"],
    "prompt_templates_zs": ["{} was"],
    "properties": {"domain_name": "x", "symmetric": False},
    "source": "me",
    "language": "en",
    "aliases": {"uno": ["one", "eins"], "due": ["two"]},
    "translations": {
        "de": {
            "prompt_templates": ["{} ist"],
            "subjects": {"Ab": "Abe", "Cd": "Cede"},
            "objects": {"uno": "eins", "due": "zwei"},
            "aliases": {"eins": ["ein"]},
        }
    },
    "samples": [{"subject": subject, "object": answer} for subject, answer in [*FACTS, ["Ab", "sei"], ["Ij", "uno"]]],
}
TEXTS = st.sampled_from(["", " ", "{}", "a {} b", "uno", "UNO", "Ab", "\ud800", "\0", "x ", "\u0430b", "aliases", "-"])
VALUES = st.recursive(
    TEXTS | st.text(st.characters(), max_size=5) | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXTS | st.text(st.characters()), inside, max_size=3),
    max_leaves=6,
)
SIZES = (st.integers(1, 3), st.integers(0, 3))


def containers(value):
    """All lists and objects in a value."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] * isinstance(value, dict | list) + [one for part in inside for one in containers(part)]


@st.composite
def mutated_files(draw):
    content = deepcopy(BASE)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from([one for one in containers(content) if one] or [content]))
        if not place:
            break
        steps = list(place) if isinstance(place, dict) else range(len(place))
        step = draw(st.sampled_from(steps))
        what = draw(st.sampled_from(["delete", "replace", "copy", "add"]))
        if what == "delete":
            del place[step]
        elif what == "replace":
            place[step] = draw(VALUES)
        elif what == "copy":
            place[step] = deepcopy(place[draw(st.sampled_from(steps))])
        elif isinstance(place, list):
            place.append(draw(VALUES | st.just(place[step])))
        else:
            place[draw(TEXTS | st.sampled_from([*BASE, "subjects", "subject"]))] = draw(VALUES)
    return json.dumps(content, indent=draw(st.sampled_from([None, 1]))).encode()


@given(mutated_files(), *SIZES)
def test_a_json_file_has_no_error_if_and_only_if_it_loads_and_splits(scratch, data, n_evaluation, shots):
    agree(scratch / "any.json", data, n_evaluation, shots)


PIECES = [
    b"\0",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\r",
    b"\\",
    b"\\ud800",
    b"\xff",
    b"\xef\xbb\xbf",
    b" ",
]
PIECES += [
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"9" * 5000,
    b"1e999",
    b"-",
    b"NaN",
    b'"name": 1,',
    b'"samples": [],',
    b"|",
    b";",
]


@st.composite
def broken(draw, data):
    for _ in range(draw(st.integers(1, 3))):
        start, length = draw(st.integers(0, len(data))), draw(st.sampled_from([0, 0, 1, 2, 7, 10_000]))
        new = draw(st.one_of(st.sampled_from(PIECES), st.just(b""), st.binary(max_size=4), st.just(data[:start][-40:])))
        data = data[:start] + new + data[start + length :]
    return data


WHOLE = json.dumps(BASE, indent=1).encode()


@given(st.one_of(st.binary(max_size=100), broken(WHOLE), VALUES.map(json.dumps).map(str.encode)), *SIZES)
@example(WHOLE, 1, 1)
@example(WHOLE.replace(b'"x"', b"9" * 5000), 1, 1)
@example(WHOLE.replace(b'"x"', b"[" * 100_000), 1, 1)
@example(WHOLE.replace(b'"x"', b"[" * 100_000 + b"]" * 100_000), 1, 1)
@example(WHOLE.replace(b'"Cd"', b'"\\ud83d"'), 1, 1)
@example(WHOLE.replace(b'"Cd"', b'"\\ud83d\\ude00"'), 1, 1)
@example(WHOLE.replace(b'"name"', b'"samples": 3, "name"'), 1, 1)
@example(b"\xef\xbb\xbf" + WHOLE, 1, 1)
def test_arbitrary_bytes_have_errors_if_and_only_if_they_do_not_load(scratch, data, n_evaluation, shots):
    agree(scratch / "any.json", data, n_evaluation, shots)


CELLS = st.sampled_from(
    ["Ab", "Cd", "uno", "UNO", "due", "x", "x y", "", " x", "{}", "a {} b", "x|y", "uno|x", "X", "||", "r", "\u0430b"]
)


@st.composite
def tables(draw):
    header = draw(st.permutations(HEADER.strip().split(","))) + draw(st.lists(CELLS, max_size=1))
    rows = draw(st.lists(st.lists(CELLS, min_size=len(header), max_size=len(header)), max_size=4))
    good = [
        {"subject": f"s{n}", "object": f"o{n}", "template": "{} is", "relation": draw(st.sampled_from("rs"))}
        for n in range(8)
    ]
    rows += [[row.get(column, "") for column in header] for row in good]
    return "\n".join(",".join(row) for row in [header, *draw(st.permutations(rows))]).encode()


@given(st.one_of(st.binary(max_size=100), broken(TABLE.encode()), tables()), *SIZES)
@example(TABLE.encode(), 1, 1)
def test_a_table_has_no_error_if_and_only_if_it_loads_and_splits(scratch, data, n_evaluation, shots):
    agree(scratch / "any.csv", data, n_evaluation, shots)


def test_the_equivalence_test_covers_valid_and_invalid_files(scratch):
    path = scratch / "any.json"
    outcomes = [agree(path, WHOLE, *sizes) for sizes in product((1, 2, 3, 4, 5), (0, 1, 2, 3))]
    assert set(outcomes) == {False, True}
