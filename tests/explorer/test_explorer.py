"""The explorer without a browser: what it draws, ablates and exports, and whom it answers."""

import json
import shutil
import socket

import dash
import numpy as np
import pytest

import relation_neurons as rn
from relation_neurons.cli import main
from relation_neurons.cli.generate import _source
from relation_neurons.experiments.answer_cache import quiet
from relation_neurons.explorer.ablation import RANDOM, SET, ablate_basket
from relation_neurons.explorer.basket import added, basket_set, exported, removed
from relation_neurons.explorer.callbacks import changed
from relation_neurons.explorer.components import ablated_view, card_body, chips, effects_table, stands_out, to_dash
from relation_neurons.explorer.layout import example, page
from relation_neurons.explorer.run_data import open_run_data
from relation_neurons.explorer.scatter import clicked, picks, scatter_figure
from relation_neurons.explorer.server import make_app, make_explorer, reserve
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.neurons.controls import random_controls
from relation_neurons.prompts.prompts import first_facts
from relation_neurons.report.card_nodes import card_node, node, to_html
from relation_neurons.results.neuron_cards import read_cards


def traces(figure):
    return {str(trace.name).partition(" (")[0]: trace for trace in figure.data}


def texts(one):
    """All texts of a component, in order."""
    if isinstance(one, str):
        return [one]
    children = getattr(one, "children", None)
    parts = children if isinstance(children, list | tuple) else [] if children is None else [children]
    return [text for part in parts for text in texts(part)]


@pytest.fixture(scope="module")
def basket(data):
    return list(map(str, data.neurons["eats"].neurons[:3]))


@pytest.fixture(scope="module")
def ablated(data, basket):
    return ablate_basket(data, basket, example(data, "eats"), 5)


@pytest.mark.parametrize("axis", ["score", "ap", "layer"])
def test_points_are_the_rows_of_the_relation(data, basket, axis):
    rows = data.scatter("eats")
    figure = traces(scatter_figure(rows, axis, basket=basket, selected=basket[1]))
    own = rows[rows["kind"] == "chosen"]
    points = figure["the relation's best"]
    assert list(points.customdata) == own["neuron"].tolist()
    np.testing.assert_array_equal(np.asarray(points.x, dtype=float), own[axis].astype(float))
    np.testing.assert_array_equal(np.asarray(points.y, dtype=float), own["effect"])
    assert list(figure["in the basket"].y) == own["effect"].tolist()[:3]
    assert list(figure["on the card"].y) == [own["effect"].tolist()[1]]
    assert ("random, same layers" in figure) == (axis != "score")  # of which there is no score
    assert "n = " in points.hovertext[0]


def test_an_unknown_axis_or_relation_is_refused(data):
    with pytest.raises(rn.RelationNeuronsError, match="did you mean 'layer'"):
        scatter_figure(data.scatter("eats"), "layers")
    with pytest.raises(rn.RelationNeuronsError, match="did you mean 'eats'"):
        data.scatter("eat")


def test_a_click_names_a_neuron(data):
    assert clicked({"points": [{"customdata": "L0.N3", "x": 1}]}) == "L0.N3"
    for beside in (None, {}, {"points": []}, {"points": [{"x": 1}]}):
        assert clicked(beside) is None
    options = picks(data.scatter("lives"))
    assert [one["value"] for one in options] == list(map(str, data.neurons["lives"]))
    assert options[0]["label"].startswith("1. ")


def test_a_card_has_the_same_texts_on_the_page_and_in_the_app(data):
    for name in data.cards.names:
        tree = card_node(data.card(name))
        shown = "".join(texts(to_dash(tree)))
        assert "".join(shown.split()) == "".join(to_html(tree).striptags().split())
        assert "rank" in texts(card_body(data.card(name))[0])[0]
    assert to_dash(node("span", "a", cls="b", title="c", style={"color": "red"})).to_plotly_json()["props"] == {
        "children": ["a"],
        "className": "b",
        "title": "c",
        "style": {"color": "red"},
    }


def test_a_neuron_without_a_card_gets_one_on_request(data):
    name = str(data.neurons["plays"].neurons[5])
    assert data.card(name) is None
    made = data.make_card(name, "plays")
    assert data.card(name) is made
    assert made.effects["relation"].tolist() == ["plays"]


