"""The documents of a corpus on disk.

A corpus is a file, or a folder with files at any depth, all UTF-8: a `.txt` is one document; a `.jsonl` has one in each
line, a JSON object with its text in the field `text`. Both may be compressed, with `.gz` or `.zst` after the name.
Other files are passed over. Memory holds one document at a time; one of more than `LARGEST` bytes is refused.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from relation_neurons.errors import refuse
from relation_neurons.relations.tables import shown

SUFFIXES = tuple(kind + packed for kind in (".txt", ".jsonl") for packed in ("", ".gz", ".zst"))
LARGEST = 1 << 26  # bytes of a document


def corpus_files(corpus: Path) -> Iterator[Path]:
    """The files of a corpus, folder by folder in the order of their names.

    Raises:
        RelationNeuronsError: No such file or folder, one that cannot be read, or a file of another kind.
    """
    if corpus.is_dir():
        for folder, folders, names in os.walk(corpus, onerror=partial(refuse_file, corpus)):
            folders.sort()
            yield from (Path(folder, name) for name in sorted(names) if name.endswith(SUFFIXES))
    elif not corpus.exists():
        raise refuse(f"Corpus {corpus} does not exist", expected="a file or a folder")
    elif not corpus.name.endswith(SUFFIXES):
        raise refuse(f"Corpus {corpus} is of an unknown kind", expected=f"a name that ends in {', '.join(SUFFIXES)}")
    else:
        yield corpus


def documents(path: Path) -> Iterator[str]:
    """The texts of a file of a corpus, one at a time."""
    try:
        with io.BufferedReader(pa.input_stream(str(path), compression="detect")) as stream:
            if path.name.removesuffix(".gz").removesuffix(".zst").endswith(".txt"):
                yield _decoded(stream.read(LARGEST + 1), str(path))
                return
            for number, line in enumerate(iter(partial(stream.readline, LARGEST + 1), b""), start=1):
                if line.strip():
                    yield _text(line, f"{path}, line {number}")
    except OSError as error:
        refuse_file(path, error)


def _decoded(content: bytes, where: str) -> str:
    if len(content) > LARGEST:
        raise refuse(f"{where}: a document of more than {LARGEST} bytes", do="make its parts lines of a .jsonl file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(f"{where}: byte {error.start} is not UTF-8", expected="a file saved as UTF-8") from error


def _text(line: bytes, where: str) -> str:
    expected = "a JSON object with a text in the field 'text'"
    try:
        raw = json.loads(_decoded(line, where))
    except (ValueError, RecursionError) as error:
        raise refuse(f"{where}: is not JSON ({error})", expected=expected) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("text"), str):
        raise refuse(f"{where}: has no text, but is {shown(raw)}", expected=expected)
    return raw["text"]


def refuse_file(path: Path, error: Exception) -> NoReturn:
    """Raise what says that a file cannot be read, and why."""
    reason = str(getattr(error, "strerror", None) or error).strip()
    raise refuse(f"{path}: cannot be read ({reason})", do="check that it is there, whole and permitted") from error
