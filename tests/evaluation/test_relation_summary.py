import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import relation_neurons as rn
from relation_neurons import figures
from relation_neurons.evaluation.relation_summary import describe, jaccard, overlaps
from relation_neurons.evaluation.summary_table import console_table
from relation_neurons.relations.relation import Translation

Z2 = 1.959964**2
ZERO_SHOT = rn.PromptConfig(shots=0, n_evaluation=5)


def relation(name, pairs, templates=("{} is",)):
    return rn.Relation(name, tuple(templates), (), tuple(rn.Fact(subject, object) for subject, object in pairs))


PETS = relation(
    "pets", [("Rex", "dog"), ("Tom", "cat"), ("Ann", "Dog"), ("Bob", "DOG"), ("Eve", "bird"), ("\uff34om", "fish")]
)
HOMES = relation("homes", [("tom", "Rome"), ("EVE", "Oslo"), ("Zoe", "Rome"), ("Max", "Cat")], ["{} lives", "{} is at"])


def test_facts_are_counted_and_spellings_of_a_name_are_merged():
    table = describe([PETS, HOMES], config=rn.PromptConfig(shots=0, n_evaluation=1)).set_index("relation")
    assert table.loc["pets", ["facts", "subjects", "objects"]].tolist() == [6, 5, 4]
    assert table.loc["pets", ["majority", "majority_ties"]].tolist() == ["dog", 0]
    # Wilson 1927 by hand for 3 of 6: centre 1/2, half-width z/(1 + z^2/6) * sqrt(1/24 + z^2/144) = 0.31238.
    expected = [0.5, 0.5 - 0.31238, 0.5 + 0.31238]
    assert table.loc["pets", ["majority_share", "majority_low", "majority_high"]].tolist() == pytest.approx(
        expected, abs=1e-5
    )
    assert table.loc["homes", ["templates", "templates_zs"]].tolist() == [2, 0]


def test_of_equally_frequent_objects_the_first_by_name_is_listed_and_the_others_are_counted():
    pairs = [(f"s{number}", ["pear", "fig", "apple", "fig", "pear"][number]) for number in range(5)]
    for facts in (pairs, pairs[::-1]):
        row = describe([relation("r", facts)], config=rn.PromptConfig(shots=0, n_evaluation=1)).loc[0]
        assert (row["majority"], row["majority_ties"]) == ("fig", 1)


@pytest.mark.parametrize(("n_detection", "expected"), [(None, 33), (10, 10), (50, 33)])
def test_the_split_is_that_of_the_prompts(planted, n_detection, expected):
    """The planted relations have the same 40 subjects: 5 evaluate, 2 are examples."""
    config = rn.PromptConfig(shots=2, n_evaluation=5, n_detection=n_detection)
    table = describe(planted.relations, config=config)
    assert table["detection"].tolist() == [expected] * 3
    assert table["evaluation"].tolist() == [5] * 3
    assert len(rn.make_prompts(planted.relations, config).detection) == 3 * expected


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_evaluation_subjects_of_other_relations_are_not_used_for_detection(seed):
    pairs = [(f"s{number}", f"o{number % 3}") for number in range(60)]
    both = [relation("few", pairs[:30]), relation("many", pairs)]
    config = rn.PromptConfig(shots=1, n_evaluation=15, split_seed=seed)
    asked = [prompt.relation for prompt in rn.make_prompts(both, config).detection]
    found = describe(both, config=config)["detection"].tolist()
    assert found == [asked.count("few"), asked.count("many")]
    assert found[1] < 60 - 15 - 1


def test_objects_are_tokenised_as_continuations_of_a_prompt(tiny):
    objects = ["w1", "w1 w2", "w3 w4 w5", "w6", "w1"]
    words = relation("words", [(f"w{20 + number}", object) for number, object in enumerate(objects)], ["w7 {} w8"])
    row = describe([words], model=tiny, config=rn.PromptConfig(shots=1, n_evaluation=1)).loc[0]
    assert row["objects"] == 4
    assert (row["tokens_median"], row["tokens_max"]) == (1.5, 3)
    assert row["single_token_share"] == 2 / 4  # w1 and w6
    assert row["shared_first_share"] == 2 / 4  # w1 and "w1 w2"


