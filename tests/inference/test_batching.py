import importlib
import random
import warnings
import weakref
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import relation_neurons as rn
from relation_neurons.activations.collection import token_activations
from relation_neurons.evaluation.answers import RULES
from relation_neurons.inference import batch_size, batching, patching
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import Batch, rows_that_fit, run_batches
from relation_neurons.interventions.interventions import rows_under
from relation_neurons.models.hooked_model import add_hook, forward
from relation_neurons.models.position_kinds import BOS, DECODE, LAST, PAD, PROMPT
from relation_neurons.models.sites import Neuron
from relation_neurons.prompts.tokenization import Encoded
from tests.helpers import full_only, word_prompts

NEURONS = rn.NeuronSet.from_pairs([(0, 1), (0, 30), (2, 7)])
GATES = rn.NeuronSet.from_pairs([(0, 9), (1, 4)], site="gate")
CONDITIONS = [
    (),
    (rn.Intervention(NEURONS),),
    (rn.Intervention(NEURONS, rn.Constant(2.0), "last"), rn.Intervention(GATES, rn.Scale(3.0), "prompt", bos=False)),
    (rn.Intervention(GATES, rn.Constant(-1.0), "decode"),),
    (rn.Intervention(rn.NeuronSet.from_pairs([(1, 3)], site="v"), rn.Scale(-1.0)),),
]


def some_tasks(n_conditions=1, n=24):
    """Prompts that begin alike, some with nothing behind it, and short ones, one token among them."""
    generator, tasks = random.Random(0), []
    words = [generator.randrange(4, 60) for _ in range(200)]
    for number in range(n):
        place, length = [(0, 8), (20, 8), (40, 11), (0, 0), (60, 3)][number % 5]
        rest = words[100 + number :][: 0 if length == 0 or number in (10, 15) else generator.randint(1, 9)]
        encoded = Encoded((3, *words[place : place + length], *rest), 1 + length - (number == 7), (5,), bos=True)
        tasks += [Task(encoded, condition) for condition in range(n_conditions)]
    return generator.sample(tasks, len(tasks))


@pytest.fixture
def no_collection(monkeypatch):
    """Spare tests in which memory runs out often what takes long and has a test of its own."""
    monkeypatch.setattr(batch_size.gc, "collect", lambda: 0)


def run_out(error=None):
    raise error or torch.empty(2**55)  # more than any address space


def read_all(model, tasks, most=1000, error=None, **options):
    rows, sizes = [], []

    def read_batch(batch, cache):
        found = forward(model, *batch.read(), cache, keep=1).all()
        if len(batch.rows) > most:
            run_out(error)
        rows.extend(batch.rows)
        return found[:, 0]

    logits = torch.stack(run_batches(model, tasks, read_batch, progress=sizes.append, **options))
    assert sorted(rows) == list(range(len(tasks)))
    return logits, sizes


def read_alone(model, tasks):
    found = []
    for task in tasks:
        with torch.inference_mode(), rows_under(model, [CONDITIONS[task.condition]]):
            found.append(model(torch.tensor([task.encoded.ids]))[0, -1])
    return torch.stack(found)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 24), (7, [7, 7, 7, 3]), (99, [24]), (None, [10, 10, 4])])
