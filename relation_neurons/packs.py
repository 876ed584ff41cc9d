"""Relations by name: those that come with the package, and files and folders of your own."""

from __future__ import annotations

from collections import Counter
from importlib import resources
from pathlib import Path

from relation_neurons.errors import nearest, refuse
from relation_neurons.relations import Relation, read_relation


def shipped_names() -> tuple[str, ...]:
    """Names of the relations that come with the package, sorted."""
    return tuple(sorted(path.stem for path in (data_folder() / "relations").glob("*.json")))


def load_relations(*sources: str | Path) -> tuple[Relation, ...]:
    """Load relations by name, file or folder.

    Args:
        sources: Each is `"shipped"` (all that come with the package), the name of a shipped relation, a JSON file in
            the LRE schema, or a folder of such files. None given means `"shipped"`.

    Returns:
        The relations, in the order asked for.

    Raises:
        RelationNeuronsError: An unknown name, an unreadable or malformed file, or the same relation twice.

    Example:
        >>> [relation.name for relation in load_relations("country_capital", "person_father")]
        ['country_capital', 'person_father']
    """
    paths = [path for source in sources or ("shipped",) for path in _paths(source)]
    relations = tuple(read_relation(path) for path in paths)
    twice = [name for name, n in Counter(relation.name for relation in relations).items() if n > 1]
    if twice:
        raise refuse(f"Relation '{twice[0]}' was asked for twice", expected="each relation once")
    return relations


def data_folder() -> Path:
    """What comes with the package: inside it when installed, beside it in a checkout."""
    installed = Path(str(resources.files("relation_neurons"))) / "data"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "data"


def _paths(source: str | Path) -> list[Path]:
    shipped = shipped_names()
    if source == "shipped":
        return [data_folder() / "relations" / f"{name}.json" for name in shipped]
    if source in shipped:
        return [data_folder() / "relations" / f"{source}.json"]
    path = Path(source)
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise refuse(f"Folder {path} holds no .json file", expected="relation files in the LRE schema")
        return files
    if path.is_file():
        return [path]
    raise refuse(
        f"'{source}' is neither a shipped relation nor a file or folder",
        expected=nearest(str(source), (*shipped, "shipped")),
    )