@pytest.mark.parametrize("seed", range(4))
def test_in_another_language_only_translated_facts_count(tiny, seed):
    """Subject w20 and the object of w24 have no name there, so that two of six facts are left out."""
    objects = ["w1", "w2", "w2", "w3", "w4", "w5"]
    pairs = [(f"w{20 + number}", object) for number, object in enumerate(objects)]
    there = Translation(
        ("w9 {} w9",),
        ("{} w9", "w9 {}"),
        {f"w{number}": f"w{number + 10}" for number in range(21, 26)},
        {"w1": "w6", "w2": "w6 w7", "w3": "w6 w8 w9", "w5": "w7"},
    )
    words = dataclasses.replace(relation("words", pairs, ["w7 {} w8"]), translations={"de": there})
    config = rn.PromptConfig(shots=0, n_evaluation=3, language="de", answer="? Answer:", split_seed=seed)
    row = describe([words], model=tiny, config=config, validate="prefix").loc[0]
    assert row[["facts", "subjects", "objects", "majority"]].tolist() == [4, 4, 3, "w6 w7"]
    assert row[["templates", "templates_zs"]].tolist() == [1, 2]
    assert row[["tokens_median", "tokens_max", "single_token_share", "shared_first_share"]].tolist() == [
        2, 3, 1 / 3, 2 / 3,
    ]  # fmt: skip
    prompts = rn.make_prompts([words], config)
    assert row[["detection", "evaluation"]].tolist() == [len(prompts.detection), len(prompts.evaluation)]
    assert row["detection"] + row["evaluation"] == 4
    assert row["prompts"] == row["valid_n"] == row["detection"]


def test_a_relation_without_any_translated_fact_is_refused():
    there = Translation(("{} ist",), (), {}, {})
    mute = dataclasses.replace(PETS, translations={"de": there})
    with pytest.raises(rn.RelationNeuronsError, match="'pets' has no fact in 'de'"):
        describe([mute], config=rn.PromptConfig(shots=0, n_evaluation=1, language="de"))


def spoilt(planted, which):
    """The planted relation `lives` with a wrong object for some subjects."""
    lives = planted.relations[0]
    objects = lives.objects
    pairs = [
        (fact.subject, objects[(objects.index(fact.object) + which(int(fact.subject[1:]))) % len(objects)])
        for fact in lives.facts
    ]
    return relation("lives", pairs, lives.templates)


def test_wrongly_answered_prompts_are_not_valid(planted):
    all_right = describe([planted.relations[0]], model=planted.model, config=ZERO_SHOT, validate="string").loc[0]
    assert all_right[["prompts", "valid", "valid_share", "valid_n"]].tolist() == [35, 35, 1, 35]
    assert all_right[["valid_low", "valid_high"]].tolist() == pytest.approx([35 / (35 + Z2), 1], abs=1e-6)

    half = spoilt(planted, lambda number: number % 2)
    prompts = rn.make_prompts([half], ZERO_SHOT).detection
    row = describe([half], model=planted.model, config=ZERO_SHOT, validate="string").loc[0]
    assert row["valid"] == sum(int(prompt.subject[1:]) % 2 == 0 for prompt in prompts)
    assert row["valid_share"] == row["valid"] / 35

    none = describe([spoilt(planted, lambda number: 1)], model=planted.model, config=ZERO_SHOT, validate="string").loc[
        0
    ]
    assert none[["valid", "valid_share", "valid_low"]].tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    assert none["valid_high"] == pytest.approx(Z2 / (35 + Z2), abs=1e-6)


