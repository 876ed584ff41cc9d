import email.utils
import json
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import platformdirs
import pytest

import relation_neurons as rn
from relation_neurons.relations.relation import translation_from_dict
from relation_neurons.relations.wikidata import Label, translate_names, translate_relation

RESPONSES = json.loads((Path(__file__).parent / "wikidata_responses.json").read_text(encoding="utf-8"))
NAMES = list(RESPONSES["searches"])


class Replay:
    """Answers as Wikidata's API is documented to, and keeps what it was asked."""

    def __init__(self):
        self.searches = {name: list(responses) for name, responses in RESPONSES["searches"].items()}
        self.entities = dict(RESPONSES["entities"])
        self.asked, self.headers = [], []
        self.at_once = self.most_at_once = 0
        self.released = threading.Event()

    def answer(self, query):
        if query["action"] == "wbsearchentities":
            responses = self.searches[query["search"]]
            return responses.pop(0) if len(responses) > 1 else responses[0]
        body = {"entities": {item: self.entity(item, query) for item in query["ids"].split("|")}, "success": 1}
        unknown = [code for code in query["languages"].split("|") if code not in RESPONSES["languages"]]
        if unknown:
            text = f'Unrecognized value{"s" * (len(unknown) > 1)} for parameter "languages": {", ".join(unknown)}.'
            body["warnings"] = {"wbgetentities": {"*": text}}
        return ok(body)

    def entity(self, item, query):
        if item not in self.entities:
            return {"id": item, "missing": ""}
        codes, entity = query["languages"].split("|"), self.entities[item]
        named = {part: {code: entity[part][code] for code in codes if code in entity[part]} for part in PARTS}
        return {"type": "item", "id": item, **named}

    def add(self, *names):
        """Items of those names, numbered from Q5000."""
        for number, name in enumerate(names, start=5000):
            item, term = f"Q{number}", {"language": "en", "value": name}
            hit = {"id": item, "label": name, "match": {"type": "label", "language": "en", "text": name}}
            self.searches[name] = [ok({"searchinfo": {"search": name}, "search": [hit], "success": 1})]
            labels = {"en": term, "de": {"language": "de", "value": f"{name} auf Deutsch"}}
            self.entities[item] = {"type": "item", "id": item, "labels": labels, "aliases": {}}

    @property
    def searched(self):
        return [query["search"] for query in self.asked if query["action"] == "wbsearchentities"]

    @property
    def batches(self):
        return [query["ids"].split("|") for query in self.asked if query["action"] == "wbgetentities"]


PARTS = ("labels", "aliases")


def ok(body, status=200, **headers):
    return {"status": status, "headers": headers, "body": body}


