"""Where a model comes from: a name, file or folder becomes a Hugging Face model with its tokenizer."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants as hub_constants
from huggingface_hub import errors as hub
from huggingface_hub.utils import logging as hub_logging

from relation_neurons.errors import RelationNeuronsError, refuse
from relation_neurons.models.embedded import EMBEDDED, embedded_file
from relation_neurons.models.gguf_file import read_once, require_all_of_gguf
from relation_neurons.models.placement import (
    DeviceMap,
    Quantization,
    loading_arguments,
    require_tied_together,
    spare_folder,
)
from relation_neurons.models.unused_weights import require_all_used, require_no_adapter
from relation_neurons.storage.files import file_digest

NETWORK_ERRORS = ("ConnectError", "ConnectionError", "ConnectTimeout", "Timeout", "ProxyError", "MaxRetryError")
"""Names of what the hub's client raises without a network; it has changed its HTTP library before."""


@dataclass(frozen=True)
class Source:
    """A place that Transformers can load from.

    Attributes:
        name: The model's name as the user gave it.
        location: A folder or a Hugging Face id.
        gguf: File name inside the folder, for a GGUF model.
        digest: What pins the weights: a SHA-256 for a file, the commit for a hub model, none for a plain folder.
    """

    name: str
    location: str
    gguf: str | None = None
    digest: str | None = None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments that Transformers' loaders take beside the location."""
        return {"gguf_file": self.gguf} if self.gguf else {}


def resolve(source: str | Path) -> Source:
    """Find out what a model's name means.

    Args:
        source: A key of `EMBEDDED`, a `.gguf` file, a folder with a `config.json`, or a Hugging Face id.

    Raises:
        RelationNeuronsError: An embedded model that is not on this machine or was changed, a folder without a
            configuration, a file that is no GGUF.
    """
    name = str(source)
    if name in EMBEDDED:
        path = embedded_file(name)
        return Source(name, str(path.parent), path.name, EMBEDDED[name].sha256)
    path = Path(source).expanduser()
    if path.is_file():
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise refuse(f"{path} is not a GGUF file", expected="a .gguf file or a folder with config.json")
        return Source(path.stem, str(path.parent), path.name, file_digest(path))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise refuse(
                f"Folder {path} has no config.json",
                expected="a folder written by save_pretrained (config.json, weights, tokenizer files)",
                do="point to that folder, or to a .gguf file itself",
            )
        return Source(path.name, str(path))
    if path.suffix == ".gguf" or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise refuse(f"There is no file or folder {path}", do="check the path")
    return Source(name, name)


def load_pretrained(
    source: Source,
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    device_map: DeviceMap | None = None,
    quantize: Quantization | None = None,
) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    """Load a model with Transformers; `HF_TOKEN` and `HF_HUB_OFFLINE` hold as they do there.

    Args:
        source: From `resolve`.
        device: Where the weights go, unless a map says it.
        dtype: Type of the weights; none keeps the checkpoint's own.
        device_map: As for `load_model`.
        quantize: As for `load_model`.

    Raises:
        RelationNeuronsError: Gated weights, an unknown name, no network, or files that lack weights or hold more.
    """
    arguments = source.arguments()
    placed = loading_arguments(device, dtype, device_map, quantize)
    if source.gguf and quantize:
        raise refuse(f"{source.name} is a GGUF file, whose weights are unpacked", do="leave out quantize")
    quantization = {"quantization_config": transformers.GgufConfig(dequantize=True)} if source.gguf else {}
    with clear_errors(source), _quiet(), read_once(source.gguf), spare_folder(placed) as (placing, leave_folder):
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.location, trust_remote_code=False, **arguments)
        if not source.gguf:
            require_no_adapter(source.name, source.location)
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            source.location,
            dtype=dtype or "auto",
            trust_remote_code=False,
            attn_implementation="eager",  # what TransformerLens hooks; the other way leaves out ALiBi in Falcon
            use_safetensors=None if source.gguf else True,  # others are pickles
            output_loading_info=True,
            **arguments,
            **quantization,
            **placing,
        )
        leave_folder(model)
        require_tied_together(model, source.name)
        require_all_used(source.name, loading["unexpected_keys"])
        if source.gguf:
            require_all_of_gguf(source.name, os.path.join(source.location, source.gguf), model)
    # Transformers fills what is missing with random numbers, unless it is tied to what is there.
    missing = sorted({*loading["missing_keys"]} - {*model.all_tied_weights_keys})
    if missing:
        raise refuse(
            f"{source.name}: {len(missing)} weights of the model are in none of its files, such as {missing[0]}",
            expected="all weights",
            do="copy or download the model again",
        )
    if not placed:
        model = model.to(device)
    return model.eval().requires_grad_(False), tokenizer


@contextlib.contextmanager
def clear_errors(source: Source) -> Iterator[None]:
    """Turn what loaders raise into one sentence that says what to do."""
    try:
        yield
    except RelationNeuronsError:
        raise
    except Exception as error:  # the loaders raise whatever a damaged file makes them raise
        raise _explain(source, error) from error


def _explain(source: Source, error: BaseException) -> RelationNeuronsError:
    chain = list(_chain(error))
    name = f"'{source.name}'"

    def any_of(*types: type[BaseException]) -> bool:
        return any(isinstance(link, types) for link in chain)

    closed = _closed(source)
    if closed is not None and any_of(OSError):  # which loaders say in many ways, or take for a file that is not there
        return refuse(f"{closed} cannot be read (Permission denied)", do="check its permissions")
    if any_of(hub.GatedRepoError):
        return refuse(
            f"The weights of {name} are gated and this machine has no token that may read them",
            do=f"accept the licence on the model's page, then set HF_TOKEN to a token of that account "
            f"(or run `hf auth login`) and load {name} again",
        )
    unreachable = any_of(hub.LocalEntryNotFoundError) or any(type(link).__name__ in NETWORK_ERRORS for link in chain)
    if any_of(hub.OfflineModeIsEnabled) or (unreachable and hub_constants.HF_HUB_OFFLINE):
        return refuse(
            f"HF_HUB_OFFLINE is set and {name} is not in the local cache",
            do="unset HF_HUB_OFFLINE, or give a local folder or .gguf file",
        )
    if any_of(hub.RepositoryNotFoundError, hub.HFValidationError):
        return refuse(
            f"There is no model {name} on the hub that this machine may see",
            expected=f"{', '.join(EMBEDDED)}, a Hugging Face id such as meta-llama/Llama-2-7b-hf, a folder or a .gguf",
            do="check the spelling; for a private model set HF_TOKEN",
        )
    if unreachable:
        return refuse(
            f"{name} is not on this machine and the model hub cannot be reached",
            do="connect to the network, or use smollm2-135m, a local folder or a .gguf file",
        )
    return refuse(f"{name} cannot be loaded from {source.location} ({type(error).__name__}: {_first_line(error)})")


def _closed(source: Source) -> Path | None:
    """The folder of a model, or the first of its files, that may not be read."""
    folder = Path(source.location)
    paths = [folder, *sorted(filter(Path.is_file, folder.glob("*")))] if folder.is_dir() and not source.gguf else []
    return next((path for path in paths if not os.access(path, os.R_OK)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the loaders' progress bars and advice in this block."""
    level, hub_level = transformers.utils.logging.get_verbosity(), hub_logging.get_verbosity()
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    hub_logging.set_verbosity(hub_logging.CRITICAL)
    try:
        # The GGUF reader draws its bar whatever the setting.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        transformers.utils.logging.set_verbosity(level)
        hub_logging.set_verbosity(hub_level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
