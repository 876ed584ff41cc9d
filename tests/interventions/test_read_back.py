"""What is written is read back: writers that do something else are found, whatever the site and the wrapper."""

import pytest
import torch

import relation_neurons as rn
from relation_neurons.inference import patching
from relation_neurons.inference.patching import Patches
from relation_neurons.inference.write_check import PERIOD
from relation_neurons.interventions.interventions import rows_under
from relation_neurons.models import hooked_model
from relation_neurons.models.hooked_model import add_hook
from relation_neurons.models.wrapping import HookedTransformer

TOKENS = torch.tensor([[3, 10, 11, 12, 13], [3, 20, 21, 22, 23]])
PADDED = torch.tensor([[1, 1, 3, 10, 11], [3, 20, 21, 22, 23]])
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
SITES = ["post", "gate", "up", "down", "q", "k", "v", "o"]
real = patching._write_elements


def keep(elements, chosen):
    """Some of the elements."""
    scales = None if elements.scales is None else elements.scales[chosen]
    return patching._Elements(elements.rows[chosen], elements.columns[chosen], elements.numbers[chosen], scales)


def nothing(changed, elements, mask):
    pass


def one_row_less(changed, elements, mask):
    chosen = elements.rows != elements.rows.max()
    real(changed, keep(elements, chosen), None if mask is None else mask[chosen])


def neighbour(changed, elements, mask):
    real(changed, elements._replace(columns=elements.columns + 1), mask)


def another_row(changed, elements, mask):
    real(changed, elements._replace(rows=(elements.rows + 1) % len(changed)), mask)


def unused_copy(changed, elements, mask):
    real(changed.clone(), elements, mask)


def twice(changed, elements, mask):
    real(changed, elements, mask)
    real(changed, elements, mask)


def one_position_less(changed, elements, mask):
    real(changed[:, :-1], elements, None if mask is None else mask[:, :-1])


def more_than_that(changed, elements, mask):
    real(changed, elements, mask)
    changed[-1, -1, -1] += 1


WRITERS = [nothing, one_row_less, neighbour, another_row, unused_copy, twice, one_position_less, more_than_that]


TRIPLE = rn.Scale(3)


def run(model, site, *, value=TRIPLE, tokens=TOKENS, **options):
    """A pass in which each row is under a condition of its own, at two layers."""
    sets = [rn.NeuronSet.from_pairs([(0, n), (2, n + 4)], site=site) for n in (1, 7)]
    with rows_under(model, [[rn.Intervention(one, value)] for one in sets]) as patches:
        patches.use([0, 1])
        return model(tokens, **options)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_a_writer_that_does_something_else_is_an_error(tiny, monkeypatch, writer, site):
    run(tiny, site)
    monkeypatch.setattr(patching, "_write_elements", writer)
    with pytest.raises(rn.RelationNeuronsError, match=r"left [0-9]+ wrong values at blocks\.0"):
        run(tiny, site)


@pytest.mark.parametrize("writer", [nothing, one_row_less, neighbour, another_row, unused_copy])
def test_it_is_an_error_in_the_whole_of_a_recall(tiny, monkeypatch, writer):
    prompts = tuple(rn.Prompt("r", f"w{n}", "w2", f"w{n} w5 ? Answer:") for n in range(3))
    sets = [rn.NeuronSet.from_pairs([(1, 3), (1, n)]) for n in (6, 8)]
    conditions = [rn.Condition(str(n), prompts, (rn.Intervention(one, rn.Constant(4)),)) for n, one in enumerate(sets)]
    monkeypatch.setattr(patching, "_write_elements", writer)
    with pytest.raises(rn.RelationNeuronsError, match=r"wrong values at blocks\.1"):
        rn.recall_under(tiny, conditions)


def test_writing_on_padding_is_an_error(tiny, monkeypatch):
    run(tiny, "post", tokens=PADDED, attention_mask=MASK)
    monkeypatch.setattr(patching, "_write_elements", lambda changed, elements, mask: real(changed, elements, None))
    with pytest.raises(rn.RelationNeuronsError, match="left 2 wrong values"):  # at blocks.0, in row 0
        run(tiny, "post", tokens=PADDED, attention_mask=MASK, value=rn.Constant(4))


@pytest.mark.parametrize("site", SITES)
def test_what_the_hook_returns_and_is_dropped_is_an_error(tiny, monkeypatch, site):
    write = Patches.write

    def dropped(self, place, activation):
        write(self, place, activation)

    monkeypatch.setattr(Patches, "write", dropped)
    with pytest.raises(rn.RelationNeuronsError, match="wrong values"):
        run(tiny, site)


@pytest.mark.parametrize("site", SITES)
def test_writing_in_place_is_as_good_as_returning(tiny, monkeypatch, site):
    returned, write = run(tiny, site), Patches.write

    def in_place(self, place, activation):
        activation.copy_(write(self, place, activation))

    monkeypatch.setattr(Patches, "write", in_place)
    torch.testing.assert_close(run(tiny, site), returned)


