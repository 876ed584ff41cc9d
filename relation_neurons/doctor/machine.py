"""Checks of the machine: packages, device, memory, disk and shipped relations."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import psutil
import torch
from huggingface_hub import constants as hub_constants
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from relation_neurons.doctor.checks import Check, free_space_check, gib, guarded
from relation_neurons.doctor.network import hub_check, token_check
from relation_neurons.errors import refuse
from relation_neurons.figures.export import NEEDED
from relation_neurons.relations import lre, lre_download
from relation_neurons.relations.lint import check as problems_of
from relation_neurons.relations.loading import data_folder, load_relations
from relation_neurons.storage.files import existing, free_bytes
from relation_neurons.storage.fingerprint import versions

DISTRIBUTION = "relation-neurons"
TESTED = ("==3.9.*", "==4.*")
"""Versions of TransformerLens that the tests cover."""


def machine_checks(device: str | None = None) -> Iterator[Check]:
    """All checks that need no model."""
    reinstall = "reinstall the package: pip install -e . (or make test) in its folder"
    yield guarded("Python", reinstall, python_check)
    yield guarded("Packages", reinstall, packages_check)
    yield guarded("TransformerLens", "pip install 'transformer-lens==3.9.0'", transformer_lens_check)
    yield guarded("Notebooks", reinstall, extra_check, "notebooks")
    yield guarded("Images", reinstall, extra_check, "images")
    yield guarded("Device", "choose another --device", device_check, device)
    yield guarded("Memory", "pip install --force-reinstall psutil", memory_check)
    for name, folder, do in _folders():
        yield guarded(name, do, folder_check, folder, do)
    yield guarded("Token", "run `hf auth login` again", token_check)
    yield guarded("Model hub", "check the network", hub_check)
    yield guarded("Relations", reinstall, relations_check)


def python_check(name: str) -> Check:
    """Compare the interpreter's version with the required one."""
    needed = metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    result = f"{platform.python_version()} on {platform.system()} {platform.machine()}, required {needed}"
    if SpecifierSet(needed).contains(platform.python_version(), prereleases=True):
        return Check(name, "ok", result)
    return Check(name, "trouble", result, f"create an environment with Python {needed}")


def packages_check(name: str) -> Check:
    """Compare the package's requirements with the installed versions."""
    requirements = _requirements()
    unmet = _unmet(requirements)
    if unmet:
        return Check(name, "trouble", "; ".join(unmet.values()), f"pip install {_quoted(unmet)}")
    listing = ", ".join(f"{package} {version}" for package, version in versions().items() if package != "python")
    return Check(name, "ok", f"all {len(requirements)} requirements are met: {listing}")


def transformer_lens_check(name: str) -> Check:
    """Whether this version of TransformerLens is tested."""
    version = metadata.version("transformer-lens")
    kind = "HookedTransformer" if version.startswith("3.") else "TransformerBridge"
    if any(SpecifierSet(line).contains(version, prereleases=True) for line in TESTED):
        return Check(name, "ok", f"{version}, tested; a model is a {kind}")
    return Check(name, "warning", f"{version} is not tested", "pip install 'transformer-lens==3.9.0'")


def extra_check(name: str, extra: str) -> Check:
    """Whether an optional extra of the package is installed; images also need a browser."""
    if extra not in (metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ()):
        return Check(name, "note", f"the installed package has no extra '{extra}'", "run pip install -e . again")
    if unmet := _unmet(_requirements(extra)):
        return Check(name, "note", f"optional, {'; '.join(unmet.values())}", f"to use it: pip install {_quoted(unmet)}")
    if extra != "images":
        return Check(name, "ok", "optional packages are installed")
    from choreographer.browsers.chromium import Chromium

    browser = Chromium.find_browser(skip_local=False)
    if not browser:
        return Check(name, "note", "optional, Kaleido is installed but no browser was found", f"to use it: {NEEDED}")
    return Check(name, "ok", f"Kaleido is installed, with the browser {browser}")


def device_check(name: str, device: str | None) -> Check:
    """The device that a model would run on."""
    driver, has_gpu = _driver(), torch.cuda.is_available()
    if not (device or "cuda").startswith("cuda"):
        return _cpu_check(name, device)
    if has_gpu:
        return _gpu_check(name, device or "cuda", driver)
    if device is not None:
        result = f"{device} was requested, but PyTorch {torch.__version__} finds no GPU (driver: {driver or 'none'})"
        return Check(name, "trouble", result, "use --device cpu, or install the CUDA build of PyTorch")
    if driver:
        result = f"NVIDIA's driver {driver} is installed, but PyTorch {torch.__version__} finds no GPU; using the CPU"
        return Check(name, "warning", result, "install the CUDA build of PyTorch, or use --device cpu")
    return _cpu_check(name, device)


