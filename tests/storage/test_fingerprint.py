"""What a run folder's key tells apart."""

import ast
import copy
import dataclasses
import hashlib

import pytest
import torch

import relation_neurons as rn
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.study_key import study_key
from relation_neurons.models.fingerprint import weights_digest
from relation_neurons.storage.fingerprint import FOLDER, MEASURING, WHOLE, code_digest, digest

CONFIG = rn.StudyConfig(site="post", k=3, prompts=rn.PromptConfig(shots=2, n_evaluation=4))


@pytest.fixture
def key(planted):
    def make(model=None, config=CONFIG, relations=planted.relations):
        return Study(model or planted.model, relations, config).key

    return make


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


def test_the_same_question_has_the_same_key(key, planted):
    before = key()
    planted.model.tokenizer(["eats", "lives with"], padding=True)  # leaves its padding behind
    assert key() == before


def test_another_tokenizer_is_another_question(key, planted):
    other = copy.copy(planted.model)
    other.tokenizer = copy.deepcopy(planted.model.tokenizer)
    other.tokenizer.add_tokens(["unheard"])
    assert changed(key(), key(other)) == {"model"}


def test_other_tokens_are_another_question_even_where_all_else_is_the_same(key, planted, monkeypatch):
    monkeypatch.setattr(planted.model.cfg, "weights_digest", "of files", raising=False)
    before = key()
    monkeypatch.setattr(planted.model.cfg, "default_prepend_bos", not planted.model.cfg.default_prepend_bos)
    assert changed(before, key()) == {"tokens"}


def test_other_facts_seeds_and_options_are_other_questions(key, planted):
    before, first = key(), planted.relations[0]
    fewer = [dataclasses.replace(first, facts=first.facts[:-1]), *planted.relations[1:]]
    assert changed(before, key(relations=fewer)) == {"relations", "tokens"}
    assert changed(before, key(config=dataclasses.replace(CONFIG, seed=1))) == {"config"}
    assert changed(before, key(config=dataclasses.replace(CONFIG, include_bos=True))) == {"config"}
    other = dataclasses.replace(CONFIG, prompts=dataclasses.replace(CONFIG.prompts, split_seed=1))
    assert changed(before, key(config=other)) == {"config", "tokens"}


def test_the_least_change_of_one_weight_is_another_model(planted, monkeypatch):
    model = planted.model
    before = weights_digest(model)
    changed = {name: value.clone() for name, value in model.state_dict().items()}
    first = next(iter(changed.values())).view(-1)
    first[0] = torch.nextafter(first[0], torch.tensor(9.0))
    monkeypatch.setattr(model, "state_dict", lambda: changed)
    assert weights_digest(model) != before


def test_prompts_that_the_model_cannot_read_are_refused_before_there_is_a_folder(planted, tmp_path, monkeypatch):
    study = Study(planted.model, planted.relations, CONFIG)
    monkeypatch.setattr(planted.model.cfg, "n_ctx", 5)
    with pytest.raises(rn.RelationNeuronsError, match="use fewer shots"):
        study.keep_in(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_key_says_what_it_is_made_of(planted):
    study = Study(planted.model, planted.relations, CONFIG)
    found = study_key(CONFIG, study.relations, study.model, study.prompts())
    assert set(found) == {"config", "relations", "tokens", "model", "device", "code", "versions"}
    assert found["config"]["prompts"]["shots"] == 2
    assert found["model"]["dtype"] == "float32"


CODE = """
'''Scores.'''
SCALE = 2
'''How much.'''

def score(x):
    '''Score x.'''
    return SCALE * x  # twice
"""


def digest_of(folder, code, parts=("scores",), file="scores/plain.py"):
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(code, encoding="utf-8")
    code_digest.cache_clear()
    return code_digest(parts, folder)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Scores.", "Scores of neurons."),
        ("'''Scores.'''\n", ""),
        ("'''How much.'''\n", ""),
        ("'''Score x.'''", "'''Score x by SCALE.'''"),
        ("  # twice", ""),
        ("SCALE * x", "(SCALE\n        * x)"),
    ],
)
def test_docstrings_comments_and_formatting_are_the_same_code(tmp_path, before, after):
    assert before in CODE
    assert digest_of(tmp_path, CODE) == digest_of(tmp_path, CODE.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"), [("= 2", "= 3"), ("* x", "+ x"), ("SCALE * x", "'SCALE'"), ("(x)", "(x=1)")]
)
def test_another_constant_or_expression_is_other_code(tmp_path, before, after):
    assert before in CODE
    assert digest_of(tmp_path, CODE) != digest_of(tmp_path, CODE.replace(before, after))


