import json
import unicodedata
from collections import Counter

import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.errors import is_file_name
from relation_neurons.evaluation.answers import string_rule
from relation_neurons.relations import lre
from relation_neurons.relations.lint import check
from relation_neurons.relations.loading import data_folder, shipped_names
from relation_neurons.relations.relation import key
from relation_neurons.relations.splits import object_halves, split_relations, stable_rank

PAPER = {
    "company_ceo",
    "company_hq",
    "landmark_continent",
    "landmark_country",
    "person_father",
    "person_mother",
    "person_occupation",
    "person_plays_instrument",
    "person_pro_sport",
    "person_sport_position",
    "product_company",
    "star_constellation",
}
COUNTRIES = {"country_capital", "country_language", "country_currency", "country_continent"}


def test_the_sixteen_relations_are_shipped():
    assert set(shipped_names()) == PAPER | COUNTRIES


@pytest.mark.parametrize("name", sorted(PAPER | COUNTRIES))
def test_a_shipped_relation_is_clean(name):
    (relation,) = rn.load_relations(name)
    assert relation.name == name
    assert len(relation.facts) >= 110
    assert relation.source
    assert relation.templates
    assert relation.templates_zs
    subjects = [fact.subject.casefold() for fact in relation.facts]
    assert len(set(subjects)) == len(subjects)
    for fact in relation.facts:
        assert fact.object.casefold() not in fact.subject.casefold(), fact
        for text in (fact.subject, fact.object, *fact.aliases):
            assert unicodedata.normalize("NFC", text) == text
            assert not set(text) & set("\\\n\t_{}<>|"), text
            assert "  " not in text
            assert "&amp" not in text
    spellings = {}
    for relation_object in relation.objects:
        assert spellings.setdefault(relation_object.casefold(), relation_object) == relation_object


@pytest.mark.parametrize("name", sorted(PAPER | COUNTRIES))
def test_a_shipped_alias_adds_to_the_other_names_and_fits_no_other_object(name):
    (relation,) = rn.load_relations(name)
    for fact in relation.facts:
        for alias in fact.aliases:
            others = {fact.object, *fact.aliases} - {alias}
            assert not [known for known in others if string_rule(alias, known)], alias
            rivals = set(relation.objects) - {fact.object}
            assert not [rival for rival in rivals if string_rule(rival, alias)], alias


def test_data_readme_states_the_counts():
    text = (data_folder() / "README.md").read_text(encoding="utf-8")
    relations = rn.load_relations()
    n_objects = n_with_aliases = 0
    for relation in relations:
        other_names = {fact.object: fact.aliases for fact in relation.facts}
        counts = (len(relation.facts), len(other_names), sum(map(bool, other_names.values())))
        assert f"| {relation.name} | {' | '.join(map(str, counts))} |" in text
        n_objects += counts[1]
        n_with_aliases += counts[2]
    assert f"{sum(len(relation.facts) for relation in relations):,} facts" in text
    assert f"{n_with_aliases} of the {n_objects:,} objects" in text


@pytest.mark.parametrize("seed", [0, 7])
def test_no_subject_is_in_both_detection_and_evaluation(seed):
    relations = rn.load_relations()
    splits = split_relations(relations, n_evaluation=30, n_shots=3, seed=seed)
    evaluated = {fact.subject for split in splits.values() for fact in split.evaluation}
    for name, split in splits.items():
        detected, shown = ({fact.subject for fact in facts} for facts in (split.detection, split.shots))
        assert not evaluated & (detected | shown)
        assert not detected & shown
        assert len(split.evaluation) == 30
        assert len({fact.object for fact in split.shots}) == 3, name


@pytest.mark.parametrize("seed", [0, 7])
def test_no_object_of_evaluation_is_an_answer_in_detection_when_objects_are_split(seed):
    relations = rn.load_relations()
    splits = split_relations(relations, n_evaluation=15, n_shots=2, seed=seed, by="objects")
    evaluated = {key(fact.subject) for split in splits.values() for fact in split.evaluation}
    for relation in relations:
        split = splits[relation.name]
        shown = {key(fact.subject) for fact in split.shots}
        assert not evaluated & ({key(fact.subject) for fact in split.detection} | shown)
        tested, answers = (
            {key(fact.object) for fact in facts} for facts in (split.evaluation, (*split.detection, *split.shots))
        )
        assert not tested & answers
        assert len({key(fact.subject) for fact in split.evaluation}) == 15
        assert len(split.shots) == 2


