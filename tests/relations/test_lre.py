"""LRE on demand, over a loopback server: whole or not at all, mended as listed, the paper's relations as in its table.

The true files come from a copy beside the repository, `../shared/lre/data`, or where LRE_FOLDER names its folder
`data/factual`. Without one, made-up files take their place wherever the claim allows it.
"""

import contextlib
import hashlib
import http.server
import json
import os
import socket
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pooch
import pytest

import relation_neurons as rn
from relation_neurons.relations import lre, lre_download
from relation_neurons.relations.lre import Repair, repair
from relation_neurons.relations.relation import key, relation_from_dict
from relation_neurons.relations.splits import split_relations

BESIDE = Path(__file__).parents[3] / "shared" / "lre" / "data"
COPY = Path(os.environ["LRE_FOLDER"]).parent if os.environ.get("LRE_FOLDER") else BESIDE
needs_copy = pytest.mark.skipif(
    not (COPY / "factual").is_dir(), reason="no copy of the LRE data: LRE_FOLDER does not name its folder data/factual"
)

PAPER = {  # facts and templates of each relation in the paper's table, and LRE's file
    "company_ceo": (298, 2, "company_ceo"),
    "company_hq": (674, 2, "company_hq"),
    "landmark_continent": (947, 1, "landmark_on_continent"),
    "landmark_country": (836, 1, "landmark_in_country"),
    "person_father": (991, 1, "person_father"),
    "person_mother": (994, 1, "person_mother"),
    "person_occupation": (821, 2, "person_occupation"),
    "person_plays_instrument": (513, 1, "person_plays_instrument"),
    "person_pro_sport": (318, 1, "person_plays_pro_sport"),
    "person_sport_position": (952, 2, "person_plays_position_in_sport"),
    "product_company": (522, 2, "product_by_company"),
    "star_constellation": (362, 1, "star_constellation"),
}
CHANGED = {
    "person_plays_instrument": ("{} plays the instrument of",),
    "product_company": ("{} was created by which company", "{} is a product of which company"),
}
PAPER_CONFIG = rn.PromptConfig(shots=0, templates="all", n_evaluation=50)
PAPER_DIGEST = "c8c727af5c044c2f3c6d77cd96e4da39fd2aae9b535f591e860cf5c02bca7ebc"
MADE_UP = {
    "factual/capital.json": [("Brazil", "Bras\\u00edlia"), ("Peru ", "Lima"), ("Peru", "Cusco"), ("peru", "Lima")],
    "factual/colour.json": [("grass", "green"), ("snow", "white")],
    "linguistic/plural.json": [("mouse", "mice")],
}


def relation_file(pairs, **changes):
    samples = [{"subject": subject, "object": name} for subject, name in pairs]
    return {"name": "its own name", "prompt_templates": ["{} is"], "properties": {}, "samples": samples, **changes}


@contextlib.contextmanager
def served(folder, spoil=lambda number, content: content):
    """Serve a folder as `/data`; `spoil` changes the body of the n-th answer, whose length is announced before."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path.removeprefix("/data/"))
            path = folder / asked[-1]
            if not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(spoil(len(asked), content))

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/data", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RELATION_NEURONS_DATA", str(tmp_path / "cache"))


@pytest.fixture(params=["made-up", pytest.param("lre", marks=needs_copy)])
def origin(request, tmp_path, monkeypatch):
    """A folder of relation files and, in place of LRE's if they are made up, their registry."""
    if request.param == "lre":
        return COPY
    folder, known = tmp_path / "origin", {}
    for path, pairs in MADE_UP.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(relation_file(pairs)), encoding="utf-8")
        known[path] = hashlib.sha256((folder / path).read_bytes()).hexdigest()
    registry = lre_download.Registry("c0ffee", known, {path: len(pairs) for path, pairs in MADE_UP.items()})
    monkeypatch.setattr(lre_download, "registry", lambda: registry)
    return folder


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """A folder for data into which the true files were fetched over HTTP."""
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch, served(COPY) as (address, _):
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("RELATION_NEURONS_DATA", str(root))
        assert lre_download.fetch(address).is_relative_to(root)
    return root