@pytest.fixture
def api():
    replay, lock = Replay(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with lock:
                replay.at_once += 1
                replay.most_at_once = max(replay.most_at_once, replay.at_once)
            query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True, strict_parsing=True))
            replay.asked.append(query)
            replay.headers.append(dict(self.headers))
            answer = replay.answer(query)
            if answer["body"] == "late":
                replay.released.wait()
            body = answer["body"] if isinstance(answer["body"], str) else json.dumps(answer["body"])
            with lock:
                replay.at_once -= 1
            self.send_response(answer["status"])
            for header, value in answer["headers"].items():
                self.send_header(header.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    replay.endpoint = f"http://127.0.0.1:{server.server_port}/w/api.php"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield replay
    replay.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The pauses that would have been made; and no name but the loopback's is looked up."""
    made, look_up = [], socket.getaddrinfo

    def local(host, *args, **kwargs):
        assert host == "127.0.0.1", f"asks for {host}"
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(time, "sleep", made.append)
    monkeypatch.setattr(socket, "getaddrinfo", local)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return made


@pytest.fixture
def ask(api, tmp_path):
    def ask(names, language="de", **options):
        return translate_names(names, language, **{"endpoint": api.endpoint, "cache": tmp_path, **options})

    return ask


def test_a_name_becomes_the_label_of_the_first_item_that_has_it(ask):
    done = ask(NAMES)
    assert done.language == "de"
    assert done.found == {
        "France": Label("Frankreich", "Q142", "label", 1, ("Französische Republik", "FR"), "de", "France"),
        "Mercury": Label("Merkur", "Q308", "label", 3, (), "de", "Mercury"),
        "USA": Label(
            "Vereinigte Staaten", "Q30", "alias", 1, ("USA", "Vereinigte Staaten von Amerika"), "de", "United States"
        ),
        "Japan": Label("Japan", "Q17", "label", 1, (), "de", "Japan"),
        "Brazil": Label("Brasilien", "Q155", "label", 1, ("BR",), "de", "Brazil"),
        "Lionel Messi": Label("Lionel Messi", "Q615", "label", 1, ("Lionel Andrés Messi",), "mul", "Lionel Messi"),
        "iphone": Label("iPhone", "Q2766", "label", 1, (), "de", "iPhone"),
        "Q7": Label("Audi Q7", "Q900000005", "alias", 1, (), "de", "Audi Q7"),
    }


def test_missing_names_have_a_reason(ask):
    assert ask(NAMES).missing == {
        "Little Duck": "no label in de",
        "Sao Paulo": "no item",  # only São Paulo
        "Birne": "no item",  # only in German
        "Xyzzyville": "no item",
        "Old Bridge": "no item",  # deleted after the search
    }


def test_an_ambiguous_name_can_be_skipped(ask):
    done = ask(["Mercury", "France"], skip_ambiguous=True)
    assert list(done.found) == ["France"]
    assert done.missing == {"Mercury": "ambiguous: Q308, Q925, Q1150"}


def test_chinese_is_simplified_if_there_is_such_a_label(api, ask):
    done = ask(["France", "Japan", "Lionel Messi"], "zh")
    assert api.asked[-1]["languages"] == "zh-hans|zh|mul|en"
    assert {name: (label.text, label.code) for name, label in done.found.items()} == {
        "France": ("法国", "zh-hans"),
        "Japan": ("日本", "zh"),
        "Lionel Messi": ("Lionel Messi", "mul"),
    }
    assert done.found["France"].aliases == ("法國", "法兰西", "法蘭西")


def test_english_gives_the_items_own_label(ask, tmp_path):
    assert ask(["USA"], "en").found["USA"].text == "United States"
    assert [path.name for path in tmp_path.iterdir()] == ["en.json"]


def test_requests_follow_the_api_and_identify_the_client(api, ask):
    ask(["France", "USA"], contact="someone@example.org")
    search = {"action": "wbsearchentities", "language": "en", "uselang": "en", "type": "item", "limit": "7"}
    common = {"format": "json", "maxlag": "5"}
    assert api.asked == [
        {**search, **common, "search": "France"},
        {**search, **common, "search": "USA"},
        {"action": "wbgetentities", "ids": "Q142|Q30", "props": "labels|aliases", "languages": "de|mul|en", **common},
    ]
    for headers in api.headers:
        assert headers["User-Agent"].startswith("relation-neurons/")
        assert "someone@example.org" in headers["User-Agent"]
        assert "gzip" in headers["Accept-Encoding"]


def test_items_are_requested_in_batches_of_fifty_one_request_at_a_time(api, ask):
    names, steps = [f"Thing {number}" for number in range(120)], []
    api.add(*names)
    done = ask([*names, *names], progress=steps.append)
    assert [len(batch) for batch in api.batches] == [50, 50, 20]
    assert [item for batch in api.batches for item in batch] == [f"Q{number}" for number in range(5000, 5120)]
    assert done.found["Thing 119"].text == "Thing 119 auf Deutsch"
    assert api.searched == names
    assert api.most_at_once == 1
    assert steps == [1] * 120


def test_two_names_of_one_item_request_it_once(api, ask):
    api.searches["United States"] = [ok({"search": api.searches["USA"][0]["body"]["search"][:1]})]
    assert set(ask(["USA", "United States"]).found) == {"USA", "United States"}
    assert api.batches == [["Q30"]]


def test_a_second_call_makes_no_request(api, ask):
    first = ask(NAMES)
    n_asked = len(api.asked)
    assert ask(NAMES) == first
    assert ask(NAMES[::2]).missing.items() <= first.missing.items()
    assert len(api.asked) == n_asked


def test_another_language_requests_only_labels(api, ask):
    ask(["France", "USA"])
    api.asked.clear()
    assert ask(["France", "USA"], "es").missing == {"USA": "no label in es"}
    assert (api.searched, api.batches) == ([], [["Q142", "Q30"]])


@pytest.mark.parametrize("stop_after", [1, 49, 50, 60])
def test_an_interrupted_call_resumes(api, ask, stop_after):
    names, steps = [f"Thing {number}" for number in range(70)], []
    api.add(*names)

    def interrupt(done):
        steps.append(done)
        if len(steps) == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(names, progress=interrupt)
    assert len(api.searched) == stop_after
    assert len(ask(names).found) == 70
    assert api.searched == names
    assert Counter(len(batch) for batch in api.batches) == {50: 1, 20: 1}


def test_a_failure_keeps_earlier_responses(api, ask, waits):
    good, api.searches["USA"] = api.searches["USA"], [ok("down", 503)]
    with pytest.raises(
        rn.RelationNeuronsError, match=r"busy 4 times \(HTTP 503\).*run the same command later to resume"
    ):
        ask(["France", "USA", "Mercury"])
    assert waits == [5, 10, 20]
    assert api.searched == ["France", *["USA"] * 4]
    api.asked.clear()
    api.searches["USA"] = good
    assert len(ask(["France", "USA", "Mercury"]).found) == 3
    assert api.searched == ["USA", "Mercury"]


def test_a_busy_server_is_retried_after_its_stated_time(api, ask, waits):
    assert len(ask(["Japan", "Brazil"]).found) == 2
    assert api.searched == ["Japan", "Japan", "Brazil", "Brazil"]
    assert waits == [2, 5]


def test_the_retry_time_can_be_a_date(api, ask, waits):
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    good = api.searches["France"][0]
    api.searches["France"] = [ok("", 503, Retry_After=date), ok("", 503, Retry_After=past), ok("", 503), good]
    ask(["France"])
    assert 55 < waits[0] <= 60
    assert waits[1:] == [0, 20]


def test_rate_limits_within_the_api_count_as_busy(api, ask, waits):
    limited = ok({"error": {"code": "ratelimited", "info": "You've exceeded your rate limit."}})
    api.searches["France"] = [limited, *api.searches["France"]]
    assert ask(["France"]).found["France"].item == "Q142"
    assert waits == [5]


def test_a_lag_that_does_not_end_is_an_error(api, ask):
    api.searches["Brazil"] = api.searches["Brazil"][:1]
    with pytest.raises(rn.RelationNeuronsError, match=r"busy 4 times \(maxlag\)"):
        ask(["Brazil"])
    assert len(api.asked) == 4


def test_a_long_pause_is_an_error(api, ask, waits):
    api.searches["France"] = [ok("", 429, Retry_After="3600")]
    with pytest.raises(rn.RelationNeuronsError, match="asks for a pause of 3600 s"):
        ask(["France"])
    assert (len(api.asked), waits) == (1, [])


@pytest.mark.parametrize("language", ["xx", "xx-yy"])
def test_a_language_unknown_to_the_api_is_refused(api, ask, tmp_path, language):
    with pytest.raises(rn.RelationNeuronsError, match=f"does not know the language '{language}'"):
        ask(["France"], language)
    assert [path.name for path in tmp_path.iterdir()] == ["en.json"]
    assert ask(["France"]).found
    assert api.searched == ["France"]


def test_an_api_without_names_for_all_languages_is_supported(api, ask, monkeypatch):
    monkeypatch.setitem(RESPONSES, "languages", ["de", "en"])
    assert ask(["France"]).found["France"].text == "Frankreich"


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (ok("Forbidden", 403), "answered 403 Forbidden.*contact"),
        (ok("<html>Welcome to the hotel</html>"), "answered '<html>Welcome"),
        (
            ok({"error": {"code": "badvalue", "info": "No such thing."}}),
            r"rejected the request \(badvalue: No such thing",
        ),
        (ok({"success": 1}), r"answered '{\"success\": 1}'"),
        (ok([]), r"answered '\[\]'"),
        (ok({"search": [{"id": "L7", "match": {"type": "label", "language": "en", "text": "France"}}]}), "answered"),
    ],
)
def test_an_invalid_response_is_one_clear_error(api, ask, response, says):
    api.searches["France"] = [response]
    with pytest.raises(rn.RelationNeuronsError, match=says):
        ask(["USA", "France"])
    api.asked.clear()
    ask(["USA"])
    assert api.searched == []


