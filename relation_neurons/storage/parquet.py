"""Tables from parquet files that anyone may have altered."""

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
"""What pandas and pyarrow raise of files that are not what they wrote."""


def read_parquet(path: Path, do: str) -> pd.DataFrame:
    """A table.

    Args:
        path: Of the file.
        do: What the user may do where it cannot be read.

    Raises:
        RelationNeuronsError: There is no such file, or it cannot be read.
    """
    try:
        return pd.read_parquet(path)
    except DAMAGED as error:
        raise refuse(f"{path} cannot be read ({shortened(str(error))})", do=do) from error
