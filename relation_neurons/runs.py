"""Run folders: what determines a run, its tables, and going on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from relation_neurons.errors import refuse
from relation_neurons.relations import Relation

PACKAGES = ("relation-neurons", "transformer-lens", "transformers", "torch", "numpy", "pandas", "scipy", "plotly")


class RunFolder:
    """A folder that belongs to one run.

    Attributes:
        path: The folder.
        key: All that the tables depend on; a folder is only continued by the run that began it.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        """Open or make the folder.

        Raises:
            RelationNeuronsError: The folder belongs to another run, holds something else, or cannot be written.
        """
        self.path, self.key = Path(path), json.loads(json.dumps(key))
        manifest = self.path / "run.json"
        if manifest.is_file():
            self._same_run(manifest)
            return
        # A hidden file may be the manifest of a process that opens the same folder at this moment.
        if self.path.exists() and (not self.path.is_dir() or any(self.path.glob("[!.]*"))):
            raise refuse(f"{self.path} exists and is no run folder", do="choose another --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_text("run.json", json.dumps(self.key, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise refuse(f"{self.path} cannot be written ({error.strerror})", do="choose another --out") from error

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The table of that name: read if this run wrote it before, else made and written as parquet."""
        path = self.path / f"{name}.parquet"
        if not path.is_file():
            self.write_table(name, make())
        return pd.read_parquet(path)

    def tables(self, pattern: str) -> list[pd.DataFrame]:
        """All tables that this run wrote under names like the pattern, such as `answers/*`, in the order of names."""
        return [pd.read_parquet(path) for path in sorted(self.path.glob(f"{pattern}.parquet"))]

    def has(self, *names: str) -> bool:
        """Whether this run has already written all of these tables."""
        return all((self.path / f"{name}.parquet").is_file() for name in names)

    def write_table(self, name: str, table: pd.DataFrame) -> Path:
        """Write a table as parquet, in place of an older one."""
        path = self.path / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with _atomic(path) as unfinished:
            table.to_parquet(unfinished, index=False)
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Write a file whole or not at all."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _atomic(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
        return path

    def drop_parts(self) -> None:
        """Remove the partial tables once the whole one is written."""
        parts = self.path / "parts"
        for part in parts.glob("*.parquet"):
            part.unlink()
        if parts.is_dir():
            parts.rmdir()

    def _same_run(self, manifest: Path) -> None:
        try:
            before = json.loads(manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise refuse(f"{manifest} cannot be read ({error})", do="choose another --out") from error
        differing = sorted(name for name in {*before, *self.key} if before.get(name) != self.key.get(name))
        if differing:
            shown = "; ".join(f"{name} was {before.get(name)!r}, now {self.key.get(name)!r}" for name in differing[:3])
            raise refuse(
                f"{self.path} holds another run ({shown})",
                do="choose another --out, or remove the folder to start anew",
            )


def study_key(config: Any, relations: Iterable[Relation], model: Any) -> dict[str, Any]:
    """All that tables depend on.

    Args:
        config: A frozen configuration.
        relations: The relations it names.
        model: The model it names, from `load_model`.
    """
    return {
        "config": dataclasses.asdict(config),
        "relations": {relation.name: digest(relation)[:16] for relation in relations},
        "model": {
            "name": model.cfg.model_name,
            "weights": model.cfg.weights_digest,
            "dtype": str(model.cfg.dtype).removeprefix("torch."),
            "device": str(model.cfg.device),
        },
        "code": code_digest()[:16],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def code_digest() -> str:
    """SHA-256 of this package's source, so that tables of other code are never continued."""
    folder = Path(__file__).parent
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".html"))
    return digest(*((path.relative_to(folder).as_posix(), path.read_bytes()) for path in files))


def digest(*parts: object) -> str:
    """SHA-256 of the parts' representations, to tell contents apart."""
    return hashlib.sha256("\x1f".join(map(repr, parts)).encode()).hexdigest()


@contextlib.contextmanager
def _atomic(path: Path) -> Iterator[Path]:
    """A place to write beside `path` that takes its name when the block ends well, and vanishes when it does not."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.chmod(0o644)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
