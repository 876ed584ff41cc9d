"""Decode JSON files, with errors that name what they are instead, and locate values in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from relation_neurons.errors import refuse

DEPTH = 3  # values are located down to this depth: a field of a sample, or an alias of an object
JSON_LINES = "is JSON Lines, with one object on each line"
NOT_JSON_LINES = "one JSON object in the LRE schema, or a CSV file"
CONVERT = (
    "save it as CSV with the columns subject, object and template: pandas.read_json(path, lines=True), "
    "then rename its columns and use to_csv"
)
_DECODER = json.JSONDecoder()

JsonPath = tuple[str | int, ...]
"""The keys and list indices that lead to a value in a JSON file."""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RelationNeuronsError: The file cannot be read or is not JSON.
    """
    text = ""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return json.loads(text)
    except OSError as error:
        raise refuse(f"{path}: cannot be read ({error.strerror})", do="check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        if is_json_lines(text):
            raise refuse(f"{path}: {JSON_LINES}", expected=NOT_JSON_LINES, do=CONVERT) from error
        raise refuse(f"{path}: is not JSON in UTF-8 ({error})", expected="a relation file in the LRE schema") from error


def is_json_lines(text: str) -> bool:
    """Whether a text has several lines and each is a JSON object."""
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        return len(lines) > 1 and all(isinstance(json.loads(line), dict) for line in lines)
    except (ValueError, RecursionError):
        return False


def offsets_of_values(text: str) -> list[tuple[JsonPath, int]]:
    """The path and offset of every value in a JSON text, down to `DEPTH`."""
    offsets: list[tuple[JsonPath, int]] = []
    _collect_offsets(text, _skip_space(text, 0), (), offsets)
    return offsets


def _collect_offsets(text: str, at: int, path: JsonPath, offsets: list[tuple[JsonPath, int]]) -> int:
    """Append the offsets of the JSON value at `at` and all nested values; return where it ends."""
    offsets.append((path, at))
    if text[at] not in "[{" or len(path) == DEPTH:
        return _DECODER.raw_decode(text, at)[1]
    is_list, number = text[at] == "[", 0
    at = _skip_space(text, at + 1)
    while text[at] not in "]}":
        step: str | int = number
        if not is_list:
            step, at = _DECODER.raw_decode(text, at)
            at = _skip_space(text, _skip_space(text, at) + 1)  # the colon
        at = _skip_space(text, _collect_offsets(text, at, (*path, step), offsets))
        at = _skip_space(text, at + 1) if text[at] == "," else at
        number += 1
    return at + 1


def _skip_space(text: str, at: int) -> int:
    while text[at] in " \t\n\r":
        at += 1
    return at