def test_every_task_is_read_once_and_as_if_alone(tiny, share, batch_size, sizes, monkeypatch):
    monkeypatch.setattr(batching, "rows_that_fit", lambda *arguments, **options: 10)
    tasks = some_tasks()
    found, told = read_all(tiny, tasks, share=share, batch_size=batch_size)
    assert told == sizes
    torch.testing.assert_close(found, read_alone(tiny, tasks), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("no_collection")
@pytest.mark.filterwarnings("ignore:Memory ran out")
@pytest.mark.parametrize(("most", "error"), [(50, None), (7, torch.OutOfMemoryError()), (7, None), (1, MemoryError())])
def test_batches_of_mixed_conditions_shrink_until_they_fit(tiny, most, error):
    tasks = some_tasks(len(CONDITIONS), n=11)
    with rn.ablate(tiny, GATES):
        with rows_under(tiny, CONDITIONS) as patches:
            found, told = read_all(tiny, tasks, most, error, patches=patches, batch_size=50)
        torch.testing.assert_close(found, read_alone(tiny, tasks), atol=1e-5, rtol=1e-5)
    assert max(told) == most  # of 50, 25, 13, 7, 4, 2, 1


def test_a_common_beginning_is_read_once_for_each_condition(tiny, monkeypatch):
    read, tasks = [], some_tasks(n_conditions=2)

    def spy(model, tokens, kinds, cache, *, keep):
        read.extend(tuple(row[kind != PAD].tolist()) for row, kind in zip(tokens, kinds, strict=True))
        return forward(model, tokens, kinds, cache, keep=keep)

    monkeypatch.setattr(batching, "forward", spy)
    with rows_under(tiny, CONDITIONS[:2]) as patches:
        read_all(tiny, tasks, patches=patches, batch_size=1000)
    prompts = [task.encoded for task in tasks]
    alike = {one.ids[: min(one.query_start, len(one.ids) - 1)] for one in prompts if one.query_start in (9, 12)}
    assert (len(alike), sorted(filter(None, read))) == (4, sorted([*alike, *alike]))


PROMPTS = word_prompts(4, examples=True) + word_prompts(2, examples=False, seed=1)
ASKED = [rn.Condition(f"c{number}", tuple(PROMPTS), one) for number, one in enumerate(CONDITIONS)]


def show_two_tokens(monkeypatch):
    """Let `correct_prefix` be the text that it judges, the second token of which is computed for every row."""
    monkeypatch.setattr(
        importlib.import_module("relation_neurons.evaluation.scoring"), "may_become_right", lambda *_: True
    )
    monkeypatch.setitem(RULES, "prefix", lambda said, right: said)


@pytest.mark.parametrize("generate", [True, False])
def test_mixed_conditions_give_what_each_gives_alone(tiny, generate, monkeypatch):
    show_two_tokens(monkeypatch)
    expected = []
    for one in ASKED:
        with rows_under(tiny, [one.interventions]):
            expected += [rn.recall(tiny, [p], condition=one.name, generate=generate, batch_size=1) for p in PROMPTS]
    expected = pd.concat(expected, ignore_index=True)
    assert expected.groupby("condition")["logprob"].sum().nunique() == len(ASKED)
    for size in (13, None):
        found = rn.recall_under(tiny, ASKED, generate=generate, batch_size=size)
        pd.testing.assert_frame_equal(found, expected, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("no_collection")
@pytest.mark.filterwarnings("ignore:Memory ran out")
@pytest.mark.parametrize(
    ("place", "generate"),
    [
        ("blocks.0.mlp.hook_pre", True),
        ("blocks.1.mlp.hook_post", False),
        ("blocks.2.hook_mlp_out", True),
        *full_only(
            ("blocks.0.mlp.hook_pre", False), ("blocks.1.mlp.hook_post", True), ("blocks.2.hook_mlp_out", False)
        ),
    ],
)
def test_memory_may_run_out_midway_through_any_pass(tiny, place, generate, monkeypatch):
    show_two_tokens(monkeypatch)
    generator, failed = random.Random(0), []

    def hook(activation):
        failed.append(len(activation) > 1 and generator.random() < 0.4)
        if failed[-1]:
            run_out()

    def ask():
        with rn.ablate(tiny, NEURONS, value=rn.Scale(0.5)) as outer:
            return rn.recall_under(tiny, ASKED, generate=generate, batch_size=16), outer

    expected, _ = ask()
    remove = add_hook(tiny, place, hook)
    for _ in range(2):
        failed.clear()
        batch_size._limits.clear()  # else single rows, which never fail, would be kept to
        found, outer = ask()
        pd.testing.assert_frame_equal(found, expected, atol=1e-4, rtol=0)
        assert set(outer.fired.values()) == {outer.passes} == {failed.count(False)} != {len(failed)}
    remove()


TEXTS = ["w1 w2 w3", "w4 w5 w6 w7 w8 w9", "w10 w11", *(f"w{n} w2 w{n + 7} w1" for n in range(9, 40))]


def everything(model, **options):
    """One result of each kind that batches make."""
    two = {f"c{number}": one for number, one in enumerate(CONDITIONS)}
    return {
        "activations": rn.collect_activations(model, PROMPTS * 4, site="all", **options).values,
        "at tokens": torch.cat(token_activations(model, PROMPTS * 4, Neuron("post", 1, 3), **options)),
        "perplexity": rn.perplexity(model, TEXTS, two, **options),
        "generated": rn.recall_under(model, ASKED, **options),
        "given": rn.recall_under(model, ASKED, generate=False, **options),
    }


@pytest.mark.usefixtures("no_collection")
@pytest.mark.filterwarnings("ignore:Memory ran out")
@pytest.mark.parametrize(
    ("most", "options"), [(200, {}), *full_only((40, {"batch_size": 30}), (200, {"batch_size": 30}), (40, {}))]
)
def test_every_result_is_that_of_a_machine_with_more_memory(tiny, most, options):
    """Passes over more than so many positions fail halfway, as they do where memory is short."""
    expected, failed, done = everything(tiny, **options), [], []

    def hook(activation):
        failed.append(activation.shape[:2].numel() > most and len(activation) > 1)
        if failed[-1]:
            run_out(torch.OutOfMemoryError("CUDA out of memory"))

    remove = add_hook(tiny, "blocks.1.mlp.hook_post", hook)
    found = everything(tiny, progress=done.append, **options)
    remove()
    assert any(failed)
    assert not all(failed)
    assert sum(done) == 2 * 4 * len(PROMPTS) + len(CONDITIONS) * (len(TEXTS) + 2 * len(PROMPTS))
    for name, one in expected.items():
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(found[name], one, atol=1e-5, rtol=1e-5)
        else:
            pd.testing.assert_frame_equal(found[name], one, atol=1e-4, rtol=1e-5)


def test_smaller_batches_are_kept_to_and_said_once(tiny):
    tasks, conditions = some_tasks(), []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        _, told = read_all(tiny, tasks, most=5, batch_size=16)  # 16, 8, 4
        for batch_size in (16, 4, 3, None):
            conditions.append(max(read_all(tiny, tasks, most=5, batch_size=batch_size)[1]))
    assert told == [4] * 6
    assert conditions == [4, 4, 3, 4]
    assert [str(one.message) for one in said] == [
        "Memory ran out on 16 prompts at a time; from here on it is 4. Results stay the same"
    ]


def test_longer_prompts_have_smaller_batches_where_memory_ran_out_before(tiny):
    read = [Task(Encoded(tuple(range(4, 4 + n)), 0, (5,))) for n in (10, 40)]
    with pytest.warns(UserWarning, match="from here on it is 8"):
        read_all(tiny, [read[0]] * 16, most=9, share=False)
    row = [batch_size.row_bytes(tiny.cfg, n, 3) for n in (10, 40)]
    _, told = read_all(tiny, [read[1]] * 16, share=False)
    assert max(told) == 8 * row[0] // row[1] < 4


def test_what_a_batch_held_is_given_back_before_it_is_tried_again(tiny):
    held = []

    def read_batch(batch, cache):
        assert not any(one() is not None for one in held)
        if len(batch.rows) > 3:
            much = torch.zeros(1000)
            held.append(weakref.ref(much))
            much.itself = much  # a cycle
            run_out()
        return batch.rows

    with pytest.warns(UserWarning, match="Memory ran out"):
        assert run_batches(tiny, some_tasks()[:10], read_batch, batch_size=10) == list(range(10))
    assert len(held) == 2  # of 10 and 5 rows


def model_of(**cfg):
    """A model without weights."""
    model = torch.nn.Module()
    model.cfg, model.tokenizer, model.hook_dict = SimpleNamespace(**cfg), None, {}
    return model


def test_a_gpu_gives_its_cache_back(monkeypatch):
    emptied, model = [], model_of(device="cuda")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 10**8, 80 * 10**9))
    sizes = batch_size.BatchSizes(model, 8, 100)
    sizes.shrink([9] * 8)
    assert (sizes.rows, emptied) == (4, [True])
    message = "prompt of 9 tokens read alone, with 0.3 of 80.0 GB free on cuda.*bfloat16, on the CPU"
    with pytest.raises(rn.RelationNeuronsError, match=message):
        sizes.shrink([9])


