"""Load shipped relations, the LRE dataset, and custom files and folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from relation_neurons.errors import nearest, refuse
from relation_neurons.relations import lre, lre_download
from relation_neurons.relations.lre_download import data_folder
from relation_neurons.relations.relation import Relation, read_relation
from relation_neurons.relations.table_layout import TableLayout, table_layout
from relation_neurons.relations.tables import AS_IS, SUFFIXES, read_table, require_table
from relation_neurons.relations.translations import translated
from relation_neurons.validation import validated


def shipped_names() -> tuple[str, ...]:
    """Names of the relations that are shipped with the package, sorted."""
    return tuple(sorted(path.stem for path in (data_folder() / "relations").glob("*.json")))


@validated
def load_relations(
    *sources: str | Path | Relation,
    templates: Sequence[str] = (),
    columns: Mapping[str, str] | Sequence[str] = (),
) -> tuple[Relation, ...]:
    """Load relations by name, file or folder.

    Args:
        sources: Any number of the following; `"shipped"` if none is given.

            - `"shipped"`: all relations shipped with the package; or the name of one of them.
            - `"lre"`: the 47 relations of the LRE dataset with errors corrected; or one of them, as
              `"lre:word_sentiment"`. Download LRE first with `relation-neurons data fetch lre`.
            - `"paper"`: the paper's 12 relations from LRE with the paper's names, templates and
              numbers of facts. Unlike in `"lre"`, duplicate facts and repeated subjects are kept.
            - A JSON file in the LRE schema, a CSV file (see `relations.tables`), or a folder of
              such files.
            - A `Relation`, such as the result of `relation_from_frame`.
        templates: Texts with one `{}` for the subject, for relations of tables that have no template.
        columns: Names of columns in tables by ours, such as `{"subject": "Element", "object": "Symbol"}`.

    Returns:
        The relations, in the order of `sources`.

    Raises:
        RelationNeuronsError: A name is unknown, a file is unreadable or malformed, LRE has not been
            downloaded, two relations have the same name (sources share some names, such as
            `company_ceo`), or templates or columns are given that no table needs.

    Example:
        >>> [relation.name for relation in load_relations("country_capital", "person_father")]
        ['country_capital', 'person_father']
    """
    layout = table_layout(templates, columns)
    relations = tuple(relation for source in sources or ("shipped",) for relation in _load(source, layout))
    duplicates = [name for name, n in Counter(relation.name for relation in relations).items() if n > 1]
    if duplicates:
        expected = "each name once; relations from different sources may have the same name"
        raise refuse(f"Relation '{duplicates[0]}' was requested twice", expected=expected)
    _require_use(layout, sources, relations)
    return relations


def _require_use(layout: TableLayout, sources: Sequence[str | Path | Relation], relations: Sequence[Relation]) -> None:
    """Refuse templates and columns that no relation needed."""
    require_table(layout, [one for one in sources if isinstance(one, str | Path)])
    if layout.templates and not any(relation.templates == layout.templates for relation in relations):
        expected = "a .csv or .tsv file without the column template among the relations"
        raise refuse("Templates are given, but every relation has its own", expected=expected)


def _load(source: str | Path | Relation, layout: TableLayout = AS_IS) -> tuple[Relation, ...]:
    if isinstance(source, Relation):
        return (source,)
    if source == "lre":
        return _with_labels(lre.load())
    if source == "paper":
        return _with_labels(lre.paper())
    if isinstance(source, str) and source.startswith("lre:"):
        return _with_labels(lre.load(source.removeprefix("lre:")))
    return tuple(relation for path in _paths(source) for relation in _read(path, layout))


def _with_labels(relations: tuple[Relation, ...]) -> tuple[Relation, ...]:
    """LRE relations with the translations that `relation-neurons data translate` has stored."""
    return tuple(translated(relation, lre_download.cache_folder() / "languages") for relation in relations)


def _read(path: Path, layout: TableLayout) -> tuple[Relation, ...]:
    """The relations of a file; shipped relations include the shipped translations."""
    if path.suffix.lower() in SUFFIXES:
        return read_table(path, layout)
    relation = read_relation(path)
    shipped = path.parent == data_folder() / "relations"
    return (translated(relation, data_folder() / "languages") if shipped else relation,)


def _paths(source: str | Path) -> list[Path]:
    shipped = shipped_names()
    if source == "shipped":
        return [data_folder() / "relations" / f"{name}.json" for name in shipped]
    if source in shipped:
        return [data_folder() / "relations" / f"{source}.json"]
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".json", *SUFFIXES))
        if not files:
            raise refuse(f"Folder {path} has no .json, .csv or .tsv file", expected="relation files in the LRE schema")
        return files
    if path.is_file():
        return [path]
    # LRE has too many names to list; suggest only the one that equals the source.
    lre_names = [f"lre:{name}" for name in lre.names() if name == source]
    raise refuse(
        f"'{source}' is neither a shipped relation nor a file or folder",
        expected=nearest(str(source), (*shipped, "shipped", "lre", "paper", *lre_names)),
    )