@pytest.fixture
def in_cache(fetched, monkeypatch):
    """The true files where `load_relations` looks for them."""
    monkeypatch.setenv("RELATION_NEURONS_DATA", str(fetched))


@pytest.fixture(scope="module")
def paper(fetched):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELATION_NEURONS_DATA", str(fetched))
        return rn.load_relations("paper")


def stored(folder):
    """Every file under a folder with its SHA-256."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_fetch_downloads_every_file_once(origin):
    done = []
    with served(origin) as (address, asked):
        folder = lre_download.fetch(f"{address}/", progress=done.append)
        assert stored(folder) == lre_download.registry().sha256
        assert asked == list(lre_download.registry().sha256)
        assert done == [1] * len(asked)
        lre_download.fetch(address)
        assert len(asked) == len(done)
    assert folder == lre_download.cache_folder()
    assert len(lre.load()) == len(done)


def test_poochs_logger_is_disabled_only_during_a_download(origin, caplog):
    logger = pooch.get_logger()
    level = logger.level
    logger.addHandler(caplog.handler)
    try:
        lre_download.fetch(origin)
        assert not caplog.records
        assert logger.level == level
        logger.warning("heard")
        assert [record.message for record in caplog.records] == ["heard"]
    finally:
        logger.removeHandler(caplog.handler)


def test_an_interrupted_download_resumes(origin):
    known = lre_download.registry().sha256
    with served(origin, lambda number, body: body[: len(body) // 2] if number == 2 else body) as (address, asked):
        with pytest.raises(rn.RelationNeuronsError, match=r"cannot be downloaded.*valid files are kept"):
            lre_download.fetch(address)
        assert stored(lre_download.cache_folder()) == dict(list(known.items())[:1])
        with pytest.raises(rn.RelationNeuronsError, match="relation-neurons data fetch lre"):
            lre.load()
        lre_download.fetch(address)
        assert asked == [*list(known)[:2], *list(known)[1:]]
    assert stored(lre_download.cache_folder()) == known


def test_a_file_with_a_wrong_byte_is_refused_and_not_stored(origin):
    known = lre_download.registry().sha256

    def flip(number, body):
        return body[:-3] + bytes([body[-3] ^ 1]) + body[-2:] if number == len(known) else body

    says = r"wrong checksum and was discarded.*SHA-256 [0-9a-f]{64}"
    with served(origin, flip) as (address, _), pytest.raises(rn.RelationNeuronsError, match=says):
        lre_download.fetch(address)
    assert stored(lre_download.cache_folder()) == dict(list(known.items())[:-1])


def test_a_damaged_cached_file_is_never_read_and_is_downloaded_again(origin):
    folder = lre_download.fetch(origin)
    path = folder / next(iter(lre_download.registry().sha256))
    path.write_bytes(path.read_bytes()[:-9])
    (name, *_) = lre.names()
    with pytest.raises(rn.RelationNeuronsError, match=r"modified after the download.*relation-neurons data fetch lre"):
        lre.load(name)
    with served(origin) as (address, asked):
        lre_download.fetch(address)
        assert asked == [path.relative_to(folder).as_posix()]
    assert lre.load(name)


def test_a_local_folder_and_a_chosen_target_need_no_network(origin, tmp_path):
    target = tmp_path / "a folder" / "of mine"
    assert lre_download.fetch(str(origin), folder=target) == target
    assert stored(target) == lre_download.registry().sha256
    assert not lre_download.cache_folder().exists()
    assert len(lre.load(folder=target)) == len(lre.names())


def test_without_a_network_the_error_says_so():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(rn.RelationNeuronsError, match=r"cannot be downloaded \(Connection.*check the network"):
        lre_download.fetch(f"http://127.0.0.1:{port}")


def test_the_pinned_commit_is_the_default_source(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    address = (
        "https://raw.githubusercontent.com/evandez/relations/1b9ec3cf2b8368e42bde7e80fcef384312a6ec07/data/"
        "bias/characteristic_gender.json"
    )
    with pytest.raises(rn.RelationNeuronsError, match=rf"^{address} cannot be downloaded"):
        lre_download.fetch()


def test_sources_without_the_files_are_refused(tmp_path):
    says = r"gender.json cannot be downloaded \(404 Not Found\).*another source"
    with served(tmp_path) as (address, _), pytest.raises(rn.RelationNeuronsError, match=says):
        lre_download.fetch(address)
    with pytest.raises(rn.RelationNeuronsError, match=r"gender.json cannot be read \(No such file.*another source"):
        lre_download.fetch(tmp_path)
    for source in (tmp_path / "none", "ftp://127.0.0.1/data"):
        with pytest.raises(rn.RelationNeuronsError, match="There is no folder"):
            lre_download.fetch(source)
    with pytest.raises(rn.RelationNeuronsError, match="cannot be downloaded"):
        lre_download.fetch("http://[nowhere")
    assert not stored(tmp_path)


@pytest.mark.parametrize("below", ["", "below"])
def test_a_cache_that_cannot_be_written_is_refused(origin, tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(rn.RelationNeuronsError, match=r"cannot be stored in .*RELATION_NEURONS_DATA"):
        lre_download.fetch(origin, folder=tmp_path / "file" / below)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_cache_without_permission_is_refused(origin, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(rn.RelationNeuronsError, match=r"cannot be stored in .*permission"):
        lre_download.fetch(origin, folder=tmp_path / "locked")


def test_loading_without_a_download_names_the_command(tmp_path):
    for wanted in ("lre", "paper", "lre:word_sentiment"):
        with pytest.raises(rn.RelationNeuronsError, match="run `relation-neurons data fetch lre`"):
            rn.load_relations(wanted)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(rn.RelationNeuronsError, match="has not been downloaded"):
        lre.repairs("word_sentiment")


def test_the_users_cache_is_the_default(monkeypatch):
    monkeypatch.delenv("RELATION_NEURONS_DATA")
    folder = lre_download.cache_folder()
    assert "relation-neurons" in folder.parts
    assert folder.parts[-2:] == ("lre", lre_download.registry().commit)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("papr", "paper"),
        ("lr", "lre"),
        ("word_sentiment", "lre:word_sentiment"),
        ("lre:word_sentimen", "word_sentiment"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(wrong, right):
    with pytest.raises(rn.RelationNeuronsError, match=f"did you mean '{right}'"):
        rn.load_relations(wrong)


def test_the_registry_lists_the_papers_files_with_its_counts():
    known = lre_download.registry()
    assert known.commit == "1b9ec3cf2b8368e42bde7e80fcef384312a6ec07"
    assert len(known.sha256) == len(lre.names()) == len(set(lre.names())) == 47
    kinds = Counter(path.split("/")[0] for path in known.sha256)
    assert kinds == {"factual": 26, "commonsense": 8, "linguistic": 6, "bias": 7}
    for checksum in known.sha256.values():
        assert len(checksum) == 64
        assert set(checksum) <= set("0123456789abcdef")
    for n_facts, _, name in PAPER.values():
        assert known.samples[f"factual/{name}.json"] == n_facts


@needs_copy
def test_the_registry_is_that_of_the_files():
    assert lre_download.registry().sha256 == stored(COPY)
    for path, n_samples in lre_download.registry().samples.items():
        assert len(json.loads((COPY / path).read_text(encoding="utf-8"))["samples"]) == n_samples


def test_each_correction_is_made_and_listed():
    pairs = [("Brazil", "Bras\\u00edlia"), ("Peru ", "Lima"), ("peru", "Lima"), ("Peru", " Cusco"), ("Peru", "cusco")]
    raw = relation_file(pairs)
    mended, done = repair(raw, "capital")
    assert mended["samples"] == [
        {"subject": "Brazil", "object": "Brasília", "aliases": []},
        {"subject": "Peru", "object": "Lima", "aliases": ["Cusco"]},
    ]
    assert done == [
        Repair("capital", "sample 1", "escaped characters", "Bras\\u00edlia", "Brasília"),
        Repair("capital", "sample 2", "outer spaces", "Peru ", "Peru"),
        Repair("capital", "sample 4", "outer spaces", " Cusco", "Cusco"),
        Repair("capital", "sample 3", "duplicate fact", "peru: Lima", "removed"),
        Repair("capital", "sample 4", "repeated subject", "Peru: Cusco", "alias in sample 2"),
        Repair("capital", "sample 5", "duplicate fact", "Peru: cusco", "removed"),
    ]
    kept, done = repair(raw, "capital", merge=False)
    assert [tuple(sample.values()) for sample in kept["samples"]] == [
        ("Brazil", "Brasília"),
        ("Peru", "Lima"),
        ("peru", "Lima"),
        ("Peru", "Cusco"),
        ("Peru", "cusco"),
    ]
    assert [one.place for one in done] == ["sample 1", "sample 2", "sample 4"]
    assert raw == relation_file(pairs)


def test_correct_samples_are_unchanged():
    raw = relation_file([("a\\b", "\\u00zz"), ("𝄞", "x  y")])
    assert repair(raw, "r", merge=False) == (raw, [])
    assert repair(relation_file([("a", "\\ud834\\udd1e")]), "r")[0]["samples"][0]["object"] == "𝄞"
    for samples in (None, "none", [{"subject": "a"}], [{"subject": 1, "object": 2}], ["a"]):
        assert repair({"samples": samples}, "r") == ({"samples": samples}, [])


def test_relations_are_named_after_their_files_and_have_aliases(tmp_path, monkeypatch):
    path, content = "factual/capital.json", json.dumps(relation_file(MADE_UP["factual/capital.json"])).encode()
    registry = lre_download.Registry("c0ffee", {path: hashlib.sha256(content).hexdigest()}, {path: 4})
    monkeypatch.setattr(lre_download, "registry", lambda: registry)
    (tmp_path / "factual").mkdir()
    (tmp_path / path).write_bytes(content)
    (capital,) = lre.load(["capital"], tmp_path)
    assert capital.name == "capital"
    assert capital.facts == (rn.Fact("Brazil", "Brasília"), rn.Fact("Peru", "Lima", ("Cusco",)))
    assert "LRE" in capital.source
    assert "c0ffee" in capital.source
    table = lre.repairs(folder=tmp_path)
    assert list(table.columns) == ["relation", "place", "kind", "before", "after"]
    assert list(table.kind) == ["escaped characters", "outer spaces", "repeated subject", "duplicate fact"]


@needs_copy
def test_all_47_relations_load_with_independently_counted_corrections(in_cache):
    relations = {relation.name: relation for relation in rn.load_relations("lre")}
    table = lre.repairs()
    assert set(relations) == {path.stem for path in COPY.glob("*/*.json")}
    for path in COPY.glob("*/*.json"):
        text = path.read_text(encoding="utf-8")
        pairs = [(one["subject"], one["object"]) for one in json.loads(text)["samples"]]
        bare = [tuple(name.strip().casefold() for name in pair) for pair in pairs]
        subjects = {subject for subject, _ in bare}
        expected = {
            "escaped characters": text.count("\\\\u"),
            "outer spaces": sum(name.startswith(" ") + name.endswith(" ") for pair in pairs for name in pair),
            "duplicate fact": len(bare) - len(set(bare)),
            "repeated subject": len(set(bare)) - len(subjects),
        }
        own = table[table.relation == path.stem]
        assert dict(own.kind.value_counts()) == {kind: n for kind, n in expected.items() if n}, path.stem
        relation = relations[path.stem]
        assert len(relation.facts) == len(subjects)
        assert sum(len(fact.aliases) for fact in relation.facts) == expected["repeated subject"]
        assert all(fact.subject.casefold() in subjects and "\\" not in fact.object for fact in relation.facts)
        assert lre_download.registry().commit in relation.source
    assert dict(table.kind.value_counts()) == {
        "escaped characters": 2,
        "outer spaces": 3,
        "duplicate fact": 40,
        "repeated subject": 53,
    }


@needs_copy
def test_known_errors_are_corrected(in_cache):
    found = {r.name: {f.subject: f for f in r.facts} for r in rn.load_relations("lre")}
    assert found["country_capital_city"]["Brazil"].object == "Brasília"
    assert found["presidents_birth_year"]["Jimmy Carter"].object == "1924"
    assert found["person_plays_instrument"]["Tom Fletcher"] == rn.Fact("Tom Fletcher", "guitar", ("piano",))
    assert found["company_ceo"]["NVIDIA"].aliases == ("Jen-Hsun Huang",)
    assert found["product_by_company"]["Clang"] == rn.Fact("Clang", "Apple", ("Sony", "Intel", "Microsoft"))


@needs_copy
def test_one_lre_relation_is_loaded_by_its_prefixed_name(in_cache):
    (relation,) = rn.load_relations("lre:word_sentiment")
    assert relation.name == "word_sentiment"
    assert len(relation.facts) == 59  # 60 samples, "neutral" twice
    with pytest.raises(rn.RelationNeuronsError, match=r"twice.*different sources"):
        rn.load_relations("company_ceo", "lre:company_ceo")


@needs_copy
def test_the_papers_relations_have_its_names_counts_and_templates(paper):
    assert [relation.name for relation in paper] == list(PAPER)
    for relation in paper:
        n_facts, n_templates, theirs = PAPER[relation.name]
        raw = json.loads((COPY / "factual" / f"{theirs}.json").read_text(encoding="utf-8"))
        assert len(relation.facts) == n_facts
        assert len(relation.templates) == n_templates
        assert relation.templates == CHANGED.get(relation.name, tuple(raw["prompt_templates"]))
        assert relation.templates_zs == tuple(raw["prompt_templates_zs"])
        assert relation.facts == relation_from_dict(raw, theirs).facts
        assert f"factual/{theirs}.json" in relation.source


@needs_copy
@pytest.mark.parametrize("seed", [0, 5])
def test_splits_of_the_paper_share_no_subject_and_lose_no_fact(paper, seed):
    splits = split_relations(paper, n_evaluation=50, n_shots=0, seed=seed)
    held_out = {key(fact.subject) for split in splits.values() for fact in split.evaluation}
    for relation in paper:
        split = splits[relation.name]
        evaluated = {key(fact.subject) for fact in split.evaluation}
        assert len(evaluated) == 50
        of_evaluated = Counter(fact for fact in relation.facts if key(fact.subject) in evaluated)
        assert Counter(split.evaluation) == of_evaluated
        assert Counter(split.detection) == Counter(f for f in relation.facts if key(f.subject) not in held_out)


@needs_copy
def test_every_template_is_used_in_the_papers_form(paper):
    prompts = rn.make_prompts(paper, PAPER_CONFIG)
    splits = split_relations(paper, n_evaluation=50, n_shots=0)
    for part in ("detection", "evaluation"):
        counts = Counter(prompt.relation for prompt in getattr(prompts, part))
        assert counts == {name: len(getattr(splits[name], part)) * PAPER[name][1] for name in PAPER}
    texts = {prompt.text for prompt in (*prompts.detection, *prompts.evaluation)}
    assert "The CEO of Tesla is? Answer:" in texts
    assert "iPod was created by which company? Answer:" in texts
    assert "Tom Fletcher plays the instrument of? Answer:" in texts


@needs_copy
def test_four_negatives_per_positive_are_drawn_evenly_from_the_other_relations(paper):
    detection = rn.make_prompts(paper, PAPER_CONFIG).detection
    labels, weights = rn.contrast(detection)
    own = np.array([prompt.relation for prompt in detection])
    for column, name in enumerate(PAPER):
        positives = own == name
        assert (labels[:, column] == positives).all()
        assert weights[positives, column].all()
        drawn = Counter(own[weights[:, column] & ~positives])
        assert sum(drawn.values()) == min(4 * positives.sum(), (~positives).sum())
        there = Counter(own[~positives])
        even = [drawn[other] for other in there if drawn[other] < there[other]]  # the rest gave all they have
        assert max(drawn.values()) <= min(even) + 1, name


@needs_copy
def test_prompts_and_contrast_of_the_paper_are_the_same_on_every_machine(paper):
    prompts = rn.make_prompts(paper, PAPER_CONFIG)
    digest = hashlib.sha256()
    for prompt in (*prompts.detection, *prompts.evaluation):
        digest.update(prompt.text.encode() + b"\n")
    for matrix in rn.contrast(prompts.detection):
        digest.update(np.ascontiguousarray(matrix).tobytes())
    assert digest.hexdigest() == PAPER_DIGEST
