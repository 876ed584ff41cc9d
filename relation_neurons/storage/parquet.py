"""Reading of untrusted tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from relation_neurons.errors import refuse, shortened

DAMAGED = (
    pa.ArrowException,
    OSError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
"""Exceptions that pandas and pyarrow raise for damaged files."""


def read_parquet(path: Path, do: str) -> pd.DataFrame:
    """Read a table.

    Args:
        path: The file.
        do: What the user should do if it cannot be read, for the error message.

    Raises:
        RelationNeuronsError: The file does not exist or cannot be read.
    """
    try:
        return pd.read_parquet(path)
    except DAMAGED as error:
        raise refuse(f"{path} cannot be read ({shortened(str(error))})", do=do) from error