def test_intervals_count_subjects_not_prompts(planted):
    """Each fact is asked in the right template and in that of another relation, where the answer is wrong."""
    half = spoilt(planted, lambda number: number % 2)
    twice = relation("lives", [(f.subject, f.object) for f in half.facts], ["{} lives in", "{} eats in"])
    config = rn.PromptConfig(shots=0, n_evaluation=5, templates="all")
    row = describe([twice], model=planted.model, config=config, validate="string").loc[0]
    assert row[["prompts", "valid_n"]].tolist() == [70, 35]
    right = row["valid"] / 35  # of these subjects one prompt of two is right, of the others none
    assert 0.3 < right < 0.7
    assert row["valid_share"] == pytest.approx(right / 2)
    error = 1.96 * 0.5 * np.sqrt(right * (1 - right) / 35)
    assert row[["valid_low", "valid_high"]].tolist() == pytest.approx([right / 2 - error, right / 2 + error], abs=0.03)


def test_the_prefix_rule_reads_two_tokens(tiny):
    """Objects are what the model says, or for every third subject something else."""
    asked = relation("r", [(f"w{number}", "w58 w59") for number in range(30)], ["w50 {} w51"])
    said = rn.recall(tiny, rn.make_prompts([asked], ZERO_SHOT).detection, max_new_tokens=2).set_index("subject")
    taken = {subject for subject in said.index if int(subject[1:]) % 3 and said.loc[subject, "generated"].strip()}
    pairs = [(f.subject, said.loc[f.subject, "generated"] if f.subject in taken else f.object) for f in asked.facts]
    row = describe([relation("r", pairs, asked.templates)], model=tiny, config=ZERO_SHOT, validate="prefix").loc[0]
    assert 10 < len(taken) < 25
    assert row["valid"] == len(taken)


