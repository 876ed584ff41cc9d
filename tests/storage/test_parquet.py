"""Damaged parquet files are refused, whatever it is that pandas makes of them."""

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest

import relation_neurons as rn
from relation_neurons.storage.parquet import read_parquet


@pytest.fixture
def path(tmp_path):
    pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_parquet(tmp_path / "t.parquet", index=False)
    return tmp_path / "t.parquet"


def test_what_was_written_is_read(path):
    assert read_parquet(path, "").to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}


def test_a_damaged_description_of_columns_is_refused(path):
    table = pq.read_table(path)
    said = json.loads(table.schema.metadata[b"pandas"])
    for column in said["columns"]:
        del column["numpy_type"]
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(said)}), path)
    with pytest.raises(KeyError):
        pd.read_parquet(path)
    with pytest.raises(rn.RelationNeuronsError, match=r"t\.parquet cannot be read .*Do this: ask whoever wrote it"):
        read_parquet(path, "ask whoever wrote it")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 9, b"a,b\n1,2\n"])
def test_what_is_no_parquet_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(rn.RelationNeuronsError, match="cannot be read"):
        read_parquet(path, "")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(rn.RelationNeuronsError, match="cannot be read"):
        read_parquet(tmp_path / "none.parquet", "")


def test_every_byte_may_be_another(path):
    whole, others = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_parquet(path, "")
        except rn.RelationNeuronsError:
            others += 1
    assert others > 10
