"""Checks of the machine: packages, device, memory, disk, token and network, the shipped relations."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import huggingface_hub
import psutil
import requests
import torch
from huggingface_hub import constants as hub_constants
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from relation_neurons.doctor.checks import Check, gib, guarded, scarce
from relation_neurons.errors import refuse
from relation_neurons.figures.export import NEEDED
from relation_neurons.relations import lre, lre_download
from relation_neurons.relations.lint import check as problems_of
from relation_neurons.relations.loading import data_folder, load_relations
from relation_neurons.storage.files import existing, free_bytes
from relation_neurons.storage.fingerprint import versions

DISTRIBUTION = "relation-neurons"
TESTED = ("==3.9.*", "==4.*")
"""Lines of TransformerLens that the tests run with."""
HUB_SECONDS = 3.0


def machine_checks(device: str | None = None) -> Iterator[Check]:
    """All that can be said without a model."""
    again = "install the package again: pip install -e . (or make test) in its folder"
    yield guarded("Python", again, python_check)
    yield guarded("Packages", again, packages_check)
    yield guarded("TransformerLens", "pip install 'transformer-lens==3.9.0'", transformer_lens_check)
    yield guarded("Notebooks", again, extra_check, "notebooks")
    yield guarded("Images", again, extra_check, "images")
    yield guarded("Device", "choose another --device", device_check, device)
    yield guarded("Memory", "pip install --force-reinstall psutil", memory_check)
    for name, folder, do in _folders():
        yield guarded(name, do, folder_check, folder, do)
    yield guarded("Token", "run `hf auth login` anew", token_check)
    yield guarded("Model hub", "check the network", hub_check)
    yield guarded("Relations", again, relations_check)


def python_check(name: str) -> Check:
    """The interpreter against what the package requires."""
    needed = metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, required {needed}"
    if SpecifierSet(needed).contains(platform.python_version(), prereleases=True):
        return Check(name, "ok", found)
    return Check(name, "trouble", found, f"make an environment with Python {needed}")


def packages_check(name: str) -> Check:
    """Every requirement in the package's metadata against what is installed."""
    requirements = _requirements()
    unmet = _unmet(requirements)
    if unmet:
        return Check(name, "trouble", "; ".join(unmet.values()), f"pip install {_quoted(unmet)}")
    shown = ", ".join(f"{package} {version}" for package, version in versions().items() if package != "python")
    return Check(name, "ok", f"all {len(requirements)} requirements are met: {shown}")


def transformer_lens_check(name: str) -> Check:
    """Whether the tests run with this TransformerLens."""
    version = metadata.version("transformer-lens")
    kind = "HookedTransformer" if version.startswith("3.") else "TransformerBridge"
    if any(SpecifierSet(line).contains(version, prereleases=True) for line in TESTED):
        return Check(name, "ok", f"{version}, tested; a model is a {kind}")
    return Check(name, "warning", f"{version} is not tested", "pip install 'transformer-lens==3.9.0'")


def extra_check(name: str, extra: str) -> Check:
    """An optional part; images also need a browser."""
    if extra not in (metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ()):
        return Check(name, "note", f"the installed package knows no part '{extra}'", "pip install -e . anew")
    if unmet := _unmet(_requirements(extra)):
        return Check(name, "note", f"optional, {'; '.join(unmet.values())}", f"if wanted: pip install {_quoted(unmet)}")
    if extra != "images":
        return Check(name, "ok", "optional packages are there")
    from choreographer.browsers.chromium import Chromium

    browser = Chromium.find_browser(skip_local=False)
    if not browser:
        return Check(name, "note", "optional, Kaleido is there but no browser", f"if wanted: {NEEDED}")
    return Check(name, "ok", f"Kaleido, with the browser {browser}")


def device_check(name: str, device: str | None) -> Check:
    """Where a model would run."""
    driver, here = _driver(), torch.cuda.is_available()
    if (device or "cpu").startswith("cuda") and not here:
        found = f"{device} was asked for, but PyTorch {torch.__version__} sees no GPU (driver: {driver or 'none'})"
        return Check(name, "trouble", found, "use --device cpu, or install the CUDA build of PyTorch")
    if here and (device or "cuda").startswith("cuda"):
        place = torch.device(device or "cuda")
        free, total = torch.cuda.mem_get_info(place)
        found = (
            f"{torch.cuda.get_device_name(place)}, {gib(free)} of {gib(total)} free, driver {driver or 'unknown'}, "
            f"PyTorch for CUDA {torch.version.cuda}"
        )
        return scarce(name, free, found, "end other programs on the GPU (nvidia-smi lists them), or --device cpu")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    threads = torch.get_num_threads()
    found = f"{device or 'cpu'}: {cores} cores, threads of PyTorch: {threads}"
    if driver and device is None:
        found += f"; NVIDIA's driver {driver} is there, but PyTorch {torch.__version__} sees no GPU"
        return Check(name, "warning", found, "install the CUDA build of PyTorch, or say --device cpu")
    if threads > cores:
        return Check(name, "warning", found, f"set OMP_NUM_THREADS={cores}")
    others = psutil.getloadavg()[0]
    if threads > 1 and others > cores / 2 and os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        found += f"; programs hold {others:.1f} of them, and threads that wait for a core spin, which slows all"
        return Check(name, "note", found, "set OMP_WAIT_POLICY=PASSIVE, or OMP_NUM_THREADS=1")
    return Check(name, "ok", found)


