"""Read the documents of a corpus from disk.

A corpus is a UTF-8 file, or a folder that is searched recursively. A `.txt` file is one document. A
`.jsonl` file has one document per line: a JSON object with the text in the field `text`. Both may
be compressed (`.gz` or `.zst`). Other files are ignored. Documents are read one at a time; a
document of more than `LARGEST` bytes raises an error.
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
from relation_neurons.relations.diagnostics import shown

SUFFIXES = tuple(kind + compression for kind in (".txt", ".jsonl") for compression in ("", ".gz", ".zst"))
LARGEST = 1 << 26  # bytes per document


def corpus_files(corpus: Path) -> Iterator[Path]:
    """List the files of a corpus, folder by folder, sorted by name.

    Raises:
        RelationNeuronsError: The path does not exist, cannot be read, or has another extension.
    """
    if corpus.is_dir():
        for folder, folders, names in os.walk(corpus, onerror=partial(refuse_file, corpus)):
            folders.sort()
            yield from (Path(folder, name) for name in sorted(names) if name.endswith(SUFFIXES))
    elif not corpus.exists():
        raise refuse(f"Corpus {corpus} does not exist", expected="a file or a folder")
    elif not corpus.name.endswith(SUFFIXES):
        raise refuse(f"Corpus {corpus} has an unknown file extension", expected=f"one of {', '.join(SUFFIXES)}")
    else:
        yield corpus


def documents(path: Path) -> Iterator[str]:
    """Yield the documents of one file of a corpus."""
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
        raise refuse(f"{where}: a document has more than {LARGEST} bytes", do="split it into lines of a .jsonl file")
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
        raise refuse(f"{where}: has no text: {shown(raw)}", expected=expected)
    return raw["text"]


def refuse_file(path: Path, error: Exception) -> NoReturn:
    """Raise an error that says why a file cannot be read."""
    reason = str(getattr(error, "strerror", None) or error).strip()
    raise refuse(
        f"{path}: cannot be read ({reason})",
        do="check that the file exists, is complete, and that you have permission to read it",
    ) from error