def _gpu_check(name: str, device: str, driver: str) -> Check:
    free, total = torch.cuda.mem_get_info(torch.device(device))
    result = (
        f"{torch.cuda.get_device_name(torch.device(device))}, {gib(free)} of {gib(total)} free, driver "
        f"{driver or 'unknown'}, PyTorch for CUDA {torch.version.cuda}"
    )
    return free_space_check(name, free, result, "end other programs on the GPU (see nvidia-smi), or use --device cpu")


def _cpu_check(name: str, device: str | None) -> Check:
    """Whether PyTorch uses more threads than cores, or shares busy cores with other programs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    threads = torch.get_num_threads()
    result = f"{device or 'cpu'}: {cores} cores, {threads} PyTorch threads"
    if threads > cores:
        return Check(name, "warning", result, f"set OMP_NUM_THREADS={cores}")
    load = psutil.getloadavg()[0]
    if threads > 1 and load > cores / 2 and os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        result += f"; the load is {load:.1f}, and threads that wait actively for a busy core slow everything down"
        return Check(name, "note", result, "set OMP_WAIT_POLICY=PASSIVE, or OMP_NUM_THREADS=1")
    return Check(name, "ok", result)


def memory_check(name: str) -> Check:
    """Whether enough memory is free."""
    memory = psutil.virtual_memory()
    result = f"{gib(memory.available)} of {gib(memory.total)} free"
    return free_space_check(name, memory.available, result, "end other programs, or use a smaller model")


def folder_check(name: str, folder: Path, do: str) -> Check:
    """Whether a folder, or its nearest existing parent, is writable and has free space."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(b"written")
            file.flush()
    except OSError as error:
        return Check(name, "trouble", f"{folder} is not writable ({error.strerror})", do)
    free = free_bytes(folder)
    return free_space_check(name, free, f"{folder} is writable, {gib(free)} free", do)


def relations_check(name: str) -> Check:
    """Whether all shipped relations load under their own names, have no lint errors and are unaltered."""
    folder = data_folder() / "relations"
    loaded = {relation.name: relation for relation in load_relations("shipped")}
    files = {path.stem: path for path in folder.glob("*.json")}
    mismatched = sorted({*files, *lre.PAPER} ^ loaded.keys())
    if mismatched:
        raise refuse(f"{folder}: the names of files and of relations differ ({', '.join(mismatched[:3])})")
    errors = [problem for path in files.values() for problem in problems_of(path) if problem.level == "error"]
    if errors:
        raise refuse(f"{errors[0].file}: {errors[0].field}: {errors[0].found}", expected=errors[0].expected)
    integrity = _check_hashes(files.values())
    n_facts = sum(len(relation.facts) for relation in loaded.values())
    return Check(name, "ok", f"{len(loaded)} relations with {n_facts:,} facts load; {integrity}")


def _check_hashes(paths: Iterable[Path]) -> str:
    """Compare files with the hashes recorded at installation; returns the result in words."""
    try:
        installed = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        installed = []
    recorded = {Path(str(file.locate())): file.hash.value for file in installed if file.hash is not None}
    compared = [path for path in paths if path in recorded]
    for path in compared:
        if _recorded_hash(path) != recorded[path]:
            raise refuse(f"{path} was altered since its installation")
    if compared:
        return f"{len(compared)} files are unaltered"
    return "they are read from a source checkout, which has no checksums"


def _requirements(extra: str = "") -> list[Requirement]:
    """The package's requirements on this platform; for an extra, only those that it adds."""
    selected = []
    for requirement in map(Requirement, metadata.requires(DISTRIBUTION) or ()):
        marker = requirement.marker
        by_default, with_extra = (marker is None or marker.evaluate({"extra": name}) for name in ("", extra))
        if with_extra and (not extra or not by_default):
            selected.append(requirement)
    return selected


def _unmet(requirements: Sequence[Requirement]) -> dict[str, str]:
    """Requirements that are not met, each with its problem in words."""
    unmet = {}
    for requirement in requirements:
        specification = f"{requirement.name}{requirement.specifier}"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            unmet[specification] = f"{requirement.name} is not installed (required {requirement.specifier})"
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            unmet[specification] = f"{requirement.name} is {version} (required {requirement.specifier})"
    return unmet


def _quoted(requirements: Mapping[str, str]) -> str:
    return " ".join(f"'{requirement}'" for requirement in requirements)


def _driver() -> str:
    """Version of NVIDIA's driver; empty if none is installed."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (process.stdout.split() or [""])[0]


def _folders() -> Iterator[tuple[str, Path, str]]:
    """Name, path and advice of each folder that must be writable."""
    elsewhere = "set {} to a writable folder with free space"
    yield "Model cache", Path(hub_constants.HF_HUB_CACHE), elsewhere.format("HF_HOME")
    yield "Data cache", lre_download.cache_folder().parent.parent, elsewhere.format(lre_download.ENVIRONMENT)
    yield "Working folder", Path.cwd(), "change to a writable folder with free space, or use --out"


def _recorded_hash(path: Path) -> str:
    """SHA-256 of a file, encoded as in the records of an installation."""
    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