def test_descriptions_are_deterministic_and_independent_of_order(planted):
    options = {"model": planted.model, "config": ZERO_SHOT, "validate": "prefix"}
    first, again = (describe(planted.relations, **options) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    turned = describe(planted.relations[::-1], **options)
    pd.testing.assert_frame_equal(first, turned.iloc[::-1].reset_index(drop=True))
    facts = describe(planted.relations, config=ZERO_SHOT)
    pd.testing.assert_frame_equal(first[list(facts)], facts)


def test_progress_counts_prompts(planted):
    seen = []
    describe(planted.relations, model=planted.model, config=ZERO_SHOT, validate="prefix", progress=seen.append)
    assert sum(seen) == 3 * 35


def test_invalid_descriptions_are_refused(planted):
    with pytest.raises(rn.RelationNeuronsError, match="no relations"):
        describe([])
    with pytest.raises(rn.RelationNeuronsError, match="'pets' occurs 2 times"):
        overlaps([PETS, HOMES, PETS], "objects")
    with pytest.raises(rn.RelationNeuronsError, match="there is no model"):
        describe([PETS], validate="prefix")
    with pytest.raises(rn.RelationNeuronsError, match="did you mean 'prefix'"):
        describe([PETS], model=planted.model, validate="prefx")
    with pytest.raises(rn.RelationNeuronsError, match="too few"):
        describe([PETS])


def test_shared_names_are_counted():
    colours = relation("colours", [("Tom", "red"), ("Ann", "dog")])
    subjects = overlaps([PETS, HOMES, colours], "subjects")
    assert subjects.to_numpy().tolist() == [[5, 2, 2], [2, 4, 1], [2, 1, 2]]
    assert list(subjects.index) == list(subjects.columns) == ["pets", "homes", "colours"]
    objects = overlaps([PETS, HOMES, colours], "objects")
    assert objects.to_numpy().tolist() == [[4, 1, 1], [1, 3, 0], [1, 0, 2]]
    np.testing.assert_allclose(jaccard(subjects), [[1, 2 / 7, 2 / 5], [2 / 7, 1, 1 / 5], [2 / 5, 1 / 5, 1]])


def described(n):
    """A description of relations with long names, all columns filled."""
    rows = {
        "relation": [f"person_plays_position_{number:02d}" for number in range(n)],
        **dict.fromkeys(("facts", "subjects", "prompts", "valid_n"), 1234),
        **dict.fromkeys(("objects", "detection", "valid"), 1050),
        "majority": "United States of America",
        "majority_ties": [number % 2 for number in range(n)],
        **{f"{part}_{end}": value for part in ("majority", "valid") for end, value in INTERVAL.items()},
        "templates": 10,
        "templates_zs": 2,
        "evaluation": 150,
        "tokens_median": 4.5,
        "tokens_max": 12,
        "single_token_share": np.linspace(0, 1, n),
        "shared_first_share": 1.0,
    }
    return pd.DataFrame(rows, index=range(n))


INTERVAL = {"share": 0.85, "low": 0.8, "high": 1.0}


def printed(description, width=100):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(console_table(description))
    return console.export_text()


def test_the_console_table_fits_100_columns():
    description = described(16)
    text = printed(description)
    assert max(map(len, text.splitlines())) <= 100
    assert "\u2026" not in text
    for name in description["relation"]:
        assert any(line.startswith(f"{name} ") for line in text.splitlines())
    for cell in ("85% of 1234", "[80, 100]", "4.5, max 12", "10 + 2"):
        assert text.count(cell) >= 16, cell
    assert "(+1)" in text


def test_the_console_table_omits_missing_columns_and_escapes_names():
    odd = relation("[bold]r", [(f"s{number}", "[red]o") for number in range(3)])
    text = printed(describe([odd], config=rn.PromptConfig(shots=0, n_evaluation=1)))
    assert "[bold]r" in text
    assert "[red]o" in text
    assert "tokens" not in text
    assert "right of" not in text


def test_the_overlap_figure_shows_shared_names():
    table = overlaps([PETS, HOMES, relation("colours", [("Sky", "blue")])], "subjects")
    figure = figures.overlap_of_names_figure(table, "Subjects")
    (heat,) = figure.data
    np.testing.assert_array_equal(heat.z, [[np.nan, 2, 0], [2, np.nan, 0], [0, 0, np.nan]])
    assert [list(row) for row in heat.text] == [["", "2", ""], ["2", "", ""], ["", "", ""]]
    assert list(heat.y) == list(heat.x) == ["pets", "homes", "colours"]
    assert np.asarray(heat.customdata)[0, 1].tolist() == pytest.approx([5, 4, 2 / 7])
    assert figure.layout.title.text == "Subjects"


@pytest.mark.parametrize("n", [12, 47])
def test_every_relation_keeps_its_label(n):
    names = [f"relation_{number}" for number in range(n)]
    table = pd.DataFrame(np.full((n, n), 7) + 3 * np.eye(n, dtype=int), index=names, columns=names)
    layout = figures.overlap_of_names_figure(table, "Objects").layout
    assert layout.xaxis.dtick == layout.yaxis.dtick == 1
    assert (layout.height - 200) / n > layout.yaxis.tickfont.size  # a row is higher than its label
    for figure in (figures.facts_figure(described(n)), figures.token_lengths_figure(described(n))):
        assert figure.layout.yaxis.dtick == 1
        assert list(figure.data[0].y) == list(described(n)["relation"])


def test_the_facts_figure_draws_the_description():
    table = describe([PETS, HOMES], config=rn.PromptConfig(shots=0, n_evaluation=1))
    before = table.copy()
    facts, objects, share = figures.facts_figure(table).data
    assert [list(facts.x), list(objects.x)] == [[6, 4], [4, 3]]
    np.testing.assert_allclose(share.x, table["majority_share"])
    np.testing.assert_allclose(share.x + share.error_x.array, table["majority_high"])
    np.testing.assert_allclose(share.x - share.error_x.arrayminus, table["majority_low"])
    assert share.customdata[0] == "dog, [18.8%, 81.2%], n = 6"
    pd.testing.assert_frame_equal(table, before)


def test_the_token_figure_draws_the_models_tokens():
    longest, median, shared, single = figures.token_lengths_figure(described(3)).data
    assert [list(longest.x), list(median.x)] == [[12] * 3, [4.5] * 3]
    assert [list(shared.x), list(single.x)] == [[1] * 3, [0, 0.5, 1]]
    assert list(shared.customdata) == ["n = 1050"] * 3
    table = describe([PETS], config=rn.PromptConfig(shots=0, n_evaluation=1))
    with pytest.raises(rn.RelationNeuronsError, match="with a model"):
        figures.token_lengths_figure(table)
