"""The files of kept activations: safetensors shards, an index with their SHA-256, and a lock."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from relation_neurons.errors import RelationNeuronsError, refuse
from relation_neurons.storage.files import atomic, file_digest, free_bytes, unreadable

INDEX, LOCK, SHARD = "index.json", ".lock", ".safetensors"


def drop_shards(folder: str | Path) -> None:
    """Remove what `kept_activations` kept in a folder, once it is no longer needed; no other file is touched.

    What another process is reading at the moment stays; it is that process's to drop.
    """
    folder = Path(folder)
    for place in [one for one in folder.glob("*") if re.fullmatch("[0-9a-f]{32}", one.name) and one.is_dir()]:
        lock = filelock.FileLock(place / LOCK)
        with contextlib.suppress(filelock.Timeout):
            with lock.acquire(timeout=0):
                _remove(place, but=())
                with contextlib.suppress(OSError):  # some systems do not remove what is open
                    (place / LOCK).unlink()
            with contextlib.suppress(OSError):
                place.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()


class Shards:
    """The shards of one key, each of some batches that follow each other, in a folder that is locked for this process.

    Attributes:
        batch_size: That of the process that wrote last, if any did.
    """

    def __init__(self, place: Path) -> None:
        """Read the index, and remove what killed processes left unfinished."""
        self._place = place
        self._digests, self.batch_size = _read_index(place / INDEX)
        _remove(place, but=(INDEX, *map(_name, self._digests)))

    def require_room(self, n_missing: int, values: Tensor) -> None:
        """Refuse before hours of reading rather than after them.

        Args:
            n_missing: Rows that are to be kept.
            values: As wide as they are, and of their type.
        """
        needed, free = n_missing * values.shape[1] * values.element_size(), free_bytes(self._place)
        if needed > free:
            raise refuse(
                f"{self._place} is on a disk with {free / 1e9:.1f} GB free",
                expected=f"{needed / 1e9:.1f} GB, to keep activations while they are read",
                do="make room, then give the same command again, which resumes from here, or name another folder",
            )

    def read(self, into: Float[Tensor, "prompt neuron"], batches: Sequence[Sequence[int]]) -> list[int]:
        """Read back what is there; a shard that is not what was written is named.

        Args:
            into: Takes the values.
            batches: The rows of each batch.

        Returns:
            The numbers of the batches that are there.
        """
        there: list[int] = []
        for first in sorted(self._digests):
            path, wrong = self._place / _name(first), "it is gone"
            if path.is_file():
                wrong = "its SHA-256 is not what was written"
                if file_digest(path) == self._digests[first]:
                    wrong, shard = "it holds other values", _load(path)
                    numbers = _numbers(shard.get("rows"), first, batches)
                    values = shard.get("values")
                    if numbers and values is not None and _fits(values, shard["rows"], into):
                        into[shard["rows"]] = values
                        there += numbers
                        continue
            warnings.warn(f"{path} is damaged ({wrong}): its prompts are read again", stacklevel=3)
        return there

    def write(self, first: int, rows: Sequence[int], values: Float[Tensor, "prompt neuron"], batch_size: int) -> None:
        """Write a shard, then the index with its digest; a process may end at any moment.

        Args:
            first: The number of its first batch.
            rows: Which rows it holds, those of whole batches in order.
            values: Their values.
            batch_size: Kept for those who resume.
        """
        path = self._place / _name(first)
        try:
            with atomic(path) as unfinished:
                save_file({"rows": torch.tensor(rows), "values": values}, unfinished)
                found = file_digest(unfinished)
            self._digests[first], self.batch_size = found, batch_size
            index = {"batch_size": batch_size, "shards": {_name(one): self._digests[one] for one in self._digests}}
            with atomic(self._place / INDEX) as unfinished:
                unfinished.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        except (OSError, SafetensorError) as error:
            raise _unwritable(path, error) from error


def _read_index(path: Path) -> tuple[dict[int, str], int | None]:
    """Digests of the shards by their numbers, and the batch size; none from an index that cannot be read."""
    if not path.is_file():
        return {}, None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        digests = {int(name.removesuffix(SHARD)): str(found) for name, found in index["shards"].items()}
        return digests, max(1, int(index["batch_size"]))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        warnings.warn(f"{path} is damaged ({error}): all activations are read again", stacklevel=4)
        return {}, None


def _load(path: Path) -> dict[str, Tensor]:
    """What a shard holds, mapped into memory and not copied."""
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return {}


def _numbers(rows: Tensor | None, first: int, batches: Sequence[Sequence[int]]) -> list[int]:
    """The numbers of the batches whose rows these are; none if they are other rows."""
    left = [] if rows is None else rows.flatten().tolist()
    for number in range(first, len(batches)):
        if not left:
            break
        batch = list(batches[number])
        if left[: len(batch)] != batch:
            return []
        left = left[len(batch) :]
        last = number
    return list(range(first, last + 1)) if rows is not None and len(rows) and not left else []


def _fits(values: Tensor, rows: Tensor, into: Tensor) -> bool:
    return (values.shape, values.dtype) == ((len(rows), into.shape[1]), into.dtype)


def _name(number: int) -> str:
    return f"{number:05}{SHARD}"


def _remove(place: Path, but: Sequence[str]) -> None:
    """Remove shards and unfinished files, but for some; never what this module does not write."""
    own = re.compile(rf"[0-9]+{re.escape(SHARD)}|{re.escape(INDEX)}")
    for path in sorted(
        place.iterdir(), key=lambda path: path.name != INDEX
    ):  # first, since it holds the others' digests
        name = re.sub(r"^\.(.+)\.[^.]+$", r"\1", path.name)  # what an unfinished file would have been called
        if own.fullmatch(name) and path.name not in but:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Keep other processes out of a folder for as long as the block runs; that of a killed process is open again."""
    lock = filelock.FileLock(place / LOCK)
    try:
        _acquire(lock, place)
        yield
    finally:
        lock.release()


def _acquire(lock: filelock.BaseFileLock, place: Path) -> None:
    waiting = False
    while not (lock.is_locked and (place / LOCK).exists()):  # it may be dropped while this process waits for it
        lock.release()
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=1 if waiting else 0)
        except filelock.Timeout:
            if not waiting:
                warnings.warn(f"Another process reads the activations in {place}: waiting for it", stacklevel=6)
            waiting = True
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unwritable(place, error) from error


def _unwritable(path: Path, error: Exception) -> RelationNeuronsError:
    return refuse(
        f"{path} cannot be written ({getattr(error, 'strerror', None) or error})",
        do="make room or name another folder; what is kept already is not read again",
    )