def test_the_basket_keeps_its_order(data):
    assert added(["a"], ["b", "a", "c"]) == ["a", "b", "c"]
    assert removed(["a", "b"], "a") == ["b"]
    best = list(map(str, data.neurons["eats"].neurons))
    assert changed(data, "add", ["x"], "y", "eats", 3) == ["x", "y"]
    assert changed(data, "add", ["x"], None, "eats", 3) == ["x"]
    assert changed(data, "add-best", ["x"], None, "eats", 3) == ["x", *best[:3]]
    assert changed(data, "add-best", [], None, "eats", 99) == best
    assert changed(data, "add-best", ["x"], None, "eats", None) == ["x"]
    assert changed(data, {"type": "remove", "neuron": "x"}, ["x", "y"], None, "eats", 3) == ["y"]
    assert changed(data, "clear", ["x"], None, "eats", 3) == []
    assert "Empty" in texts(chips([])[0])[0]
    assert texts(chips(best * 20)[0])[-1] == f"and {len(best) * 20 - 60} more"


def test_baskets_that_cannot_be_ablated_are_refused(data):
    with pytest.raises(rn.RelationNeuronsError, match="The basket is empty"):
        basket_set(data, [])
    with pytest.raises(rn.RelationNeuronsError, match="has no neuron"):
        basket_set(data, ["L9.N0"])
    with pytest.raises(rn.RelationNeuronsError, match="0 facts"):
        ablate_basket(data, ["L0.N0"], "", 0)


def test_ablating_the_basket_equals_ablating_by_hand(data, basket, ablated):
    study, target = data.study, basket_set(data, basket)
    prompts = first_facts(study.evaluation(), 5)
    clean = rn.recall(study.model, prompts)
    control = random_controls(target, neuron_space(study.model, "post"), n=3, seed=0, exclude=data.excluded)
    rows = ablated.effects.set_index(["facts", "measure"])
    for draw, neurons in enumerate([target, *control], start=-1):
        with rn.ablate(study.model, neurons):
            table = rn.recall(study.model, prompts)
        change = (table["logprob"] - clean["logprob"]).groupby(table["relation"]).mean()
        own = ablated.answers[ablated.answers["draw"] == draw]
        assert own.groupby("relation")["d_logprob"].mean().to_dict() == pytest.approx(change.to_dict(), abs=1e-4)
        right = table["correct_prefix"].astype(float) - clean["correct_prefix"].astype(float)
        assert own["d_correct"].tolist() == right.tolist()
    assert (rows["n"] == 5).all()
    assert (rows["n_controls"] == 3).all()
    assert rows.loc[("eats", "logprob"), "effect"] < rows.loc[("eats", "logprob"), "random_min"]


def test_continuations_are_those_of_the_model(data, basket, ablated):
    found = ablated.generations.table
    assert found["condition"].tolist() == ["clean", SET, RANDOM]
    states = {SET: basket_set(data, basket)}
    by_hand = rn.compare_generations(data.study.model, [example(data, "eats")], states)
    assert found["generated"].tolist()[:2] == by_hand.table["generated"].tolist()
    assert ablate_basket(data, basket, "  ", 1).generations is None


def test_every_change_is_shown_with_n_its_interval_and_random_sets(ablated):
    cells = texts(effects_table(ablated.effects))
    for relation in ("lives", "eats", "plays"):
        at = cells.index(relation)
        n, accuracy, random, before, logprob, random_logprob = cells[at + 1 : at + 7]
        assert n == "5"
        assert before.startswith("before ")
        assert all("[" in cell and "]" in cell for cell in (before, accuracy, logprob))
        assert all(cell.startswith("random ") and " to " in cell for cell in (random, random_logprob))
    shown = " ".join(text for part in ablated_view(ablated) for text in texts(part))
    assert "3 neurons ablated together, and 3 random sets" in shown


@pytest.mark.parametrize(
    ("low", "high", "random", "expected"),
    [(-2, -1, (-0.5, 0.1), True), (-2, -0.4, (-0.5, 0.1), False), (-2, 0.1, (-3, -2), False), (1, 2, (0, 0.5), True)],
)
def test_what_is_bold_lies_beyond_zero_and_random_sets(low, high, random, expected):
    row = {"effect_low": low, "effect_high": high, "random_min": random[0], "random_max": random[1]}
    assert stands_out(row) == expected


