"""Run folders: what is read is what was written, another question is refused, another version is set aside."""

import errno
import json
import multiprocessing
import os
import re

import filelock
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.cli import main
from relation_neurons.storage import run_folder
from relation_neurons.storage.run_folder import RunFolder

KEY = {
    "format": 2,
    "config": {"k": 3, "site": "post"},
    "relations": {"eats": "ab"},
    "model": {"name": "m"},
    "code": "1",
    "device": "cpu",
}
TABLE = pd.DataFrame({"name": ["eats", "eats"], "x": [0.1, 2.0]})


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run", KEY)


def flip(path, at=-30):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_a_table_is_made_once(folder):
    made = []
    for _ in range(2):
        found = folder.table("a/t", lambda: made.append(1) or TABLE)
        pd.testing.assert_frame_equal(found, TABLE)
    assert len(made) == 1
    assert RunFolder(folder.path, KEY).has("a/t")


@pytest.mark.parametrize("at", [0, 40, -30, -1])
def test_a_flipped_byte_is_named_and_the_table_made_anew(folder, at):
    path = folder.write_table("t", TABLE)
    before = path.read_bytes()
    flip(path, at)
    with pytest.warns(UserWarning, match=re.escape(f"{path} is damaged and will be recomputed")):
        found = folder.table("t", lambda: TABLE)
    pd.testing.assert_frame_equal(found, TABLE)
    assert path.read_bytes() == before


def test_damaged_and_unknown_parts_are_not_read(folder):
    for number in range(3):
        folder.write_table(f"answers/{number}", TABLE.assign(x=float(number)))
    flip(folder.path / "answers" / "1.parquet")
    TABLE.to_parquet(folder.path / "answers" / "9.parquet")  # of a process that was killed before it said so
    with pytest.warns(UserWarning, match=r"1\.parquet is damaged"):
        found = folder.tables("answers/*")
    assert [table["x"].iloc[0] for table in found] == [0.0, 2.0]


def test_a_truncated_or_vanished_file_is_not_there(folder):
    path = folder.write_table("t", TABLE)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match="damaged"):
        assert not folder.has("t")
    path.unlink()
    assert not folder.has("t")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"t.parquet": 3}', '{"t.parquet": {"sha256": 5}}'])
def test_a_manifest_that_cannot_be_read_vouches_for_nothing(folder, text):
    folder.write_table("t", TABLE)
    (folder.path / "manifest.json").write_text(text, encoding="utf-8")
    assert not folder.has("t")
    folder.table("t", lambda: TABLE)
    assert folder.has("t")


def test_another_question_is_refused_and_changes_nothing(folder):
    folder.write_table("t", TABLE)
    for other, says in (
        ({"config": {**KEY["config"], "k": 4}}, "config.k was 3, now 4"),
        ({"config": {**KEY["config"], "prompts": {"shots": 2}}}, "config.prompts was absent, now {'shots': 2}"),
        ({"relations": {"eats": "cd"}}, "relations.eats was 'ab', now 'cd'"),
        ({"model": {"name": "n"}}, "model.name was 'm', now 'n'"),
    ):
        with pytest.raises(rn.RelationNeuronsError, match=rf"holds another run \({says}\)\. .*choose another --out"):
            RunFolder(folder.path, KEY | other)
    assert RunFolder(folder.path, KEY).has("t")


@pytest.mark.parametrize("other", [{"code": "2"}, {"device": "cuda"}, {"versions": {"torch": "9"}}])
def test_what_another_version_found_is_set_aside_and_never_mixed(folder, other):
    folder.write_table("t", TABLE)
    folder.write_text("sweep/verdict.md", "- old\n")
    with pytest.warns(UserWarning, match=rf"{next(iter(other))} changed since this run began.*before-"):
        new = RunFolder(folder.path, KEY | other)
    assert not new.has("t")
    (aside,) = folder.path.glob("before-*")
    pd.testing.assert_frame_equal(pd.read_parquet(aside / "t.parquet"), TABLE)
    assert rn.open_run(aside).verdicts() == {"sweep": ("old",)}
    assert rn.open_run(folder.path).key == KEY | other
    new.write_table("t", TABLE)
    with pytest.warns(UserWarning, match="code|device|versions"):
        RunFolder(folder.path, KEY)
    assert len(list(folder.path.glob("before-*"))) == 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_full_or_closed_disk_is_said_and_leaves_the_old_table(folder, monkeypatch, code):
    path = folder.write_table("t", TABLE)
    before = path.read_bytes()

    def full(self, *_, **__):
        raise OSError(code, "no")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    says = (
        "the disk is full.*free disk space, then run the same command" if code == errno.ENOSPC else "Permission denied"
    )
    with pytest.raises(rn.RelationNeuronsError, match=says):
        folder.write_table("t", TABLE.assign(x=5.0))
    assert path.read_bytes() == before
    assert folder.has("t")
    assert not list(folder.path.glob(".t*"))


def test_a_lock_that_is_held_is_said(folder, monkeypatch):
    monkeypatch.setattr(run_folder, "PATIENCE", 0.1)
    held = filelock.FileLock(folder.path / ".lock", is_singleton=False)
    with held, pytest.raises(rn.RelationNeuronsError, match="has been held by another process"):
        folder.write_table("t", TABLE)