def memory_check(name: str) -> Check:
    """Free memory."""
    memory = psutil.virtual_memory()
    found = f"{gib(memory.available)} of {gib(memory.total)} free"
    return scarce(name, memory.available, found, "end other programs, or use a smaller model")


def folder_check(name: str, folder: Path, do: str) -> Check:
    """Whether a folder, or the nearest one above that exists, can be written, and what is free there."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(b"written")
            file.flush()
    except OSError as error:
        return Check(name, "trouble", f"{folder} cannot be written ({error.strerror})", do)
    free = free_bytes(folder)
    return scarce(name, free, f"{folder} can be written, {gib(free)} free", do)


def token_check(name: str) -> Check:
    """Whether a token is set; it is never shown."""
    if huggingface_hub.get_token():
        return Check(name, "ok", "a Hugging Face token is set")
    return Check(name, "note", "no Hugging Face token", "for gated models, such as Llama-2, set HF_TOKEN")


def hub_check(name: str) -> Check:
    """Whether the model hub answers, in one request without the token; none when it is not to be asked."""
    if hub_constants.HF_HUB_OFFLINE:
        return Check(name, "ok", "HF_HUB_OFFLINE is set: not asked; models come from the cache only")
    answer: list[str] = []

    def ask() -> None:
        try:
            status = requests.head(hub_constants.ENDPOINT, timeout=HUB_SECONDS, allow_redirects=False).status_code
            answer.append("" if status < 500 else f"answers with status {status}")
        except Exception as error:  # a thread's traceback would be printed
            answer.append(f"does not answer ({type(error).__name__})")

    # The limit of a request holds for each address of the host anew, and not for looking up its name.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HUB_SECONDS)
    wrong = answer[0] if answer else f"does not answer within {HUB_SECONDS:.0f} s"
    if not wrong:
        return Check(name, "ok", f"{hub_constants.ENDPOINT} answers")
    do = "to work offline set HF_HUB_OFFLINE=1 and use smollm2-135m, cached models, folders or .gguf files"
    return Check(name, "warning", f"{hub_constants.ENDPOINT} {wrong}", do)


def relations_check(name: str) -> Check:
    """Whether every shipped relation loads, under its own name, fit for the default split, as it was installed."""
    folder = data_folder() / "relations"
    loaded = {relation.name: relation for relation in load_relations("shipped")}
    files = {path.stem: path for path in folder.glob("*.json")}
    missing = sorted({*files, *lre.PAPER} ^ loaded.keys())
    if missing:
        raise refuse(f"{folder}: files and names of relations differ ({', '.join(missing[:3])})")
    if faults := [one for path in files.values() for one in problems_of(path) if one.level == "error"]:
        raise refuse(f"{faults[0].file}: {faults[0].field}: {faults[0].found}", expected=faults[0].expected)
    try:
        installed = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        installed = []
    recorded = {Path(str(file.locate())): file.hash.value for file in installed if file.hash is not None}
    compared = [path for path in files.values() if path in recorded]
    if changed := [path.name for path in compared if _recorded_hash(path) != recorded[path]]:
        raise refuse(f"{folder / changed[0]} is not the file that was installed")
    how = f"{len(compared)} files are as installed" if compared else "read from a checkout, without checksums"
    return Check(name, "ok", f"{len(loaded)} load, {sum(len(one.facts) for one in loaded.values()):,} facts; {how}")


def _requirements(extra: str = "") -> list[Requirement]:
    """The package's requirements here; with an extra, only those that it adds."""
    found = []
    for one in map(Requirement, metadata.requires(DISTRIBUTION) or ()):
        always, here = (one.marker is None or one.marker.evaluate({"extra": which}) for which in ("", extra))
        if here and (not extra or not always):
            found.append(one)
    return found


def _unmet(requirements: Sequence[Requirement]) -> dict[str, str]:
    """Requirements that are not met, each with what is wrong."""
    unmet = {}
    for one in requirements:
        wanted = f"{one.name}{one.specifier}"
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            unmet[wanted] = f"{one.name} is not installed (required {one.specifier})"
            continue
        if not one.specifier.contains(version, prereleases=True):
            unmet[wanted] = f"{one.name} is {version} (required {one.specifier})"
    return unmet


def _quoted(requirements: Mapping[str, str]) -> str:
    return " ".join(f"'{one}'" for one in requirements)


def _driver() -> str:
    """Version of NVIDIA's driver, empty if there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout.split() or [""])[0]


def _folders() -> Iterator[tuple[str, Path, str]]:
    elsewhere = "set {} to a folder with free space that you may write"
    yield "Model cache", Path(hub_constants.HF_HUB_CACHE), elsewhere.format("HF_HOME")
    yield "Data cache", lre_download.cache_folder().parent.parent, elsewhere.format(lre_download.ENVIRONMENT)
    yield "Working folder", Path.cwd(), "change to a folder with free space that you may write, or give --out"


def _recorded_hash(path: Path) -> str:
    """SHA-256 in the form in which an installation records it."""
    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