@pytest.mark.usefixtures("no_collection")
@pytest.mark.filterwarnings("ignore:Memory ran out")
@pytest.mark.parametrize("which", [0, 1])
def test_memory_may_run_out_as_an_intervention_hears_of_a_pass(tiny, which, monkeypatch):
    """Whoever heard of the pass forgets it; who did not keeps the pass before."""
    made, failed, a_pass = [], [], patching._Pass

    def ask():
        with rn.ablate(tiny, NEURONS) as outer, rn.ablate(tiny, GATES) as inner:
            return rn.recall(tiny, PROMPTS, batch_size=4), outer, inner

    def make_or_fail(rows, *others):
        made.append(len(rows))
        if len(rows) > 1 and len(made) % 7 == which:
            failed.append(len(rows))
            run_out()
        return a_pass(rows, *others)

    expected, *_ = ask()
    monkeypatch.setattr(patching, "_Pass", make_or_fail)
    found, outer, inner = ask()
    pd.testing.assert_frame_equal(found, expected, atol=1e-4, rtol=0)
    assert failed
    assert {*outer.fired.values(), *inner.fired.values()} == {outer.passes} == {inner.passes}


def test_a_row_that_does_not_fit_is_refused(tiny):
    remove = add_hook(tiny, "blocks.1.mlp.hook_post", lambda activation: run_out())
    with rn.ablate(tiny, NEURONS) as outer:
        with pytest.raises(
            rn.RelationNeuronsError, match=r"prompt of \d+ tokens read alone, with .* GB free on cpu.*bfloat16"
        ):
            rn.recall_under(tiny, ASKED)
        remove()
        tiny(torch.tensor([[3, 10, 11]]))  # the block can go on
    assert (outer.passes, set(outer.fired.values())) == (1, {1})
    assert not any(point.fwd_hooks for point in tiny.hook_dict.values())


