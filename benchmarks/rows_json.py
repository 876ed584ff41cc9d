"""Results as JSON that can be read and compared line by line."""

import json
from collections.abc import Mapping


def rows_json(result: Mapping[str, object]) -> str:
    """JSON with a line for each row of a table."""
    lines = []
    for key, value in result.items():
        rows = isinstance(value, list) and value and isinstance(value[0], dict)
        text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]" if rows else json.dumps(value)
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