def test_halves_of_objects_are_balanced_by_facts_and_chosen_by_the_seed():
    for relation in rn.load_relations():
        counts = Counter(key(fact.object) for fact in relation.facts)
        found = [object_halves(relation.facts, seed) for seed in range(8)]
        for first, second in found:
            assert first | second == set(counts)
            assert not first & second
            sizes = [sum(counts[name] for name in half) for half in (first, second)]
            assert abs(sizes[0] - sizes[1]) <= max(counts.values())
        assert len(set(found)) > 1
        assert object_halves(relation.facts[::-1], 3) == found[3]


def test_objects_that_cannot_be_halved_are_refused_by_name():
    one = rn.Relation("one", ("{} is",), (), tuple(rn.Fact(f"s{i}", "o") for i in range(9)))
    with pytest.raises(rn.RelationNeuronsError, match=r"relation 'one' have the same object.*split by facts"):
        split_relations([one], n_evaluation=2, n_shots=0, by="objects")
    two = rn.Relation("two", ("{} is",), (), tuple(rn.Fact(f"s{i}", f"o{i % 2}") for i in range(20)))
    assert split_relations([two], n_evaluation=10, n_shots=1, by="objects")["two"].detection
    for asked in ({"n_evaluation": 11, "n_shots": 1}, {"n_evaluation": 5, "n_shots": 2}):
        with pytest.raises(rn.RelationNeuronsError, match="'two' has in the halves of its objects 10 subjects"):
            split_relations([two], by="objects", **asked)


def test_a_split_depends_on_the_seed_alone_and_not_on_the_machine():
    (capital,) = rn.load_relations("country_capital")
    alone = split_relations([capital], seed=0)["country_capital"].evaluation
    together = split_relations(rn.load_relations(), seed=0)["country_capital"].evaluation
    assert alone == together
    assert alone != split_relations([capital], seed=1)["country_capital"].evaluation
    assert stable_rank(0, "france").hex()[:16] == "e9a6f6397046badd"


def test_facts_of_a_repeated_subject_stay_together():
    facts = [rn.Fact(f"s{i // 2}", f"o{i}") for i in range(40)]
    split = split_relations([rn.Relation("r", ("{} is",), (), tuple(facts))], n_evaluation=5, n_shots=1)["r"]
    assert len(split.evaluation) == 10
    assert {f.subject for f in split.evaluation}.isdisjoint(f.subject for f in split.detection)


TWO = [{"subject": "a", "object": "b"}, {"subject": "d", "object": "e"}]


def sample(**changes):
    return {"name": "r", "prompt_templates": ["{} is"], "samples": [{"subject": "a", "object": "b"}], **changes}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("[]", "is a list"),
        (json.dumps(sample(name="")), "'name'"),
        (json.dumps(sample(prompt_templates=[])), "prompt_templates"),
        (json.dumps(sample(prompt_templates=["no slot"])), "exactly one {}"),
        (json.dumps(sample(prompt_templates=["{} and {}"])), "exactly one {}"),
        (json.dumps(sample(samples=[])), "samples"),
        (json.dumps(sample(samples=[{"subject": "a"}])), "sample 1: 'object'"),
        (json.dumps(sample(samples=[{"subject": "a", "object": "b"}, {"subject": " x", "object": "b"}])), "sample 2"),
        (json.dumps(sample(samples=["a"])), "sample 1"),
        (json.dumps(sample(aliases=["b"])), "field 'aliases' is ['b']"),
        (json.dumps(sample(aliases=None)), "field 'aliases' is None"),
        (json.dumps(sample(aliases={"B": ["c"]})), "'B': no sample has this object"),
        (json.dumps(sample(aliases={"b": "c"})), "'b' is 'c'"),
        (json.dumps(sample(aliases={"b": ["c", 1]})), "'b': a name is 1"),
        (json.dumps(sample(aliases={"b": [""]})), "'b': a name is ''"),
        (json.dumps(sample(aliases={"b": ["c "]})), "'b': a name is 'c '"),
        (json.dumps(sample(aliases={"b": ["c", "C"]})), "'b': 'C' is an object itself or occurs twice"),
        (json.dumps(sample(aliases={"b": ["B"]})), "'b': 'B' is an object itself"),
        (json.dumps(sample(aliases={"b": ["e"]}, samples=TWO)), "'b': 'e' is an object itself"),
    ],
)
def test_a_malformed_file_is_refused_with_its_field(tmp_path, content, says):
    path = tmp_path / "bad.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(rn.RelationNeuronsError, match=r"bad\.json") as error:
        rn.load_relations(path)
    assert says in str(error.value)