@pytest.mark.parametrize("entities", [{}, [], {"Q142": {"labels": {"de": "Frankreich"}}}, {"Q142": None}])
def test_invalid_items_are_one_clear_error_and_are_not_cached(api, ask, tmp_path, monkeypatch, entities):
    answer = api.answer
    body = ok({"entities": entities, "success": 1})
    monkeypatch.setattr(api, "answer", lambda query: answer(query) if "search" in query else body)
    with pytest.raises(rn.RelationNeuronsError, match=r"answered .*Expected: JSON of Wikidata's API"):
        ask(["France"])
    assert [path.name for path in tmp_path.iterdir()] == ["en.json"]


def test_no_network_no_response_and_an_invalid_url_are_one_clear_error_each(api, ask):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}/w/api.php"
    with pytest.raises(rn.RelationNeuronsError, match=f"{closed} cannot be reached.*check the network"):
        ask(["France"], endpoint=closed)
    with pytest.raises(rn.RelationNeuronsError, match="wikidata cannot be queried"):
        ask(["France"], endpoint="wikidata")
    api.searches["France"] = [ok("late")]
    with pytest.raises(rn.RelationNeuronsError, match=r"did not answer within 0\.2 s"):
        ask(["France"], timeout=0.2)


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"endpoint": ',
        "[]",
        "{}",
        '{"endpoint": "e", "searches": {"France": [{}]}, "items": {}}',
        '{"endpoint": "e", "searches": {"France": ["Q142"]}, "items": {}}',
        '{"endpoint": "e", "searches": {}, "items": {"Q142": {"labels": {"de": "Frankreich"}}}}',
        '{"endpoint": "e", "searches": {}, "items": {"Q142": {"labels": {"de": {"value": 1}}}}}',
    ],
)
def test_a_damaged_cache_file_is_named(api, ask, tmp_path, content):
    (tmp_path / "de.json").write_text(content, encoding="utf-8")
    with pytest.raises(rn.RelationNeuronsError, match=r"de\.json: is damaged.*remove this file"):
        ask(["France"])
    assert api.asked == []
    (tmp_path / "de.json").write_bytes(b"\xff")
    with pytest.raises(rn.RelationNeuronsError, match=r"de\.json: is damaged"):
        ask(["France"])