def test_reading_back_goes_on_after_the_first_pass(tiny, monkeypatch):
    neurons = rn.NeuronSet.from_pairs([(0, 1), (1, 2)])
    with pytest.raises(rn.RelationNeuronsError, match=r"left 10 wrong values at blocks\.0"), rn.ablate(tiny, neurons):
        tiny(TOKENS)
        monkeypatch.setattr(patching, "_write_elements", nothing)
        for _ in range(PERIOD):
            tiny(TOKENS)


def test_the_first_pass_that_writes_is_read_back_though_others_came_before(tiny, monkeypatch):
    monkeypatch.setattr(patching, "_write_elements", nothing)
    neurons = rn.NeuronSet.from_pairs([(0, 1)])
    with pytest.raises(rn.RelationNeuronsError, match="wrong values"), rn.ablate(tiny, neurons, positions="decode"):
        tiny.generate(TOKENS, max_new_tokens=2, do_sample=False, verbose=False, stop_at_eos=False)


def test_every_hook_is_read_back_in_its_first_pass(tiny, monkeypatch):
    for layer in range(3):

        def elsewhere(changed, elements, mask, layer=layer):
            if not (elements.columns == 5 + layer).any():
                real(changed, elements, mask)

        monkeypatch.setattr(patching, "_write_elements", elsewhere)
        neurons = rn.NeuronSet.from_pairs([(n, 5 + n) for n in range(3)])
        with (
            pytest.raises(rn.RelationNeuronsError, match=rf"wrong values at blocks\.{layer}"),
            rn.ablate(tiny, neurons, positions="last"),
        ):
            tiny(PADDED, attention_mask=MASK)


def test_what_was_not_read_back_is_an_error(tiny, monkeypatch):
    monkeypatch.setattr(Patches, "read", lambda self, place, activation: None)
    with pytest.raises(rn.RelationNeuronsError, match="could not be read back"):
        run(tiny, "post")


def test_interventions_on_the_same_neurons_are_read_back_in_their_order(tiny, monkeypatch):
    one = rn.Intervention(rn.NeuronSet.from_pairs([(0, 1), (0, 2)]), rn.Constant(5.0))
    other = rn.Intervention(rn.NeuronSet.from_pairs([(0, 1)]), rn.Scale(2), positions="last")
    with rn.intervene(tiny, one, other):
        tiny(TOKENS)
    monkeypatch.setattr(patching, "_write_elements", lambda changed, elements, mask: nothing(changed, elements, mask))
    with pytest.raises(rn.RelationNeuronsError, match="left 20 wrong values"), rn.intervene(tiny, one, other):
        tiny(TOKENS)


def test_rows_of_which_none_is_written_at_a_hook_are_read_back_nowhere(tiny):
    sets = [rn.NeuronSet.from_pairs([pair]) for pair in ((0, 1), (1, 2))]
    with rows_under(tiny, [[rn.Intervention(one)] for one in sets]) as patches:
        patches.use([0, 0])
        tiny(TOKENS)


def test_activations_that_are_not_numbers_are_no_wrong_writing(tiny):
    remove = add_hook(tiny, "blocks.0.mlp.hook_post", lambda activation: activation * torch.nan)
    assert run(tiny, "post").isnan().any()
    remove()


def test_neurons_of_another_number_than_the_sites_are_refused(tiny, monkeypatch):
    monkeypatch.setitem(vars(tiny.cfg), "d_mlp", 24)
    prompt = rn.Prompt("r", "w1", "w2", "w1 ? Answer:")
    for use in (
        lambda: run(tiny, "post"),
        lambda: rn.collect_activations(tiny, [prompt]),
        lambda: hooked_model.add_hook(tiny, "blocks.0.mlp.hook_pre", lambda activation: None) and tiny(TOKENS),
    ):
        with pytest.raises(rn.RelationNeuronsError, match=r"has 48 neurons at blocks\.0\.mlp.*Expected: 24"):
            use()


@pytest.mark.skipif(HookedTransformer is None, reason="TransformerLens 4 has no HookedTransformer")
@pytest.mark.parametrize("site", ["k", "v"])
@pytest.mark.parametrize("wrap", ["hooked"], indirect=True)
def test_ungrouped_keys_and_values_are_refused(tiny, site):
    run(tiny, site)
    clean = tiny(TOKENS)
    tiny.set_ungroup_grouped_query_attention(True)
    torch.testing.assert_close(tiny(TOKENS), clean)
    says = rf"32 neurons at blocks\.0\.attn\.hook_{site} .*Expected: 16.*set_ungroup_grouped_query_attention"
    with pytest.raises(rn.RelationNeuronsError, match=says):
        run(tiny, site)
    prompt = rn.Prompt("r", "w1", "w2", "w1 ? Answer:")
    with pytest.raises(rn.RelationNeuronsError, match=says):
        rn.collect_activations(tiny, [prompt], site=site)
    tiny.set_ungroup_grouped_query_attention(False)
    run(tiny, site)
