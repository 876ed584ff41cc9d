"""What is kept is what is read: a process killed at any moment loses one shard at most, and ends in the same bytes."""

import copy
import hashlib
import importlib
import itertools
import json
import os
import signal
import sys
import warnings
from functools import partial
from pathlib import Path

import filelock
import pytest
import torch

import relation_neurons as rn
from relation_neurons.activations import cache, shard_store
from relation_neurons.activations.cache import kept_activations
from relation_neurons.activations.shard_store import drop_shards
from relation_neurons.inference import units
from relation_neurons.inference.batch_plan import Task, batches_of
from relation_neurons.models.hooked_model import add_hook
from relation_neurons.models.wrapping import HookedTransformer, bridge, hook_llama
from relation_neurons.prompts.tokenization import encode
from tests.commands import start
from tests.helpers import full_only, word_prompts

activations = importlib.import_module("relation_neurons.activations.collection")
ROWS = 3
PROMPTS = word_prompts(11, examples=True)
PARTS = [3, 3, 3, 2]
"""Prompts of each shard."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Three prompts of the tiny model's site `post`, in float32; code that is not read anew for each test."""
    monkeypatch.setattr(cache, "SHARD_BYTES", ROWS * 3 * 48 * 4 + 5)
    monkeypatch.setattr(units, "code_digest", lambda: "this code")


@pytest.fixture
def model(tiny_llama):
    """The tiny random Llama, hooked in one way, where the way does not matter."""
    return (bridge if HookedTransformer is None else hook_llama)(copy.deepcopy(tiny_llama[0]), tiny_llama[1])


@pytest.fixture
def passes(monkeypatch):
    """Counts the prompts that the model reads."""
    read, forward = [], activations.forward

    def counting(model, tokens, kinds, cache, *, keep):
        read.append(len(tokens))
        return forward(model, tokens, kinds, cache, keep=keep)

    monkeypatch.setattr(activations, "forward", counting)
    return read