@pytest.mark.parametrize("error", [RuntimeError("The size of tensor a must match"), ValueError("no"), KeyError("no")])
def test_other_errors_are_not_tried_again(tiny, error):
    tried = []
    with pytest.raises(type(error), match=error.args[0]):
        run_batches(tiny, some_tasks(), lambda *batch: tried.append(batch) or run_out(error), batch_size=5)
    with pytest.raises(rn.RelationNeuronsError, match="batch_size is 0"):
        run_batches(tiny, some_tasks(), lambda *batch: tried.append(batch), batch_size=0)
    assert len(tried) == 1


def test_rows_end_together_or_have_their_prompts_do_so():
    given = [((3, 10, 11, 12), True), ((20, 21), False), ((3, 30, 31, 32, 33), True), ((3,), True)]
    more, letters = [(40,), (), (41, 42), (43,)], {PAD: ".", BOS: "B", PROMPT: "P", LAST: "L", DECODE: "D"}
    batch = Batch((4, 2, 0, 1), tuple(Task(Encoded(ids, 0, (), bos)) for ids, bos in given), (0, 0, 3, 0), "cpu")

    def read(*appended, **options):
        tokens, kinds = batch.read(*appended, **options)
        return tokens.tolist(), ["".join(map(letters.get, row)) for row in kinds.tolist()]

    close = [[3, 10, 11, 12, 40], [0, 0, 0, 20, 21], [0, 32, 33, 41, 42], [0, 0, 0, 3, 43]]
    aligned = [[3, 10, 11, 12, 40, 0], [0, 0, 20, 21, 0, 0], [0, 0, 32, 33, 41, 42], [0, 0, 0, 3, 43, 0]]
    assert read(more) == (close, ["BPPLD", "...PL", ".PLDD", "...LD"])
    assert read(more, aligned=True) == (aligned, ["BPPLD.", "..PL..", "..PLDD", "...LD."])
    assert read() == ([row[:4] for row in aligned], ["BPPL", "..PL", "..PL", "...L"])


@pytest.mark.parametrize(("device", "caps"), [("cpu", [64, 64, 64, 64]), ("cuda", [16384, 819, 16, 1])])
def test_automatic_batches_are_within_memory_and_caps(device, caps, monkeypatch):
    shape = {"n_layers": 32, "n_heads": 32, "d_head": 128, "d_model": 4096, "d_mlp": 11008, "d_vocab": 32000}
    model = model_of(dtype=torch.bfloat16, device=device, **shape)
    for free, expected in ((0, [1, 1, 1, 1]), (10**10, None), (10**16, caps)):
        ram = SimpleNamespace(available=free, total=10**17)
        monkeypatch.setattr(batch_size.psutil, "virtual_memory", lambda ram=ram: ram)
        monkeypatch.setattr(batch_size, "_container_limits", list)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**16))
        found = {n_tokens: rows_that_fit(model, n_tokens, 8) for n_tokens in (1, 20, 1000, 20_000)}
        assert expected in (None, list(found.values()))
        for (n_tokens, rows), cap in zip(found.items(), caps, strict=True):
            assert rows == 1 or 1 < rows <= min(cap, free / 2 / (n_tokens * 32 * 4096 * 2 * 2))  # keys and values


def test_the_limit_of_a_container_or_job_counts(tmp_path):
    def group(folder, most, used, cached, v1=False):
        names = ("limit_in_bytes", "usage_in_bytes") if v1 else ("max", "current")
        path = tmp_path / "sys/fs/cgroup" / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, number in zip(names, (most, used), strict=True):
            (path / f"memory.{name}").write_text(f"{number}\n")
        (path / "memory.stat").write_text(f"anon 5\n{'total_' if v1 else ''}inactive_file {cached}\n")

    assert batch_size._container_limits(tmp_path) == []
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:cpu:/\n2:memory:/job/step\n0::/slice/unit\n")
    group("slice/unit", "max", 900, 0)
    group("slice", 1000, 700, 200)
    group("memory/job", 400, 450, 10, v1=True)
    assert sorted(batch_size._container_limits(tmp_path)) == [(0, 400), (500, 1000)]