@pytest.mark.parametrize("name", ["a/b", "../up", "..", "a\\b", "a:b", ".hidden", "nul\0", "x" * 201, "é" * 101])
def test_a_name_that_is_not_a_valid_file_name_is_refused_by_every_reader(tmp_path, name):
    said = "cannot be the name of a file. Expected: a name of at most 200 bytes that contains no /"
    path, table = tmp_path / "bad.json", tmp_path / "bad.csv"
    path.write_text(json.dumps(sample(name=name)), encoding="utf-8")
    table.write_text(f"relation,subject,object,template\nfine,a,b,{{}} is\n{name},a,b,{{}} is\n", encoding="utf-8")
    for source, place in ((path, "bad.json: field 'name' is"), (table, "bad.csv, line 3, field 'relation': is")):
        with pytest.raises(rn.RelationNeuronsError) as error:
            rn.load_relations(source)
        assert place in str(error.value)
        assert said in str(error.value)
        assert len(str(error.value)) < len(str(source)) + 500
        assert "cannot be the name of a file" in " ".join(problem.found for problem in check(source))
    frame = pd.DataFrame([("a", "b")], columns=["subject", "object"])
    with pytest.raises(rn.RelationNeuronsError, match="cannot be the name of a file"):
        rn.relation_from_frame(frame, name=name, templates=["{} is"])


def test_existing_names_are_valid_file_names(tmp_path):
    for name in ("person plays instrument", "country_capital", "größe", "a.b", "name (2)", "50 %", "x" * 200):
        (tmp_path / "r.json").write_text(json.dumps(sample(name=name)), encoding="utf-8")
        assert [relation.name for relation in rn.load_relations(tmp_path / "r.json")] == [name]
    assert all(map(is_file_name, (*shipped_names(), *lre.names(), *lre.PAPER)))


def test_every_fact_and_prompt_of_an_object_has_its_aliases(tmp_path):
    samples = [*TWO, {"subject": "f", "object": "b", "aliases": []}]
    aliases = {"b": ["bee", "both"], "e": ["both"]}
    (tmp_path / "r.json").write_text(json.dumps(sample(samples=samples, aliases=aliases)), encoding="utf-8")
    (relation,) = rn.load_relations(tmp_path)
    assert [fact.aliases for fact in relation.facts] == [("bee", "both"), ("both",), ("bee", "both")]
    assert rn.Fact("s", "o").aliases == ()
    prompts = rn.make_prompts([relation], rn.PromptConfig(shots=0, n_evaluation=1))
    asked = (*prompts.detection, *prompts.evaluation)
    assert {(p.subject, p.aliases) for p in asked} == {(f.subject, f.aliases) for f in relation.facts}


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "latin.json"
    path.write_bytes(json.dumps(sample(name="é"), ensure_ascii=False).encode("latin-1"))
    with pytest.raises(rn.RelationNeuronsError, match="UTF-8"):
        rn.load_relations(path)


def test_names_files_and_folders_can_be_mixed(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(sample(name="mine")), encoding="utf-8")
    found = rn.load_relations("person_father", tmp_path)
    assert [relation.name for relation in found] == ["person_father", "mine"]


def test_unknown_and_duplicate_names_are_refused(tmp_path):
    with pytest.raises(rn.RelationNeuronsError, match="did you mean 'country_capital'"):
        rn.load_relations("country_capitol")
    with pytest.raises(rn.RelationNeuronsError, match="twice"):
        rn.load_relations("country_capital", "country_capital")
    with pytest.raises(rn.RelationNeuronsError, match=r"no \.json"):
        rn.load_relations(tmp_path)


def test_too_few_facts_for_a_split_are_refused():
    relation = rn.Relation("r", ("{} is",), (), tuple(rn.Fact(f"s{i}", f"o{i}") for i in range(10)))
    with pytest.raises(rn.RelationNeuronsError, match="'r' has 10 subjects"):
        split_relations([relation], n_evaluation=10)
