"""The commands `relations` and those under `data`: list, get, check, describe and translate relations."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console
from rich.table import Table

from relation_neurons.errors import file_name, refuse
from relation_neurons.progress import bar, silent
from relation_neurons.prompts.prompts import PromptConfig, make_prompts
from relation_neurons.relations import lre_download, wikidata
from relation_neurons.relations.lint import check_files, format_problems
from relation_neurons.relations.relation import Relation
from relation_neurons.relations.table_layout import table_layout
from relation_neurons.relations.translations import read_translations
from relation_neurons.storage.files import atomic

if TYPE_CHECKING:
    import pandas as pd

app = tyro.extras.SubcommandApp()


def relations_command(sources: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """List relations with their facts, distinct objects and the share of the most frequent one.

    Args:
        sources: Names, files or folders; all shipped relations by default.
    """
    from relation_neurons.relations.loading import load_relations

    table = Table("relation", "facts", "objects", "majority", "first template")
    for relation in load_relations(*sources):
        counts = str(len(relation.facts)), str(len(relation.objects)), f"{relation.majority_share:.0%}"
        table.add_row(relation.name, *counts, relation.templates[0])
    Console().print(table)


@app.command(name="fetch")
def fetch_command(
    name: tyro.conf.Positional[Literal["lre"]] = "lre", source: str | None = None, folder: Path | None = None
) -> None:
    """Download the LRE data set, whose relations are the paper's, and verify every file.

    Valid files are kept, so a stopped download can be resumed.

    Args:
        name: What to get.
        source: The address of a mirror, or a local folder; by default the public repository at a pinned commit.
        folder: Destination; by default your cache, or the folder in RELATION_NEURONS_DATA.
    """
    from relation_neurons.relations import lre  # imports pandas

    with bar("Fetching relations", len(lre.names())) as progress:
        found = lre_download.fetch(source, folder=folder, progress=progress)
    repaired = lre.repairs(folder=found)
    console = Console()
    console.print(f"{len(lre.names())} relations are in {found}", soft_wrap=True)
    counts = ", ".join(f"{count} {kind}" for kind, count in repaired["kind"].value_counts().items())
    console.print(
        f"Repaired when loaded: {counts}. relation_neurons.relations.lre.repairs() lists them.", soft_wrap=True
    )


@app.command(name="check")
def check_command(
    files: tyro.conf.Positional[tuple[Path, ...]],
    n_evaluation: int = 40,
    shots: int = 2,
    template: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    columns: tuple[str, ...] = (),
) -> None:
    """Say everything that is wrong with relation files, and where. Exit status 1 if any cannot be used.

    Args:
        files: JSON in the LRE schema, or CSV.
        n_evaluation: Evaluation facts that the split is to have.
        shots: Few-shot examples that it is to have.
        template: A text with one {} for the subject, for tables without a column template; may be repeated.
        columns: What a table calls its columns, as subject=Element object=Symbol.
    """
    layout = table_layout(template, columns)
    if not files:
        raise refuse("No file was named", expected="at least one relation file")
    problems = check_files(files, n_evaluation=n_evaluation, shots=shots, layout=layout)
    Console().print(format_problems(problems), markup=False, highlight=False, soft_wrap=True)
    if any(problem.level == "error" for problem in problems):
        sys.exit(1)


@app.command(name="describe")
def describe_command(
    sources: tyro.conf.Positional[tuple[str, ...]] = (),
    prompts: PromptConfig = PromptConfig(),  # noqa: B008
    model: str | None = None,
    validate: Literal["prefix", "exact", "string", "alias"] | None = None,
    out: Path | None = None,
) -> None:
    """What to know about relations before believing a number: facts, majority answers, overlaps, token lengths.

    Args:
        sources: Names, files or folders; all shipped relations by default.
        prompts: How facts become prompts.
        model: Count tokens with this model's tokenizer.
        validate: Ask the model, and count the detection prompts that it answers rightly by this rule.
        out: A folder for the table and the figures.
    """
    from relation_neurons.evaluation.relation_summary import describe
    from relation_neurons.evaluation.summary_table import console_table
    from relation_neurons.models.loading import load_model
    from relation_neurons.relations.loading import load_relations

    relations = load_relations(*sources)
    loaded = None if model is None else load_model(model)
    detection = make_prompts(relations, prompts).detection if loaded is not None and validate else ()
    with bar("Answering prompts", len(detection)) if detection else contextlib.nullcontext(silent) as progress:
        table = describe(relations, model=loaded, config=prompts, validate=validate, progress=progress)
    Console().print(console_table(table))
    if out is None:
        return
    _write_description(table, relations, out, with_tokens=loaded is not None)
    Console().print(f"Tables and figures are in {out}", soft_wrap=True)


@app.command(name="translate")
def translate_command(
    sources: tyro.conf.Positional[tuple[str, ...]],
    lang: str,
    templates: tuple[str, ...] = (),
    out: Path | None = None,
    endpoint: str = wikidata.ENDPOINT,
    contact: str = "",
) -> None:
    """Translate the names in relations by their labels in Wikidata; what is not found is listed in the file.

    Args:
        sources: Relations such as `paper`, `lre:city_in_country` or a file.
        lang: A language code, such as de.
        templates: In that language, each with one {}; by default those of the shipped relation of the same name.
        out: A folder for `<language>/<relation>.json`; by default where `paper` and `lre` look for them.
        endpoint: Address of the API.
        contact: Your e-mail address, sent along as Wikimedia requests from scripts.
    """
    from relation_neurons.relations.loading import load_relations

    folder = (out or lre_download.cache_folder() / "languages") / file_name(lang)
    labels = lre_download.cache_folder().parent.parent / "wikidata"
    relations = load_relations(*sources)
    files = {relation.name: f"{file_name(relation.name)}.json" for relation in relations}
    for relation in relations:
        shipped = read_translations(lre_download.data_folder() / "languages", relation.name).get(lang)
        chosen = templates or (shipped.templates if shipped else ())
        zs = () if templates or not shipped else shipped.templates_zs
        n_names = len({fact.subject for fact in relation.facts} | {fact.object for fact in relation.facts})
        with bar(relation.name, n_names) as progress:
            options = {"endpoint": endpoint, "contact": contact, "progress": progress, "cache": labels}
            found, _ = wikidata.translate_relation(relation, lang, chosen, zs, **options)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / files[relation.name]
        with atomic(path) as unfinished:
            unfinished.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        n_found = len(found["subjects"]) + len(found["objects"])
        Console().print(f"{path}: {n_found} names found, {len(found['missing'])} not", soft_wrap=True)


def _write_description(table: pd.DataFrame, relations: Sequence[Relation], out: Path, *, with_tokens: bool) -> None:
    """Write the table of `describe`, those of shared names, and a page with a figure of each."""
    from relation_neurons import figures
    from relation_neurons.evaluation.relation_summary import overlaps

    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "description.csv", index=False)
    drawn = {"facts": figures.facts_figure(table)}
    for part in ("subjects", "objects"):
        shared = overlaps(relations, part)
        shared.to_csv(out / f"shared_{part}.csv")
        drawn[f"shared_{part}"] = figures.overlap_of_names_figure(shared, f"Shared {part}")
    if with_tokens:
        drawn["token_lengths"] = figures.token_lengths_figure(table)
    for name, figure in drawn.items():
        figure.write_html(out / f"{name}.html", include_plotlyjs=True)
