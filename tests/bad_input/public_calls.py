"""Every public function and class with arguments that are right."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

import relation_neurons as rn
from relation_neurons.models.sites import NeuronSpace

NOWHERE = "/nowhere/at/all"


def public_calls(planted):
    """By name, what to call and its arguments."""
    config = rn.PromptConfig(shots=0, n_evaluation=4)
    relations = list(planted.relations)
    prompts = list(rn.make_prompts(relations, rn.PromptConfig(shots=0, n_evaluation=4, n_detection=2)).detection)
    given = SimpleNamespace(
        model=planted.model,
        relations=relations,
        config=config,
        prompts=prompts,
        neurons=planted.neurons["lives"],
        space=NeuronSpace("planted", 2, (("post", 128),)),
        activations=rn.collect_activations(planted.model, prompts),
        intervention=rn.Intervention(planted.neurons["lives"]),
    )
    return about_data(given) | about_models(given) | interventions(given) | records(given) | settings(given)


def call(function, /, **right):
    return function, right


def about_data(given):
    labels, pair = np.array([True, False, True, False]), rn.load_relations("country_capital", "person_father")
    frame = pd.DataFrame({"subject": ["a", "b"], "object": ["x", "y"]})
    scores, relations, config = np.arange(12.0).reshape(4, 3), given.relations, given.config
    return {
        "average_precision": call(rn.average_precision, scores=scores, labels=labels, mask=labels | True),
        "concept_prompts": call(rn.concept_prompts, relations=pair, n=2, stems=["{} x"], seed=0),
        "contrast": call(rn.contrast, prompts=given.prompts, ratio=2, balanced=True, seed=0),
        "describe": call(rn.describe, relations=relations, config=config, validate=None),
        "load_relations": call(
            lambda source, templates, columns: rn.load_relations(source, templates=templates, columns=columns),
            source="country_capital",
            templates=[],
            columns={},
        ),
        "make_prompts": call(rn.make_prompts, relations=relations, config=config),
        "neutral_sentences": call(rn.neutral_sentences, relation="country_capital"),
        "open_run": call(rn.open_run, path=NOWHERE),
        "scorecard": call(rn.scorecard, folder=NOWHERE),
        "relation_from_frame": call(
            rn.relation_from_frame, frame=frame, name="r", templates=["{} is"], templates_zs=[]
        ),
    }


def about_models(given):
    model, asked, one, space = given.model, given.prompts[:2], given.intervention, given.space
    texts, conditions = ["s1 lives in", "s2 eats"], [rn.Condition("c", tuple(asked))]
    answers = {"max_new_tokens": 2, "batch_size": 2}
    sets, control = {"r": given.neurons}, {"n": 2, "seed": 0, "exclude": [], "activity": np.zeros(256)}
    return {
        "collect_activations": call(
            rn.collect_activations, model=model, prompts=asked, site="post", batch_size=2, dtype=torch.float32
        ),
        "attribute": call(
            rn.attribute, model=model, prompts=asked, site="post", method="gradient", target="margin", steps=2
        ),
        "critical_neurons": call(
            rn.critical_neurons, model=model, site="post", texts=texts, threshold=0.5, n_candidates=2, batch_size=1
        ),
        "load_model": call(rn.load_model, source=NOWHERE, device="cpu", dtype="float32"),
        "open_study": call(rn.open_study, model=NOWHERE, relations=given.relations, profile="smoke", k=3, site="post"),
        "compare_generations": call(
            rn.compare_generations, model=model, prompts=texts, conditions={"c": one}, max_new_tokens=2, batch_size=1
        ),
        "perplexity": call(rn.perplexity, model=model, texts=texts, conditions={"c": [one]}, batch_size=1),
        "random_controls": call(rn.random_controls, target=given.neurons, space=space, **control),
        "recall": call(rn.recall, model=model, prompts=asked, condition="c", generate=False, **answers),
        "recall_under": call(rn.recall_under, model=model, conditions=conditions, generate=True, **answers),
        "run_experiment": call(rn.run_experiment, study=None, name="intra", profile="smoke"),
        "save_neurons": call(rn.save_neurons, path="n.parquet", sets=sets, space=space, score="s", made_from={"a": 1}),
        "import_neurons": call(rn.import_neurons, path=NOWHERE, site="post", names=[], k=1),
        "load_neurons": call(rn.load_neurons, path=NOWHERE, model=model, allow_other_weights=False),
        "by_effect_size": call(
            rn.by_effect_size, scores=torch.zeros(4, 3), labels=np.array([True, True, False, False]), mask=None
        ),
        "top_k": call(rn.top_k, scores=np.zeros((1, 256)), k=3, space=space, names=["a"], ties=None),
    }


def interventions(given):
    one, activations = given.intervention, given.activations
    written = {"neurons": given.neurons, "value": rn.Zero(), "positions": "all", "bos": True}

    def ablated(**arguments):
        with rn.ablate(**arguments):
            return rn.recall(given.model, given.prompts[:1], generate=False)

    def intervened(model, one, two):
        with rn.intervene(model, one, two):
            return rn.recall(given.model, given.prompts[:1], generate=False)

    return {
        "ablate": call(ablated, model=given.model, **written),
        "intervene": call(intervened, model=given.model, one=one, two=one),
        "Intervention": call(rn.Intervention, **written),
        "Intervention.from_json": call(rn.Intervention.from_json, text=one.to_json()),
        "Constant": call(rn.Constant, number=1.0),
        "Mean": call(rn.Mean.over, activations=activations, relation="lives"),
        "Mean ": call(rn.Mean, reference=rn.Mean.over(activations).reference),
        "Quantile": call(rn.Quantile.over, activations=activations, p=0.5, relation=None),
        "Resample": call(rn.Resample.over, activations=activations, seed=0, relation=None),
        "Scale": call(rn.Scale, alpha=2),
        "Value": call(rn.Value),
        "Zero": call(rn.Zero),
    }


def records(given):
    neurons, prompts, space = given.neurons, tuple(given.prompts), given.space
    facts = (rn.Fact("a", "b"),)
    question = {"relation": "r", "subject": "s", "object": "o", "text": "t", "query_start": 0, "bos": None}
    return {
        "Activations": call(rn.Activations, values=given.activations.values, prompts=prompts, space=space),
        "Attributions": call(rn.Attributions, values=given.activations.values, prompts=prompts, space=space),
        "Case": call(rn.Case, neurons=neurons, prompts=prompts, labels={"a": 1}),
        "Condition": call(rn.Condition, name="c", prompts=prompts, interventions=(given.intervention,)),
        "Fact": call(rn.Fact, subject="a", object="b", aliases=("c",)),
        "Neuron": call(rn.Neuron, site="post", layer=0, index=1),
        "Neuron.parse": call(rn.Neuron.parse, text="L1.N2", site="post"),
        "NeuronSet": call(rn.NeuronSet, neurons=neurons.neurons, name="n", scores=None),
        "NeuronSet.from_pairs": call(rn.NeuronSet.from_pairs, pairs=[(0, 1)], site="post", name="n"),
        "NeuronSet.from_frame": call(rn.NeuronSet.from_frame, frame=neurons.to_frame()),
        "NeuronSet.part": call(neurons.part, start=0, stop=2),
        "NeuronSet.layer_counts": call(neurons.layer_counts, n_layers=2),
        "Prompt": call(rn.Prompt, **question),
        "Prompts": call(rn.Prompts, detection=prompts, evaluation=(), config=rn.PromptConfig()),
        "Relation": call(rn.Relation, name="r", templates=("{}",), templates_zs=(), facts=facts),
        "Run": call(rn.Run, path=Path(NOWHERE), key={}, files={}),
        "RelationNeuronsError": call(rn.RelationNeuronsError, message="m"),
    }


def settings(given):
    asked = {"shots": 0, "template_set": "main", "templates": "all", "n_evaluation": 3, "split_seed": 0, "answer": ":"}
    asked |= {"split": "facts"}
    wanted = {"model": "m", "relations": ("r",), "k": 3, "site": "post", "scorer": "auroc"}
    config = rn.StudyConfig(site="post", prompts=given.config)
    return {
        "PromptConfig": call(rn.PromptConfig, **asked),
        "Study": call(rn.Study, model=given.model, relations=given.relations, config=config, read=None),
        "StudyConfig": call(rn.StudyConfig, **wanted, n_controls=2, seed=0, batch_size=1),
        "WorkersConfig": call(rn.WorkersConfig, workers=2, ray_address="auto", gpus_per_worker=1.0, cpus_per_worker=2),
    }