@pytest.fixture
def quiet():
    """Warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def same_bytes(found, expected):
    found, expected = (one if isinstance(one, torch.Tensor) else one.values for one in (found, expected))
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert torch.equal(found.contiguous().view(torch.uint8), expected.contiguous().view(torch.uint8))
    return True


def names(folder):
    """Every file kept in a folder but the lock."""
    return sorted(path.name for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock")


WHOLE = [*(f"{number:05}.safetensors" for number in range(4)), "index.json"]


@pytest.mark.parametrize(
    ("site", "include_bos", "batch_size", "dtype"),
    [("post", False, None, torch.float32), ("down", True, 2, torch.bfloat16), ("ffn", False, 1, torch.float16)],
)
def test_kept_equals_collected(tiny, tmp_path, passes, quiet, site, include_bos, batch_size, dtype):
    options = {"site": site, "include_bos": include_bos, "dtype": dtype, "batch_size": batch_size}
    for _ in range(2):
        found = kept_activations(tiny, PROMPTS, tmp_path, **options)
        assert sum(passes) == len(PROMPTS)  # the second time from the folder
    expected = rn.collect_activations(tiny, PROMPTS, **options)
    assert (found.prompts, found.space, found.include_bos) == (expected.prompts, expected.space, expected.include_bos)
    torch.testing.assert_close(found.values, expected.values)
    (index,) = tmp_path.rglob("index.json")
    n_shards = len(json.loads(index.read_text())["shards"])
    rows = max(1, cache.SHARD_BYTES // found.values[0].nbytes)
    assert n_shards >= -(-len(PROMPTS) // rows) > 1
    size = json.loads(index.read_text())["batch_size"]
    batches = batches_of(tiny, [Task(one) for one in encode(tiny, PROMPTS)], size, share=not include_bos)
    for batch in batches:
        alone = rn.collect_activations(tiny, [PROMPTS[row] for row in batch], **options | {"batch_size": size})
        same_bytes(found.values[batch], alone)


def test_one_shard_is_what_is_collected_to_the_bit(model, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SHARD_BYTES", 2**20)
    for batch_size in (None, 4):
        expected = rn.collect_activations(model, PROMPTS, batch_size=batch_size)
        same_bytes(kept_activations(model, PROMPTS, tmp_path / str(batch_size), batch_size=batch_size), expected)


def test_progress_tells_of_every_prompt_read_or_kept(model, tmp_path):
    for batch_size in (2, None):
        told = []
        kept_activations(model, PROMPTS, tmp_path, batch_size=batch_size, progress=told.append)
        assert sum(told) == len(PROMPTS)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("moment", [2, 3, *full_only(0, 1, 4, 5, 6, 7)])  # a shard's renaming, then the index's
@pytest.mark.parametrize("renamed", [True, False])
def test_a_process_killed_at_any_renaming_loses_a_shard_at_most(model, tmp_path, passes, monkeypatch, moment, renamed):
    expected = kept_activations(model, PROMPTS, tmp_path / "whole", batch_size=3)
    count, replace, unlink = itertools.count(), os.replace, Path.unlink

    def stop(source, target, **options):
        if next(count) == moment:
            if renamed:
                replace(source, target)
            monkeypatch.setattr(Path, "unlink", lambda *a, **k: None)  # the dead do not clean up
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(Killed):
            kept_activations(model, PROMPTS, tmp_path / "killed", batch_size=3)
    monkeypatch.setattr(Path, "unlink", unlink)
    n_whole = (moment + renamed) // 2  # those that the index knows
    left = names(tmp_path / "killed")
    assert len([name for name in left if name.startswith(".")]) == (not renamed)
    passes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        size = None if n_whole else 3  # the index remembers it
        found = kept_activations(model, PROMPTS, tmp_path / "killed", batch_size=size)
    assert sum(passes) == sum(PARTS[n_whole:])
    same_bytes(found, expected)
    assert names(tmp_path / "killed") == WHOLE


@pytest.mark.parametrize("shard", [1, *full_only(0, 2, 3)])
def test_a_process_killed_within_a_write_loses_that_shard(model, tmp_path, passes, monkeypatch, shard):
    expected = kept_activations(model, PROMPTS, tmp_path / "whole")
    count, save, unlink = itertools.count(), shard_store.save_file, Path.unlink

    def stop(tensors, path):
        save(tensors, path)
        if next(count) == shard:
            with open(path, "r+b") as file:
                file.truncate(100)
            monkeypatch.setattr(Path, "unlink", lambda *a, **k: None)
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shard_store, "save_file", stop)
        with pytest.raises(Killed):
            kept_activations(model, PROMPTS, tmp_path / "killed")
    monkeypatch.setattr(Path, "unlink", unlink)
    assert any(name.startswith(".") for name in names(tmp_path / "killed"))
    passes.clear()
    same_bytes(kept_activations(model, PROMPTS, tmp_path / "killed"), expected)
    assert sum(passes) == sum(PARTS[shard:])
    assert names(tmp_path / "killed") == WHOLE


def test_a_model_that_fails_midway_keeps_what_was_read(model, tmp_path, passes, monkeypatch):
    count, collect = itertools.count(), cache.collect_activations

    def failing(*arguments, **options):
        if next(count) == 2:
            raise Killed
        return collect(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "collect_activations", failing)
        with pytest.raises(Killed):
            kept_activations(model, PROMPTS, tmp_path)
    assert names(tmp_path) == [*WHOLE[:2], "index.json"]
    passes.clear()
    kept_activations(model, PROMPTS, tmp_path)
    assert sum(passes) == len(PROMPTS) - 2 * ROWS


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def other_values(path):
    shard_store.save_file({"rows": torch.zeros(2, dtype=torch.long), "values": torch.zeros(2, 2)}, path)
    index = path.parent / "index.json"
    said = json.loads(index.read_text())
    said["shards"][path.name] = shard_store.file_digest(path)
    index.write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("number", "damage", "says"),
    [
        *((number, flip, "not what was written") for number in range(4)),
        (0, lambda path: os.truncate(path, path.stat().st_size - 1), "not what was written"),
        (2, lambda path: os.truncate(path, 0), "not what was written"),
        (1, Path.unlink, "is gone"),
        (3, other_values, "holds other values"),
    ],
)
def test_a_damaged_shard_is_named_and_read_anew(model, tmp_path, passes, number, damage, says):
    expected = kept_activations(model, PROMPTS, tmp_path)
    (path,) = tmp_path.rglob(WHOLE[number])
    before = path.read_bytes()
    damage(path)
    passes.clear()
    with pytest.warns(UserWarning, match=rf"{WHOLE[number]} is damaged .*{says}"):
        found = kept_activations(model, PROMPTS, tmp_path)
    assert sum(passes) == PARTS[number]
    same_bytes(found, expected)
    assert path.read_bytes() == before
    passes.clear()
    same_bytes(kept_activations(model, PROMPTS, tmp_path), expected)
    assert not passes


@pytest.mark.parametrize("content", ["", "{", "[]", '{"batch_size": 3, "shards": {"a": "b"}}', '{"shards": {}}'])
def test_a_damaged_index_vouches_for_nothing(model, tmp_path, passes, content):
    expected = kept_activations(model, PROMPTS, tmp_path)
    (index,) = tmp_path.rglob("index.json")
    index.write_text(content)
    with pytest.warns(UserWarning, match=r"index.json is damaged"):
        same_bytes(kept_activations(model, PROMPTS, tmp_path), expected)
    assert sum(passes) == 2 * len(PROMPTS)


def test_whatever_values_depend_on_has_a_folder_of_its_own(model, tmp_path, passes, monkeypatch):
    def read(prompts=PROMPTS, **options):
        passes.clear()
        kept_activations(model, prompts, tmp_path, **options)
        return len(passes) > 0

    assert read()
    assert not read()
    assert not read(batch_size=5)  # the same but for rounding
    assert read(site="gate")
    assert read(dtype=torch.float16)
    assert read(include_bos=True)
    assert read(PROMPTS[:-1])
    assert read(PROMPTS[::-1])
    assert read(word_prompts(11, examples=False))
    model.cfg.default_prepend_bos = False
    assert read()
    model.cfg.default_prepend_bos = True
    model.cfg.weights_digest = "abc"
    assert read()
    model.cfg.weights_digest = "abd"
    assert read()
    monkeypatch.setattr(units, "code_digest", lambda: "other code")
    assert read()
    assert not read()


def test_weights_without_a_digest_are_told_apart_by_themselves(model, tmp_path, passes):
    assert model.cfg.weights_digest is None
    before = kept_activations(model, PROMPTS, tmp_path)
    model.blocks[1].mlp.W_in[0, 0] += 1
    after = kept_activations(model, PROMPTS, tmp_path)
    assert sum(passes) == 2 * len(PROMPTS)
    assert not torch.equal(before.values, after.values)


def test_what_is_not_to_be_kept_is_refused(model, tmp_path, monkeypatch):
    def refused(says, folder=tmp_path / "kept", prompts=PROMPTS, **options):
        with pytest.raises(rn.RelationNeuronsError, match=says):
            kept_activations(model, prompts, folder, **options)

    refused("no prompts", prompts=[])
    refused("is not a site", site="psot")
    refused("batch_size is 0", batch_size=0)
    remove = add_hook(model, "blocks.1.mlp.hook_post", lambda activation: activation * float("nan"))
    refused("has a hook at blocks.1.mlp.hook_post")
    monkeypatch.setattr(cache, "_require_no_hooks", lambda model: None)
    refused("not finite")
    remove()
    (tmp_path / "file").write_text("mine")
    refused("cannot be written", folder=tmp_path / "file")
    assert names(tmp_path) == ["file"]


def test_a_full_disk_is_told_before_and_during_reading(model, tmp_path, passes, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shard_store, "free_bytes", lambda folder: 11 * 3 * 48 * 4 - 1)
        with pytest.raises(rn.RelationNeuronsError, match=r"0\.0 GB free.*Do this: make room"):
            kept_activations(model, PROMPTS, tmp_path)
    assert not passes

    def full(tensors, path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shard_store, "save_file", full)
        with pytest.raises(rn.RelationNeuronsError, match=r"00000.safetensors cannot be written \(No space left"):
            kept_activations(model, PROMPTS, tmp_path)
    assert names(tmp_path) == []
    kept_activations(model, PROMPTS, tmp_path)


def test_dropping_removes_what_was_kept_and_nothing_else(model, tmp_path):
    drop_shards(tmp_path / "nowhere")
    folder = tmp_path / "kept"
    kept_activations(model, PROMPTS, folder)
    kept_activations(model, PROMPTS, folder, site="gate")
    (place, other) = folder.iterdir()
    (place / ".00009.safetensors.abc").write_text("left by a killed writer")
    held = filelock.FileLock(other / ".lock")
    with held:
        drop_shards(folder)
        assert not place.exists()
        assert names(folder) == WHOLE
    drop_shards(folder)
    assert not folder.exists()
    kept_activations(model, PROMPTS, folder)
    (folder / "notes.txt").write_text("mine")
    (next(folder.rglob("index.json")).parent / "more.txt").write_text("mine")
    drop_shards(folder)
    assert names(folder) == ["more.txt", "notes.txt"]


def read(folder, out, threads, shard_bytes, stop_at=None):
    """Keep activations as a process of its own, and print how many shards the model read and a digest.

    Where it would read the shard of that number, it stops for good.
    """
    torch.set_num_threads(threads)
    cache.SHARD_BYTES = shard_bytes
    collect, shards = cache.collect_activations, []

    def reading(*arguments, **options):
        if len(shards) == stop_at:
            signal.pause()
        shards.append(1)
        return collect(*arguments, **options)

    cache.collect_activations = reading
    found = kept_activations(rn.load_model(folder / "model", device="cpu"), planted_prompts(folder), out, site="ffn")
    print(len(shards), hashlib.sha256(found.values.numpy()).hexdigest())
    sys.exit()


def planted_prompts(folder):
    return rn.make_prompts(rn.load_relations(folder), rn.PromptConfig(shots=0, n_evaluation=10)).detection[:40]


@pytest.mark.full
@pytest.mark.skipif(not hasattr(signal, "pause"), reason="stops a process by a signal")
def test_one_process_killed_by_force_and_two_at_once_end_in_the_same_bytes(planted_folder, tmp_path, monkeypatch):
    shard_bytes = 5 * 2 * (128 + 128 + 96) * 4  # eight shards of five prompts
    kept = tmp_path / "kept"
    reading = partial(read, planted_folder, kept, torch.get_num_threads(), shard_bytes)
    first = start([], tmp_path / "first", partial(reading, 3))
    first.wait_for(lambda: any(path.read_text().count("safetensors") == 3 for path in kept.glob("*/index.json")))
    others = [start([], tmp_path / name, reading) for name in ("second", "third")]
    for one in others:
        one.wait_for(lambda one=one: "waiting" in (one.folder / "stderr").read_text())
    first.process.kill()
    ended = [one.end() for one in (first, *others)]
    assert [one.status for one in ended] == [-signal.SIGKILL, 0, 0], ended
    said = [one.out.split() for one in ended[1:]]
    assert sorted(int(n_read) for n_read, _ in said) == [0, 5]

    monkeypatch.setattr(cache, "SHARD_BYTES", shard_bytes)
    model = rn.load_model(planted_folder / "model", device="cpu")
    expected = kept_activations(model, planted_prompts(planted_folder), tmp_path / "whole", site="ffn").values
    assert {digest for _, digest in said} == {hashlib.sha256(expected.numpy()).hexdigest()}