def write_many(path, start):
    folder = RunFolder(path, KEY)
    for number in range(start, start + 20):
        folder.write_table(f"answers/{number}", TABLE.assign(x=float(number)))


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    path = tmp_path / "run"
    working = [context.Process(target=write_many, args=(path, start)) for start in (0, 10, 30)]
    for process in working:
        process.start()
    for process in working:
        process.join(60)
    assert [process.exitcode for process in working] == [0, 0, 0]
    found = RunFolder(path, KEY).tables("answers/*")
    assert sorted(table["x"].iloc[0] for table in found) == [float(number) for number in range(50)]


def test_an_opened_run_reads_everything_back(folder):
    neurons = rn.NeuronSet.from_pairs([(0, 3), (1, 2)], site="post", name="eats")
    folder.write_table("neurons", neurons.to_frame())
    folder.write_table("intra/effects", TABLE)
    folder.write_text("intra/verdict.md", "## intra\n\nWhy?\n\n- One.\n- Two.\n")
    run = rn.open_run(folder.path)
    assert run.key == KEY
    assert run.tables == ("intra/effects", "neurons")
    pd.testing.assert_frame_equal(run.table("intra/effects"), TABLE)
    assert run.neurons() == {"eats": neurons}
    assert run.verdicts() == {"intra": ("One.", "Two.")}
    assert run.damage() == {}
    with pytest.raises(rn.RelationNeuronsError, match=r"no table 'intra/effect'.*did you mean 'intra/effects'"):
        run.table("intra/effect")


def test_an_opened_run_never_reads_what_was_altered(folder):
    flip(folder.write_table("t", TABLE))
    folder.write_table("gone", TABLE).unlink()
    run = rn.open_run(folder.path)
    assert run.damage() == {"gone.parquet": "missing", "t.parquet": "altered"}
    with pytest.raises(rn.RelationNeuronsError, match=r"t\.parquet was altered.*recreates the file"):
        run.table("t")
    with pytest.raises(rn.RelationNeuronsError, match=r"gone\.parquet is missing"):
        run.table("gone")


@pytest.mark.parametrize(("name", "text"), [("none", None), ("list", "[]"), ("torn", "{")])
def test_what_is_no_run_is_refused(tmp_path, name, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(rn.RelationNeuronsError, match=r"run\.json"):
        rn.open_run(tmp_path)


def called(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["relation-neurons", "runs", *map(str, arguments)])
    status = 0
    try:
        main.main()
    except SystemExit as left:
        status = left.code
    printed = capsys.readouterr()
    return status, re.sub(r"\s+", " ", printed.out + printed.err)


def test_the_commands_list_show_verify_and_clean(folder, monkeypatch, capsys):
    folder.write_table("t", TABLE)
    folder.write_table("answers/1", TABLE)
    folder.write_text("intra/verdict.md", "- One [0.1, 0.2].\n")
    status, said = called(monkeypatch, capsys, "list", folder.path.parent)
    assert status == 0
    assert re.search(r"run m post 1 \d{4}-\d\d-\d\d \d\d:\d\d unfinished, 1 result 0\.0", said)
    status, said = called(monkeypatch, capsys, "show", folder.path)
    assert "One [0.1, 0.2]." in said
    assert "Tables: t" in said
    assert called(monkeypatch, capsys, "verify", folder.path) == (0, "3 files, all as they were written. ")
    flip(folder.path / "t.parquet")
    status, said = called(monkeypatch, capsys, "verify", folder.path)
    assert status == 1
    assert "altered t.parquet 1 of 3 files" in said
    (folder.path / ".t.parquet.abcd").write_bytes(b"half")
    status, said = called(monkeypatch, capsys, "clean", folder.path)
    assert "Removed 1 files" in said
    assert (folder.path / "answers").is_dir()
    called(monkeypatch, capsys, "clean", folder.path, "--answers")
    assert not (folder.path / "answers").exists()
    assert (folder.path / ".lock").exists()
    assert not RunFolder(folder.path, KEY).has("answers/1")


def test_list_says_what_is_finished_and_what_is_archived(folder, monkeypatch, capsys):
    folder.write_text("report.html", "<p>")
    archive = folder.path / "before-0123"
    archive.mkdir()
    (archive / "run.json").write_bytes((folder.path / "run.json").read_bytes())
    os.utime(folder.path / "manifest.json", (0, 86400 * 365))
    said = called(monkeypatch, capsys, "list", folder.path.parent)[1]
    assert re.search(r"run m post 1 197\d-\d\d-\d\d \d\d:\d\d finished 0\.0", said)
    assert "archived 0.0" in said


@pytest.mark.parametrize("command", ["show", "verify", "clean", "list"])
def test_the_commands_refuse_what_is_no_run(tmp_path, monkeypatch, capsys, command):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    status, said = called(monkeypatch, capsys, command, tmp_path)
    assert status == 2
    assert said.startswith("Error: ")
    assert (tmp_path / "notes.txt").exists()


def test_a_key_is_kept_as_json(folder):
    assert json.loads((folder.path / "run.json").read_text(encoding="utf-8")) == KEY