def test_only_named_folders_and_files_count(tmp_path):
    before = digest_of(tmp_path, CODE), digest_of(tmp_path, CODE, WHOLE)
    assert digest_of(tmp_path, "x = 1", file="figures/plain.py") == before[0]
    assert digest_of(tmp_path, "x = 1", WHOLE, "figures/plain.py") != before[1]
    assert digest_of(tmp_path, "x = 1", file="scores/other.py") != before[0]
    page = digest_of(tmp_path, "<p>", WHOLE, "report/page.html")
    assert digest_of(tmp_path, "<p> ", WHOLE, "report/page.html") != page


def test_every_module_whose_tables_are_reused_counts():
    for part in MEASURING:
        assert (FOLDER / part).exists()
    for path in (FOLDER / "experiments").glob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        if any(isinstance(call, ast.Attribute) and call.attr in ("table", "tables") for call in calls):
            assert f"experiments/{path.name}" in MEASURING


def test_a_key_names_the_measuring_code(key):
    code_digest.cache_clear()
    assert key()["code"] == code_digest(MEASURING, FOLDER)[:16]


def written_by_dataclasses(one):
    """What a dataclass prints if it says nothing else."""
    names = [field.name for field in dataclasses.fields(one) if field.repr]
    return repr(dataclasses.make_dataclass(type(one).__name__, names)(*(getattr(one, name) for name in names)))


def test_digests_are_of_all_fields_whatever_is_printed(planted):
    prompt = rn.Prompt("eats", "cat", "fish", "dog eats bone\ncat eats", 14, candidates=("bone", "fish"), bos=True)
    neurons = rn.NeuronSet.from_pairs([(0, 1), (3, 7)], name="n")
    relation = dataclasses.replace(planted.relations[0], properties={"a": [1, (None, 2.5)], "b": {"c": ()}})
    for one in (prompt, neurons, relation, CONFIG):
        written = written_by_dataclasses(one)
        for at_default in (", split='facts'", ", template=(), columns=()", ", score_device=None"):  # which is left out
            written = written.replace(at_default, "")
        assert digest(one) == hashlib.sha256(written.encode()).hexdigest()
    inside = [(prompt,), {"x": prompt}, [prompt, (1, True)]]
    text = "[(P,), {'x': P}, [P, (1, True)]]".replace("P", written_by_dataclasses(prompt))
    assert digest(inside) == hashlib.sha256(text.encode()).hexdigest()


def test_fields_that_came_later_change_nothing_at_their_defaults(key):
    """The digests are those of before there was a `split`."""
    assert digest(rn.PromptConfig())[:16] == "f375ef3223869cbb"
    prompts = rn.make_prompts(rn.load_relations(), rn.PromptConfig(n_evaluation=20))
    assert digest(prompts.detection, prompts.evaluation)[:16] == "32639233727b187f"
    assert "split" not in key()["config"]["prompts"]
    assert "score_device" not in key()["config"]
    other = dataclasses.replace(CONFIG, prompts=dataclasses.replace(CONFIG.prompts, split="objects"))
    assert digest(other) != digest(CONFIG)
    assert key(config=other)["config"]["prompts"] == key()["config"]["prompts"] | {"split": "objects"}


def test_what_prints_alike_has_digests_of_its_own():
    first = rn.Prompt("eats", "cat", "fish", "cat eats", candidates=("bone", "fish"))
    second = dataclasses.replace(first, candidates=("fish", "worm"))
    sets = [rn.NeuronSet.from_pairs([(0, index)]) for index in (1, 2)]
    assert repr(first) == repr(second)
    assert digest(first) != digest(second)
    assert digest([(first, 1)]) != digest([(second, 1)])
    assert repr(sets[0]) == repr(sets[1])
    assert digest(*sets) != digest(*sets[::-1])
