"""Relations from data frames."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from relation_neurons.errors import refuse
from relation_neurons.relations.diagnostics import TERM, shown
from relation_neurons.relations.relation import Relation
from relation_neurons.relations.tables import Row, build_relation, cell_errors
from relation_neurons.relations.translations import DEFAULT
from relation_neurons.validation import validated


@validated
def relation_from_frame(
    frame: pd.DataFrame,
    *,
    name: str,
    templates: Sequence[str],
    templates_zs: Sequence[str] = (),
    language: str = DEFAULT,
) -> Relation:
    """Create a relation from a data frame with columns `subject`, `object` and, optionally, `aliases`.

    Args:
        frame: A row per fact. A cell of aliases is a text as in a CSV file; missing values mean none.
        name: The relation's name, which must be a valid file name.
        templates: Texts with one `{}` for the subject.
        templates_zs: The second template set.
        language: Language code of templates and names.

    Raises:
        RelationNeuronsError: A column is missing or a value is invalid; the message names the row
            by its index label.

    Example:
        >>> frame = pd.DataFrame({"subject": ["France", "India"], "object": ["Paris", "New Delhi"]})
        >>> relation_from_frame(frame, name="capital", templates=["The capital of {} is"]).objects
        ('New Delhi', 'Paris')
    """
    where, labels = f"Frame of relation {shown(name)}", list(frame.columns)
    columns = [column for column in ("subject", "object", "aliases") if column in labels]
    if columns[:2] != ["subject", "object"] or any(labels.count(column) > 1 for column in columns):
        raise refuse(f"{where} has the columns {shown(labels)}", expected="'subject' and 'object', each once")
    for column in columns:
        for label, value in frame[column].dropna().items():
            if not isinstance(value, str):
                raise refuse(f"{where}, row {shown(label)}, column '{column}': is {shown(value)}", expected=TERM)
    present = frame[columns].astype(object).fillna("").itertuples(index=False, name=None)
    rows = [Row(number, dict(zip(columns, cells, strict=True))) for number, cells in enumerate(present)]
    for number, field, found, expected in cell_errors(rows):
        place = f"row {shown(frame.index[number or 0])}, column '{field}'"
        raise refuse(f"{where}, {place}: {found}", expected=expected)
    return build_relation(where, name, rows, templates, templates_zs, language)