def test_the_exported_file_is_what_other_commands_take(data, basket, tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.parquet"
    path.write_bytes(exported(data, basket, "mine"))
    sets = rn.load_neurons(path, data.study.model)  # of these weights
    assert list(map(str, sets["mine"])) == basket
    source = _source(str(path), None)
    assert (source.neurons, source.model) == (sets["mine"], data.study.config.model)
    assert _source(f"{path}:mine", 2).neurons == sets["mine"][:2]
    with pytest.raises(rn.RelationNeuronsError, match="has no set 'yours'"):
        _source(f"{path}:yours", None)
    words = ["generate", "s1 eats in", "--neurons", str(path), "--device", "cpu", "--max-new-tokens", "2"]
    monkeypatch.setattr("sys.argv", ["relation-neurons", *words])
    main.main()
    assert "mine random 0" in " ".join(capsys.readouterr().out.split())
    for name in ("", "../x", "a/b"):
        with pytest.raises(rn.RelationNeuronsError, match="cannot be the name of a file"):
            exported(data, basket, name)


def test_a_run_without_cards_gets_them_once(run_folder, tmp_path, monkeypatch):
    copy = shutil.copytree(run_folder, tmp_path / "run")
    shutil.rmtree(copy / "cards")
    key = json.loads((copy / "run.json").read_text(encoding="utf-8"))
    (copy / "run.json").write_text(json.dumps(key | {"code": "older"}), encoding="utf-8")
    labels = []

    def show(label, total):
        labels.append(label)
        return quiet(label, total)

    found = open_run_data(copy, device="cpu", show=show)
    assert not found.is_of_this_code
    assert any(label.startswith("cards") for label in labels)
    assert not list(copy.glob("before-*"))  # nothing of the run is archived
    assert len(read_cards(copy).names) == len(found.cards.names)
    labels.clear()
    open_run_data(copy, device="cpu", show=show)
    assert not labels


@pytest.fixture(scope="module")
def client(data):
    return make_app(data).server.test_client()


def test_only_this_machine_is_answered(client):
    for host in ("127.0.0.1:8055", "localhost:8055", "127.0.0.1"):
        assert client.get("/", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "evil.example:8055", "127.0.0.1.evil.example", "192.168.0.2:8055"):
        assert client.get("/", headers={"Host": host}).status_code == 403
        assert client.get("/_dash-layout", headers={"Host": host}).status_code == 403
        assert client.get("/", headers={"Host": "127.0.0.1", "Origin": f"http://{host}"}).status_code == 403
    assert client.get("/", headers={"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:1"}).status_code == 200


def test_pages_name_no_other_host_and_forbid_to_load_from_one(client):
    answer = client.get("/", headers={"Host": "127.0.0.1"})
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "://" not in answer.text
    layout = client.get("/_dash-layout", headers={"Host": "127.0.0.1"})
    assert layout.status_code == 200


def test_the_page_has_what_callbacks_need(data):
    app = make_app(data)
    ids = {getattr(one, "id", None) for one in page(data)._traverse()}
    needed = {part.split(".")[0] for key in app.callback_map for part in key.strip(".").split("...")}
    assert {name for name in needed if not name.startswith("{")} <= ids
    assert isinstance(app, dash.Dash)


def test_ports_are_taken_on_the_loopback_interface_only():
    with reserve(0) as first:
        host, port = first.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(rn.RelationNeuronsError, match=f"Port {port} cannot be used.*another --port"):
            reserve(port)
    for port in (-1, 65536):
        with pytest.raises(rn.RelationNeuronsError, match="0 to 65535"):
            reserve(port)


def test_the_server_listens_on_the_reserved_port(data):
    with reserve(0) as reserved:
        server = make_explorer(data, reserved)
        assert server.server_address == reserved.getsockname()
        with socket.create_connection(server.server_address, timeout=10):
            pass
        server.server_close()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "There is no folder nowhere"),
        (["."], "is not a run folder"),
        (["RUN", "--port", "99999"], "--port is 99999"),
        (["RUN", "--port", "x"], ""),
    ],
)
def test_bad_input_is_one_line_and_status_2(run_folder, words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [str(run_folder) if word == "RUN" else word for word in words]
    monkeypatch.setattr("sys.argv", ["relation-neurons", "explore", *words, "--no-browser"])
    with pytest.raises(SystemExit) as status:
        main.main()
    assert status.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
