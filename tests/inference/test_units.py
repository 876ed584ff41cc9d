"""Batches are fixed beforehand and units cut by the clock; neither changes what is computed."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import relation_neurons as rn
from relation_neurons.inference import units
from relation_neurons.inference.batch_plan import Task, batches_of, beginning_of, shared_starts
from relation_neurons.inference.units import InProcess, UnitSizes
from relation_neurons.prompts.tokenization import encode
from tests.helpers import word_prompts


def tasks_of(model, n, *, examples):
    return [Task(one, number % 3) for number, one in enumerate(encode(model, word_prompts(n, examples=examples)))]


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("examples", [False, True])
def test_every_task_is_in_one_batch_beside_its_like(tiny, examples, share, gradients):
    tasks = tasks_of(tiny, 25, examples=examples)
    batches = batches_of(tiny, tasks, 4, share=share, gradients=gradients)
    assert sorted(itertools.chain(*batches)) == list(range(25))
    assert max(map(len, batches)) == 4
    starts = shared_starts(tasks, 1 if gradients else 2) if share else [0] * 25
    assert any(starts) == (examples and share)
    begun = [beginning_of(task, start) if start else None for task, start in zip(tasks, starts, strict=True)]
    order = [begun[row] for batch in batches for row in batch]
    assert len(list(itertools.groupby(order))) == len(set(order))
    if gradients:
        assert all(len({begun[row] for row in batch}) == 1 for batch in batches)
    alone = [len(tasks[row].encoded.ids) for batch in batches for row in batch if begun[row] is None]
    assert alone == sorted(alone)  # which keeps padding rare


def test_models_that_count_columns_read_prompts_of_one_length(tiny, monkeypatch):
    monkeypatch.setattr(tiny.cfg, "counts_columns", True, raising=False)
    tasks = tasks_of(tiny, 25, examples=True)
    for batch in batches_of(tiny, tasks, 4):
        assert len({len(tasks[row].encoded.ids) for row in batch}) == 1


def test_a_size_below_one_is_refused(tiny):
    with pytest.raises(rn.RelationNeuronsError, match="batch_size is 0"):
        batches_of(tiny, tasks_of(tiny, 2, examples=False), 0)


@given(
    rows=st.dictionaries(st.integers(0, 60), st.integers(1, 9), min_size=1),
    seconds=st.lists(st.floats(1e-4, 100), min_size=1),
    n_workers=st.integers(1, 8),
    most=st.none() | st.integers(1, 20),
)
def test_units_are_runs_of_batches_and_no_batch_is_in_two(rows, seconds, n_workers, most):
    batches = {number: [None] * n for number, n in sorted(rows.items())}
    sizes, found = UnitSizes(batches, n_workers, most), []
    for taken in itertools.cycle(seconds):
        unit = sizes.next()
        if not unit:
            break
        assert list(unit) == list(range(unit[0], unit[0] + len(unit)))
        if len(unit) > 1:
            assert sum(len(batches[one]) for one in unit) <= (most or 10**9)
        found += unit
        sizes.took(unit, taken)
    assert found == list(batches)
    assert sizes.n_left == 0


def test_a_unit_takes_as_long_as_it_should_and_less_towards_the_end():
    batches = {number: [None] * 4 for number in range(100)}
    alone = UnitSizes(batches)
    first = alone.next()
    assert len(first) == 1
    alone.took(first, 1.0)  # 4 rows a second
    assert len(alone.next()) == units.UNIT_SECONDS
    shared, lengths = UnitSizes(batches, n_workers=4), []
    while unit := shared.next():
        lengths.append(len(unit))
        shared.took(unit, 0.1 * len(unit))
    assert lengths[1] == 13  # an eighth of the 99 that were left
    assert lengths[-4:] == [1, 1, 1, 1]


def test_units_change_nothing(tiny, monkeypatch):
    prompts, tables = word_prompts(20, examples=True), {}
    batches = batches_of(tiny, [Task(one) for one in encode(tiny, prompts)], 3)
    asked = {number: [prompts[row] for row in batch] for number, batch in enumerate(batches)}
    for seconds in (0, 1e-3, 1e9):
        monkeypatch.setattr(units, "UNIT_SECONDS", seconds)
        found, told, pool = {}, [], InProcess(tiny)

        def store(unit, results, found=found):
            found |= zip(unit, results, strict=True)

        pool.compute(
            lambda model, part: rn.collect_activations(model, part, batch_size=len(part)).values,
            asked,
            store,
            progress=told.append,
        )
        assert sum(told) == 20
        tables[seconds] = torch.cat([found[number] for number in range(len(batches))])
        assert pool.n_units == {0: len(batches), 1e9: 2}.get(seconds, pool.n_units)
    assert all(torch.equal(table, tables[0]) for table in tables.values())
    expected = rn.collect_activations(tiny, [prompts[row] for batch in batches for row in batch]).values
    torch.testing.assert_close(tables[0], expected)
