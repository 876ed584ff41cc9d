"""Warnings about damaged texts, other formats, objects that are hard to tell apart, and unknown languages."""

import json

import pytest

from relation_neurons import Fact, Relation
from relation_neurons.relations.lint import check
from relation_neurons.relations.lint_text import damaged_text, odd_name, placeholder
from relation_neurons.relations.loading import data_folder, load_relations
from relation_neurons.relations.translations import LANGUAGES, nearest_language, read_translations


def warnings_in(tmp_path, content, name="mine.csv"):
    """What is found in each line of a file that has no error."""
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    problems = check(path, n_evaluation=1, shots=0)
    assert {problem.level for problem in problems} <= {"warning"}
    return [(problem.line, problem.field, problem.found) for problem in problems]


def table(*rows, template="The capital of {} is"):
    return "\n".join(["subject,object,template,aliases", f"{rows[0]},{template},", *(f"{row},," for row in rows[1:])])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Rio\u00a0Branco", "has the space U+00A0"),
        ("New  Zealand", "has the spaces U+0020 U+0020"),
        ("10\u202f000", "has the space U+202F"),
        ("Bras\u00c3\u00adlia", "is 'Brasília' read in the wrong encoding"),
        ("N\u00e2\u20ac\u2122Djamena", "is 'N\u2019Djamena' read in the wrong encoding"),
        ("LomÃ©", "is 'Lomé' read in the wrong encoding"),
        ("SÃ£o TomÃ©", "is 'São Tomé' read in the wrong encoding"),
        ("\u00d0\u0161\u00d0\u00b8\u00d0\u00b5\u00d0\u00b2", "is 'Киев' read in the wrong encoding"),
        ("\u00e6\u009d\u00b1\u00e4\u00ba\u00ac", "is '東京' read in the wrong encoding"),
        ("AT&amp;T", "has the HTML entity &amp;"),
        ("caf&#233;", "has the HTML entity &#233;"),
        ("Bras\\u00edlia", "has \\u00ed, an escaped character"),
        ("a\\nb", "has \\n, an escaped character"),
    ],
)
def test_damaged_texts_are_found(text, found):
    assert [finding for finding, _ in damaged_text(text)] == [found]


@pytest.mark.parametrize(
    "text",
    [
        *("São Tomé", "Côte d'Ivoire", "Łódź", "Ähtäri", "Ærøskøbing", "ÅÄÖ", "Île", "Þórshöfn", "naïve", "Ñandú"),
        *("« Le Monde\u00a0»", "Quelle est la capitale de {}\u00a0?", "A & B; C", "R&B;", "&c;", "C:\\users", "50 €"),
        *("Москва", "北京", "東京\u3000都", "Dvořák\u2019s “Rusalka” \u2013 Op. 114…", "É\u2013È", "Ü“"),
    ],
)
def test_sound_texts_are_not_reported(text):
    assert list(damaged_text(text)) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("United_States", "has an underscore"),
        ("Washington,_D.C.", "has an underscore"),
        ("Q142", "is an identifier of Wikidata"),
        ("nan", "is a missing value"),
        ("NaN", "is a missing value"),
        ("None", "is a missing value"),
        ("N/A", "is a missing value"),
        ("1976.0", "is an integer written as a float"),
        ("['singer', 'actor']", "is a list"),
        ('["poet"]', "is a list"),
        ("{'poet'}", "is a list"),
        ("('poet', 'actor')", "is a list"),
    ],
)
def test_texts_that_are_no_names_are_found(name, found):
    assert [finding for finding, _ in odd_name(name)] == [found]