def test_cached_responses_of_another_api_are_refused(ask, tmp_path):
    ask(["France"])
    with pytest.raises(rn.RelationNeuronsError, match=r"en\.json: has responses of http://127.*, not of http://other"):
        ask(["France"], endpoint="http://other.example/api.php")


def test_responses_are_written_atomically(ask, tmp_path, monkeypatch):
    ask(["France"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["de.json", "en.json"]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for step in ("pathlib.Path.write_text", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(step, full)
            with pytest.raises(
                rn.RelationNeuronsError, match=r"en\.json: cannot be written \(No space left on device\)"
            ):
                ask(["USA"])
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_created_or_read_is_named(ask, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(rn.RelationNeuronsError, match=r"file.*choose another cache folder"):
        ask(["France"], cache=tmp_path / "file")
    (tmp_path / "en.json").mkdir()
    with pytest.raises(rn.RelationNeuronsError, match=r"en\.json: cannot be read"):
        ask(["France"])


def test_responses_are_in_the_users_cache_folder_by_default(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    ask(["France"], cache=None)
    lying = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json"))
    assert lying == ["relation-neurons/wikidata/de.json", "relation-neurons/wikidata/en.json"]


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        (["France", ""], {}, "A name is ''"),
        ([" France"], {}, "A name is ' France'"),
        (["France"], {"language": "../de"}, "language is '../de'"),
        (["France"], {"language": "de|fr"}, r"language is 'de\|fr'"),
        (["France"], {"contact": "a\nb"}, "contact"),
        (["France"], {"contact": "jörg"}, "contact"),
        (["France"], {"timeout": 0.0}, "timeout"),
    ],
)
def test_invalid_arguments_are_refused_before_any_request(api, ask, names, options, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        ask(names, **options)
    assert api.asked == []


FACTS = [
    rn.Fact("Lionel Messi", "Brazil"),
    rn.Fact("iphone", "USA"),
    rn.Fact("Mercury", "Little Duck"),
    rn.Fact("Xyzzyville", "USA"),
    rn.Fact("iPhone", "France"),
    rn.Fact("Q7", "Japan"),
]
RELATION = rn.Relation("r", ("{} is from",), (), tuple(FACTS))


def test_a_translated_relation_has_the_contents_of_a_translation_file(api, ask, tmp_path):
    api.searches["iPhone"] = api.searches["iphone"]
    terms = [{"language": "de", "value": text} for text in ("Frankreich", "Staaten", "staaten")]
    aliases = {"de": [*api.entities["Q30"]["aliases"]["de"], *terms]}
    api.entities["Q30"] = {**api.entities["Q30"], "aliases": aliases}
    raw, labels = translate_relation(
        RELATION, "de", ["{} ist aus"], ["Woher: {}?"], endpoint=api.endpoint, cache=tmp_path
    )
    assert raw == {
        "relation": "r",
        "language": "de",
        "prompt_templates": ["{} ist aus"],
        "prompt_templates_zs": ["Woher: {}?"],
        "subjects": {"Lionel Messi": "Lionel Messi", "iphone": "iPhone", "Mercury": "Merkur", "Q7": "Audi Q7"},
        "objects": {"Brazil": "Brasilien", "USA": "Vereinigte Staaten", "France": "Frankreich", "Japan": "Japan"},
        "aliases": {
            "Brasilien": ["BR"],
            "Vereinigte Staaten": ["USA", "Vereinigte Staaten von Amerika", "Staaten"],
            "Frankreich": ["Französische Republik", "FR"],
        },
        "missing": {
            "Xyzzyville": "no item",
            "Little Duck": "no label in de",
            "iPhone": "same name in de as iphone",
        },
    }
    assert json.loads(json.dumps(raw)) == raw
    read = translation_from_dict(raw)
    assert read.templates == ("{} ist aus",)
    assert read.aliases["Brasilien"] == ("BR",)
    assert labels == ask([name for fact in FACTS for name in (fact.subject, fact.object)])


@pytest.mark.parametrize(
    ("relation", "templates", "says"),
    [
        (RELATION, [], "no template in 'de'"),
        (RELATION, ["ist aus"], "A template is 'ist aus'"),
        (RELATION, ["{} {}"], "A template is '{} {}'"),
        (rn.Relation("r", ("{} ist",), (), tuple(FACTS), language="de"), ["{} ist"], "'r' is in 'de'"),
    ],
)
def test_a_relation_that_cannot_be_translated_is_refused_before_any_request(api, relation, templates, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        translate_relation(relation, "de", templates, endpoint=api.endpoint)
    assert api.asked == []
