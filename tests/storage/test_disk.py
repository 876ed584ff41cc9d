"""Free disk is that of the folder's own disk, wherever the folder will be."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from relation_neurons.storage.files import existing, free_bytes


def test_the_nearest_folder_that_exists_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for folder, found in [
        (tmp_path, tmp_path),
        (tmp_path / "not" / "yet", tmp_path),
        (tmp_path / "file" / "in", tmp_path / "file"),
        (Path("not/yet"), tmp_path),
    ]:
        assert existing(folder) == found
    assert not (tmp_path / "not").exists()


def test_a_link_that_leads_nowhere_is_where_it_leads(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "other" / "missing", target_is_directory=True)
    assert existing(tmp_path / "link") == tmp_path / "other"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert existing(tmp_path / "loop") == tmp_path


def test_free_bytes_are_those_of_the_disk_found(tmp_path, monkeypatch):
    free = {os.fspath(tmp_path): 7}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[os.fspath(folder)]))
    assert free_bytes(tmp_path / "not" / "yet") == 7
    with pytest.raises(KeyError):
        free_bytes(tmp_path.parent)