@pytest.mark.parametrize(
    "name", ["Nan", "Na", "1976", "3.05", "Audi Q7", "Q", "Q0", "Paris (Texas)", "(What's) Up", "none"]
)
def test_unusual_names_are_not_reported(name):
    assert list(odd_name(name)) == []


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("[Y] is the capital of {}", "has the placeholder [Y]"),
        ("The capital of {} is [MASK]", "has the placeholder [MASK]"),
        ("The capital of {} is <mask>", "has the placeholder <mask>"),
        ("{} has the capital ___", "has the placeholder ___"),
        ("{} has the capital <extra_id_0>", "has the placeholder <extra_id_0>"),
    ],
)
def test_placeholders_of_other_formats_are_found(template, found):
    assert [finding for finding, _ in placeholder(template)] == [found]
    assert list(placeholder("The [first] capital of {} is a_b <i>")) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            table("Brazil,Rio\u00a0Branco", "New\u00a0Zealand,Wellington", "Chad,N  Djamena"),
            ["object", "subject", "object"],
        ),
        (table("Brazil,BrasÃ\u00adlia", "Chad,Nâ€™Djamena", "Togo,LomÃ©"), ["object"] * 3),
        (table("Brazil,Bras\\u00edlia", "Chad,N\\u2019Djamena"), ["object"] * 2),
        (
            table('United_States,"Washington,_D.C."', "New_Zealand,Wellington", "Chad,Q1"),
            ["subject", "object"] * 2,
        ),
        (table("Apple,nan", "IBM,1911", "Sony,NaN", "Dell,None", "HP,N/A", "Xerox,1976.0"), ["object"] * 5),
        (table("Anna,\"['singer', 'actor']\"", "Bob,['poet']"), ["object"] * 2),
        (table("France,Paris", "Italy,Rome", template="The capital of {} is [MASK]"), ["template"]),
    ],
)
def test_each_damaged_cell_of_a_table_is_reported_once(tmp_path, content, expected):
    kinds = ("space", "encoding", "escaped", "underscore", "Wikidata", "missing", "float", "list", "placeholder")
    assert [
        field for _, field, found in warnings_in(tmp_path, content) if any(map(found.__contains__, kinds))
    ] == expected


def test_objects_that_the_rules_confuse_are_reported(tmp_path):
    rows = (
        "Bata,Guinea",
        "Bissau,Guinea-Bissau",
        "Lagos,Nigeria",
        "Niamey,Niger",
        "Kano,nigeria",
        "Kankan,Guinea",
        "a,Guinea.X",
    )
    assert warnings_in(tmp_path, table(*rows, template="The country of {} is")) == [
        (2, "object", "'Guinea' is the beginning of 'Guinea-Bissau' (object, line 3) and 1 more"),
        (6, "object", "'nigeria' differs from 'Nigeria' (object, line 4) only by case, accents or punctuation"),
    ]


@pytest.mark.parametrize("objects", [("$", "€", "£", "¥"), ("C", "C++", "C#", "Python"), ("5", "-5", "5.5", "5,000")])
def test_objects_that_signs_tell_apart_are_not_reported(tmp_path, objects):
    facts = tuple(Fact(f"s{number}", name) for number, name in enumerate(objects))
    assert check(Relation("sign", ("The sign of {} is",), (), facts), n_evaluation=1, shots=0) == []


@pytest.mark.parametrize(("code", "near"), [("zh-CN", "'zh'"), ("jp", "'ja'"), ("German", "'de'"), ("it", None)])
def test_unknown_languages_are_reported_with_the_nearest(tmp_path, code, near):
    content = {"name": "cap", "prompt_templates": ["The capital of {} is"], "language": code}
    content["samples"] = [{"subject": "France", "object": "Paris"}, {"subject": "Peru", "object": "Lima"}]
    path = tmp_path / "cap.json"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    (problem,) = check(path, n_evaluation=1, shots=0)
    assert (problem.level, problem.line, problem.field) == ("warning", 6, "language")
    assert "is unknown, so its prompts end in '? Answer:', as in English" in problem.found
    assert problem.expected == (f"{near}, or " if near else "") + "one of en, de, es, fr, ja, zh"
    assert problem.expected.startswith(near or "one of")


def test_known_languages_are_not_reported(tmp_path):
    assert {nearest_language(code) for code in LANGUAGES} == set(LANGUAGES)
    german = "subject,object,template,language\nBern,Schweiz,{} liegt in,de\nParis,Frankreich,,de\nRom,Italien,,\n"
    assert warnings_in(tmp_path, german) == []


@pytest.mark.parametrize("relation", load_relations(), ids=lambda relation: relation.name)
def test_translations_of_shipped_relations_have_no_damaged_text(relation):
    for translation in read_translations(data_folder() / "languages", relation.name).values():
        names = [*translation.subjects.values(), *translation.objects.values()]
        names += [alias for aliases in translation.aliases.values() for alias in aliases]
        templates = [*translation.templates, *translation.templates_zs]
        assert [finding for text in (*names, *templates) for finding in damaged_text(text)] == []
        assert [finding for name in names for finding in odd_name(name)] == []
        assert [finding for template in templates for finding in placeholder(template)] == []


def test_json_lines_are_named(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text('{"sub_label": "France", "obj_label": "Paris"}\n{"sub_label": "Peru", "obj_label": "Lima"}\n')
    (problem,) = check(path)
    assert (problem.level, problem.line, problem.found) == ("error", 2, "is JSON Lines, with one object on each line")
    assert "to_csv" in problem.expected
    with pytest.raises(Exception, match=r"facts\.jsonl: is JSON Lines.*Do this: save it as CSV"):
        load_relations(path)
