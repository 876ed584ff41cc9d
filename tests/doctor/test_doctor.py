"""The checks of `doctor` pass on a sound machine and model, and each of them can fail."""

import subprocess
import threading
from collections import OrderedDict
from email.message import Message
from importlib import metadata
from types import SimpleNamespace

import huggingface_hub
import huggingface_hub.errors as hub
import pytest
import requests
import torch
from transformer_lens.hook_points import HookPoint

import relation_neurons as rn
from relation_neurons.cli.doctor import doctor_command
from relation_neurons.doctor import doctor
from relation_neurons.doctor import invariance as invariance_part
from relation_neurons.doctor import machine as machine_part
from relation_neurons.doctor import model as model_part
from relation_neurons.doctor import network as network_part
from relation_neurons.doctor.machine import machine_checks
from relation_neurons.doctor.model import model_checks
from relation_neurons.models import hooked_model, loading, pretrained
from relation_neurons.relations import loading as relation_loading
from relation_neurons.relations.lint import Problem
from relation_neurons.relations.lint import check as lint

MACHINE = ["Python", "Packages", "TransformerLens", "Notebooks", "Images", "Device", "Memory", "Model cache"]
MACHINE += ["Data cache", "Working folder", "Token", "Model hub", "Relations"]
MODEL = ["Model, float32", "Model memory", "Batches", "Hooks", "Zeroed weights", "Null run, float32"]
MODEL += ["Sites", "Hugging Face", "Model, bfloat16", "Null run, bfloat16"]
SECRET = "hf_" + "secret" * 5


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A sound machine without a network; `machine.requests` are the requests made."""
    about = Message()
    for key, value in [("Requires-Python", ">=3.11"), ("Provides-Extra", "notebooks"), ("Provides-Extra", "images")]:
        about[key] = value
    machine = SimpleNamespace(
        requests=[],
        status=200,
        versions={"transformer-lens": "3.9.0"},
        requires=[
            "torch>=2.6",
            "transformer-lens<5,>=3.9",
            "no-such-thing>=1; sys_platform == 'other'",
            "kaleido>=1.0; extra == 'images'",
        ],
        about=about,
    )

    def version(name):
        if machine.versions.get(name, "") is None:
            raise metadata.PackageNotFoundError(name)
        return machine.versions.get(name) or metadata.version(name)

    def head(address, **options):
        machine.requests.append((address, options))
        return SimpleNamespace(status_code=machine.status)

    stub = SimpleNamespace(
        version=version,
        requires=lambda name: machine.requires,
        metadata=lambda name: about,
        files=lambda name: [],
        PackageNotFoundError=metadata.PackageNotFoundError,
    )
    monkeypatch.setattr(machine_part, "metadata", stub)
    monkeypatch.setattr(machine_part, "problems_of", lambda path: [])
    monkeypatch.setattr(network_part.requests, "head", head)
    monkeypatch.setattr(machine_part, "_driver", lambda: "")
    monkeypatch.setattr(network_part.huggingface_hub, "get_token", lambda: SECRET)
    monkeypatch.setattr(machine_part.hub_constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(machine_part.hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("RELATION_NEURONS_DATA", str(tmp_path / "data"))
    return machine


def only(name, checks):
    """The first check of that name; later checks of a generator are not run."""
    return next(check for check in checks if check.name == name)


def planted_checks(folder, **options):
    arguments = {"device": "cpu", "dtype": "float32", "n_prompts": 12} | options
    files = sorted(str(path) for path in folder.glob("*.json"))
    return list(model_checks(str(folder / "model"), relations=files, **arguments))


class IgnoresHooks(OrderedDict):
    """Hooks that are registered and never called."""

    def __setitem__(self, key, value):
        pass


@pytest.fixture
def broken(monkeypatch, planted_folder):
    """Runs the checks on a planted model that is broken after loading."""
    load = model_part.load_with_reference

    def checks(breaks, **options):
        def load_broken(*args, **arguments):
            model, reference = load(*args, **arguments)
            breaks(model)
            return model, reference

        monkeypatch.setattr(model_part, "load_with_reference", load_broken)
        return planted_checks(planted_folder, **options)

    return checks


def test_all_checks_pass_on_a_sound_machine_and_model_and_fit_80_columns(machine, planted_folder, capsys, monkeypatch):
    monkeypatch.setattr(machine_part, "problems_of", lint)
    monkeypatch.setenv("COLUMNS", "80")
    files = tuple(sorted(str(path) for path in planted_folder.glob("*.json")))
    doctor_command(str(planted_folder / "model"), device="cpu", n_prompts=12, relations=files)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "\x1b" not in printed
    assert printed.rstrip().endswith("0 warning, 0 trouble")
    for name in (*MACHINE, *MODEL):
        assert any(line[8:].startswith(name + " ") for line in printed.splitlines()), name
    assert SECRET not in printed


def test_a_lint_error_in_a_shipped_relation_is_trouble(machine, monkeypatch):
    problem = Problem("error", "country_capital.json", 3, "samples 1: object", "'' is empty", "a text")
    monkeypatch.setattr(machine_part, "problems_of", lambda path: [problem] if path.stem == "country_capital" else [])
    check = only("Relations", machine_checks())
    assert check.state == "trouble"
    assert "country_capital.json: samples 1: object" in check.result


def test_without_a_model_only_the_machine_is_checked(machine):
    reported = []
    checks = doctor(on_check=reported.append)
    assert [check.name for check in checks] == MACHINE
    assert checks == reported
    assert {check.state for check in checks} <= {"ok", "note"}
    assert all(check.do for check in checks if check.state != "ok")


@pytest.mark.parametrize("version", [None, "2.5.1"])
def test_an_unmet_requirement_is_trouble_with_the_pip_command(machine, version):
    machine.versions["torch"] = version
    check = only("Packages", machine_checks())
    assert check.state == "trouble"
    assert ("not installed" if version is None else version) in check.result
    assert check.do == "pip install 'torch>=2.6'"


@pytest.mark.parametrize(
    ("version", "state"),
    [("3.9.0", "ok"), ("3.9.4", "ok"), ("4.3.0", "ok"), ("3.10.0", "warning"), ("2.8.0", "warning"), (None, "trouble")],
)
def test_an_untested_transformer_lens_is_a_warning(machine, version, state):
    machine.versions["transformer-lens"] = version
    check = only("TransformerLens", machine_checks())
    assert check.state == state
    assert bool(check.do) == (state != "ok")


def test_an_old_python_is_trouble(machine):
    machine.about.replace_header("Requires-Python", ">=9")
    check = only("Python", machine_checks())
    assert (check.state, check.do) == ("trouble", "create an environment with Python >=9")


def test_a_missing_extra_is_a_note_with_the_pip_command(machine):
    machine.requires.append("no-such-thing>=1; extra == 'notebooks'")
    check = only("Notebooks", machine_checks())
    assert (check.state, check.do) == ("note", "to use it: pip install 'no-such-thing>=1'")
    assert only("Packages", machine_checks()).state == "ok"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_pytorch_cannot_use_is_reported(machine, monkeypatch):
    assert only("Device", machine_checks("cuda")).state == "trouble"
    monkeypatch.setattr(machine_part, "_driver", lambda: "550.1")
    check = only("Device", machine_checks())
    assert check.state == "warning"
    assert "550.1" in check.result
    assert only("Device", machine_checks("cpu")).state == "ok"


@pytest.mark.parametrize(("free", "state"), [(2**26, "trouble"), (2**30, "warning"), (2**36, "ok")])
def test_the_gpu_is_reported_with_its_memory_and_driver(machine, monkeypatch, free, state):
    monkeypatch.setattr(machine_part, "_driver", lambda: "550.1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "Imagined GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (free, 2**36))
    check = only("Device", machine_checks())
    assert check.state == state
    for part in ("Imagined GPU", "of 64.0 GiB free", "driver 550.1"):
        assert part in check.result


def test_more_threads_than_cores_are_reported(machine, monkeypatch):
    monkeypatch.setattr(machine_part.torch, "get_num_threads", lambda: 4096)
    assert "OMP_NUM_THREADS=" in only("Device", machine_checks("cpu")).do


@pytest.mark.parametrize(
    ("load", "threads", "policy", "state"),
    [
        (9.0, 4, None, "note"),
        (9.0, 4, "active", "note"),
        (9.0, 4, "passive", "ok"),
        (9.0, 1, None, "ok"),
        (0.5, 4, None, "ok"),
    ],
)
def test_actively_waiting_threads_on_a_busy_machine_are_reported(machine, monkeypatch, load, threads, policy, state):
    monkeypatch.setattr(machine_part.os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    monkeypatch.setattr(machine_part.psutil, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(machine_part.torch, "get_num_threads", lambda: threads)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    check = only("Device", machine_checks("cpu"))
    assert check.state == state
    assert ("OMP_WAIT_POLICY=PASSIVE" in check.do) == (state == "note")


@pytest.mark.parametrize(("free", "state"), [(0, "trouble"), (2**30, "warning"), (2**33, "ok")])
def test_a_full_disk_and_low_memory_are_reported(machine, monkeypatch, free, state):
    monkeypatch.setattr(machine_part, "free_bytes", lambda folder: free)
    monkeypatch.setattr(machine_part.psutil, "virtual_memory", lambda: SimpleNamespace(available=free, total=2**34))
    checks = list(machine_checks())
    for name in ("Memory", "Model cache", "Data cache", "Working folder"):
        check = only(name, checks)
        assert check.state == state
        assert bool(check.do) == (state != "ok")


def test_a_cache_that_is_not_writable_is_trouble(machine, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(machine_part.hub_constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    monkeypatch.setenv("RELATION_NEURONS_DATA", str(tmp_path / "file"))
    checks = list(machine_checks())
    assert only("Model cache", checks).state == only("Data cache", checks).state == "trouble"
    assert "HF_HOME" in only("Model cache", checks).do
    assert "RELATION_NEURONS_DATA" in only("Data cache", checks).do


def test_the_checks_create_no_folders(machine, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    list(machine_checks())
    assert sorted(tmp_path.rglob("*")) == before


def test_the_hub_gets_one_request_without_the_token(machine):
    assert only("Model hub", machine_checks()).state == "ok"
    ((address, options),) = machine.requests
    assert SECRET not in repr((address, options))
    assert options["timeout"] == 3
    machine.status = 503
    assert only("Model hub", machine_checks()).state == "warning"


def test_offline_the_hub_gets_no_request(machine, monkeypatch):
    monkeypatch.setattr(machine_part.hub_constants, "HF_HUB_OFFLINE", True)
    assert only("Model hub", machine_checks()).state == "ok"
    assert machine.requests == []


def test_no_network_is_a_warning_without_the_text_of_the_error(machine, monkeypatch):
    def fail(*_, **__):
        raise requests.exceptions.ProxyError(f"http://user:{SECRET}@proxy")

    monkeypatch.setattr(network_part.requests, "head", fail)
    check = only("Model hub", machine_checks())
    assert check.state == "warning"
    assert SECRET not in check.result
    assert "HF_HUB_OFFLINE" in check.do


def test_an_unresponsive_hub_times_out(machine, monkeypatch):
    monkeypatch.setattr(network_part, "HUB_SECONDS", 0.05)
    tested, response = threading.Event(), SimpleNamespace(status_code=200)
    monkeypatch.setattr(network_part.requests, "head", lambda *_, **__: tested.wait() and response)
    assert "does not respond within" in only("Model hub", machine_checks()).result
    tested.set()


def test_no_token_is_a_note(machine, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert only("Token", machine_checks()).state == "note"


def test_damaged_relations_are_trouble(machine, monkeypatch, tmp_path):
    (tmp_path / "relations").mkdir()
    (tmp_path / "relations" / "mine.json").write_text("{", encoding="utf-8")
    for module in (machine_part, relation_loading):
        monkeypatch.setattr(module, "data_folder", lambda: tmp_path)
    check = only("Relations", machine_checks())
    assert check.state == "trouble"
    assert "mine.json" in check.result
    assert check.do


def test_altered_relations_are_trouble(machine, monkeypatch):
    path = machine_part.data_folder() / "relations" / "country_capital.json"
    recorded = SimpleNamespace(locate=lambda: path, hash=SimpleNamespace(mode="sha256", value="other"))
    monkeypatch.setattr(machine_part.metadata, "files", lambda name: [recorded])
    assert "country_capital.json" in only("Relations", machine_checks()).result
    recorded.hash.value = machine_part._recorded_hash(path)
    assert "1 files are unaltered" in only("Relations", machine_checks()).result


def test_an_error_in_a_check_is_its_result_and_hides_the_token(machine, monkeypatch):
    def fail():
        raise ValueError(f"odd {SECRET}\nmore")

    monkeypatch.setattr(machine_part.psutil, "virtual_memory", fail)
    checks = list(machine_checks())
    assert [check.name for check in checks] == MACHINE
    assert (only("Memory", checks).state, only("Memory", checks).result) == ("trouble", "ValueError: odd ***")


def test_an_interrupt_by_the_user_stops_the_checks(machine, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(machine_part.psutil, "virtual_memory", stop)
    with pytest.raises(KeyboardInterrupt):
        list(machine_checks())


def test_trouble_exits_with_status_1_and_advice(machine, monkeypatch, capsys):
    machine.versions["torch"] = None
    with pytest.raises(SystemExit) as stop:
        doctor_command()
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert "trouble Packages" in printed
    assert "Do: pip install 'torch>=2.6'" in printed
    assert printed.rstrip().endswith("1 trouble")


@pytest.mark.parametrize("near", ["smollm2-153m", "smollm2_135m"])
def test_a_misspelt_model_gets_the_nearest_name_as_advice(machine, monkeypatch, near):
    def fail(*_, **__):
        raise hub.LocalEntryNotFoundError("nothing")

    monkeypatch.setattr(pretrained.transformers.AutoTokenizer, "from_pretrained", fail)
    (check,) = model_checks(near, "cpu", None, 4, ())
    assert check.state == "trouble"
    assert "cannot be reached" in check.result
    assert "did you mean 'smollm2-135m'" in check.do


def test_a_misspelt_folder_gets_the_nearest_path_as_advice(planted_folder):
    (check,) = model_checks(str(planted_folder / "modle"), "cpu", None, 4, ())
    assert "no file or folder" in check.result
    assert f"did you mean '{planted_folder / 'model'}'" in check.do


def test_weights_with_nan_are_trouble(broken):
    def breaks(model):
        model.blocks[1].mlp.W_out[3, 5] = float("nan")

    checks = broken(breaks)
    assert [check.name for check in checks] == [name for name in MODEL if "bfloat16" not in name]
    for name in MODEL[:1] + MODEL[2:8]:
        assert only(name, checks).state == "trouble", name
    assert "1 weights" in only("Model, float32", checks).result


def test_a_hook_that_never_runs_is_trouble(broken):
    def breaks(model):
        model.hook_dict["blocks.1.mlp.hook_post"]._forward_hooks = IgnoresHooks()

    checks = broken(breaks)
    for name in ("Hooks", "Zeroed weights"):
        assert only(name, checks).state == "trouble"
        assert "fired 0 times at blocks.1.mlp.hook_post" in only(name, checks).result
        assert only(name, checks).do
    assert only("Batches", checks).state == "ok"


def test_a_layer_that_changes_nothing_is_trouble(broken):
    def breaks(model):
        model.blocks[0].mlp.W_out.zero_()

    check = only("Hooks", broken(breaks))
    assert check.state == "trouble"
    assert "ablating blocks.0.mlp.hook_post changes nothing, and neither do 3 other sites and layers" in check.result


def test_a_model_that_accepts_any_hook_is_trouble(broken):
    class AcceptsAnyHook(dict):
        def get(self, name, default=None):
            return super().get(name) or HookPoint()

    def breaks(model):
        model.__dict__["hook_dict"] = AcceptsAnyHook(model.hook_dict)
        if model.hook_dict.get("no such") is None:
            pytest.skip("a bridge recreates its hooks")

    assert "misspelt hook 'blocks.0.mlp.hok_post' was accepted" in only("Hooks", broken(breaks)).result


def test_unmasked_padding_is_trouble(monkeypatch, planted_folder):
    for run in ("_run_hooked", "_run_bridge"):
        right = getattr(hooked_model, run)

        def unmasked(model, tokens, mask, whole, cache, keep, right=right):
            return right(model, tokens, torch.ones_like(mask), torch.ones_like(whole), cache, keep)

        monkeypatch.setattr(hooked_model, run, unmasked)
    check = only("Batches", planted_checks(planted_folder))
    assert check.state == "trouble"
    assert "--batch-size 1" in check.do


def test_an_ablation_that_changes_the_weights_is_trouble(monkeypatch, planted_folder):
    right = model_part.ablate

    class ChangesWeights:
        def __init__(self, model, neurons):
            self.model, self.inner = model, right(model, neurons)

        def __enter__(self):
            return self.inner.__enter__()

        def __exit__(self, *error):
            self.inner.__exit__(*error)
            self.model.blocks[0].mlp.W_out[0, 0] += 1e-6

    monkeypatch.setattr(model_part, "ablate", ChangesWeights)
    check = only("Zeroed weights", planted_checks(planted_folder))
    assert check.state == "trouble"
    assert "NOT bit-identical" in check.result


def test_an_ablation_of_the_wrong_neurons_is_trouble(monkeypatch, planted_folder):
    right = model_part.ablate
    shifted = [(0, index) for index in range(1, 128, 2)]
    monkeypatch.setattr(model_part, "ablate", lambda model, neurons: right(model, rn.NeuronSet.from_pairs(shifted)))
    assert only("Zeroed weights", planted_checks(planted_folder)).state == "trouble"


@pytest.mark.parametrize(("n_wrong", "state"), [(0, "ok"), (1, "warning"), (6, "trouble")])
def test_the_share_of_different_answers_is_reported_with_its_interval(monkeypatch, planted_folder, n_wrong, state):
    right = invariance_part.recall

    def flipping(model, prompts, **options):
        table = right(model, prompts, **options)
        if options.get("batch_size") == 7 and options.get("max_new_tokens") == 2:
            table.loc[: n_wrong - 1, "generated"] = "other"
        return table

    monkeypatch.setattr(invariance_part, "recall", flipping)
    check = only("Null run, float32", planted_checks(planted_folder))
    assert check.state == state
    shares = {0: "0.0%", 1: "8.3% in other batches (95 % interval 1.5% to 35.4%)", 6: "50.0%"}
    assert f"of 12 prompts differ: {shares[n_wrong]}" in check.result


@pytest.mark.parametrize(
    ("difference", "agreement", "state"),
    [
        (1e-4, 1.0, "ok"),
        (5e-3, 1.0, "warning"),
        (5e-3, 0.9, "trouble"),
        (1.0, 1.0, "trouble"),
        (float("nan"), 1.0, "trouble"),
    ],
)
def test_logits_are_compared_with_those_of_hugging_face(monkeypatch, difference, agreement, state):
    result = loading.Parity(max_logit_difference=difference, argmax_agreement=agreement, n_tokens=9)
    monkeypatch.setattr(loading.Reference, "parity", lambda reference, model: result)
    check = model_part.parity_check("Hugging Face", loading.Reference((), ()), None)
    assert (check.state, bool(check.do)) == (state, state != "ok")


def test_a_model_changed_after_loading_fails_parity(broken):
    def breaks(model):
        model.unembed.W_U[:, 5] += 0.1

    checks = broken(breaks)
    assert [check.name for check in checks if check.state == "trouble"] == ["Hugging Face"]


@pytest.mark.parametrize("wrapper", ["hook_llama", "bridge"])
def test_wrongly_wrapped_weights_are_refused(monkeypatch, planted_folder, wrapper):
    right = getattr(loading, wrapper)

    def wrong(pretrained, tokenizer, **arguments):
        pretrained.lm_head.weight[5] += 0.1  # the wrapper and the reference share these weights
        return right(pretrained, tokenizer, **arguments)

    if wrapper == "bridge":
        monkeypatch.setattr(loading, "HookedTransformer", None)
    elif loading.HookedTransformer is None:
        pytest.skip("TransformerLens 4 has no HookedTransformer")
    monkeypatch.setattr(loading, wrapper, wrong)
    check = only("Model, float32", planted_checks(planted_folder))
    assert check.state == "trouble"
    assert "gives other logits than Transformers" in check.result


def test_the_model_is_loaded_once_and_rounded_to_the_other_type(monkeypatch, planted_folder):
    loads = []
    right = loading.load_pretrained
    monkeypatch.setattr(loading, "load_pretrained", lambda *args, **options: loads.append(1) or right(*args, **options))
    checks = planted_checks(planted_folder, dtype=None)
    assert "; loaded in" in only("Model, float32", checks).result
    assert "; rounded from float32 in" in only("Model, bfloat16", checks).result
    assert len(loads) == 1


def test_a_model_that_cannot_be_rounded_is_loaded_again(monkeypatch, planted_folder):
    dtypes = []
    right = loading.load_pretrained

    def noting(*args, dtype, **options):
        dtypes.append(dtype)
        return right(*args, dtype=dtype, **options)

    monkeypatch.setattr(loading, "load_pretrained", noting)
    monkeypatch.setattr(model_part, "cast", lambda model, dtype: False)
    checks = planted_checks(planted_folder, dtype=None)
    assert [check.name for check in checks] == MODEL
    assert "; loaded in" in only("Model, bfloat16", checks).result
    assert dtypes == [torch.float32, torch.bfloat16]


def test_activations_that_exceed_free_memory_are_a_warning(monkeypatch, planted):
    monkeypatch.setattr(machine_part.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    check = model_part.model_memory_check("Model memory", planted.model)
    assert (check.state, bool(check.do)) == ("warning", True)
    # gate, up and down of both layers: 2 * (128 + 128 + 96) numbers of 4 bytes for 1,000 prompts
    assert f"'ffn' activations of 1,000 prompts need {2 * 352 * 4000 / 2**20:.0f} MiB" in check.result


def test_a_single_dtype_can_be_checked(planted_folder):
    checks = planted_checks(planted_folder, dtype="bfloat16")
    names = [
        "Model, bfloat16",
        "Model memory",
        "Batches",
        "Hooks",
        "Zeroed weights",
        "Null run, bfloat16",
        "Hugging Face",
    ]
    assert [check.name for check in checks] == names
    assert {check.state for check in checks} <= {"ok", "note"}


def test_the_driver_version_is_read_from_nvidia_smi(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="550.54\n550.54\n"))
    assert machine_part._driver() == "550.54"

    def fail(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", fail)
    assert machine_part._driver() == ""


def test_no_prompts_are_refused():
    with pytest.raises(rn.RelationNeuronsError, match="n_prompts is 0"):
        doctor(n_prompts=0)
