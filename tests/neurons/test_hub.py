"""Neuron sets through a hub that this test serves on loopback, as the client of the real hub speaks to it."""

import base64
import hashlib
import http.server
import json
import re
import threading

import pytest

import relation_neurons as rn
from relation_neurons.models.hooked_model import neuron_space
from tests.neurons.test_files import model_like

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEURONS = rn.NeuronSet(tuple(map(rn.Neuron.parse, ["gate:L2.N3", "down:L0.N1"])), "land", (0.9, 0.25))


class Hub(http.server.BaseHTTPRequestHandler):
    """Makes repositories, takes commits, and serves their files."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = self.path.split("?")[0]
        if asked == "/api/repos/create":
            made = json.loads(body)
            name = "/".join(filter(None, [made.get("organization"), made["name"]]))
            self.server.repos.setdefault(name, {})
            self.answer({"url": f"{self.server.address}/{name}", "name": name})
        elif asked == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif re.fullmatch(r"/api/models/.+/preupload/main", asked):
            files = [one["path"] for one in json.loads(body)["files"]]
            self.answer({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", asked):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.repos[found[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": f"{self.server.address}/{found[1]}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.answer({"error": asked}, 404)

    def do_GET(self):
        asked = self.path.split("?")[0]
        found = re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", asked)
        if found and (content := self.server.repos.get(found[1], {}).get(found[3])):
            self.answer(content, headers={"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT})
        elif (found := re.fullmatch(r"/api/models/(.+?)(/revision/.+)?", asked)) and found[1] in self.server.repos:
            self.answer({"id": found[1], "sha": COMMIT, "siblings": []})
        else:
            self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def answer(self, content, status=200, headers=()):
        sent = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(sent)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repos, server.address = {}, f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_set_survives_the_hub_with_a_card(hub):
    model = model_like()
    options = {"endpoint": hub.address, "token": "hf_none"}
    assert NEURONS.push_to_hub("me/land", model, score="average_precision", **options) == f"{hub.address}/me/land"
    found = rn.NeuronSet.from_hub("me/land", model=model, **options)
    assert found == NEURONS
    assert found.scores == NEURONS.scores
    assert rn.NeuronSet.from_hub("me/land", "land", **options) == NEURONS
    card = hub.repos["me/land"]["README.md"].decode()
    for text in (
        "library_name: relation-neurons",
        "2 at gate, down",
        "`toy`",
        "`average_precision`",
        "| 1 | `gate:L2.N3` |",
    ):
        assert text in card
    assert "from_hub('me/land', model=model)" in card
    with pytest.raises(rn.RelationNeuronsError, match="has no set 'sea'"):
        rn.NeuronSet.from_hub("me/land", "sea", **options)
    with pytest.raises(rn.RelationNeuronsError, match="Expected: neurons of 'other'"):
        rn.NeuronSet.from_hub("me/land", model=model_like(name="other", digest="else"), **options)


def test_what_the_hub_refuses_is_one_sentence(hub):
    options = {"endpoint": hub.address, "token": "hf_none"}
    with pytest.raises(rn.RelationNeuronsError, match="The hub refuses 'me/none'"):
        rn.NeuronSet.from_hub("me/none", **options)
    with pytest.raises(rn.RelationNeuronsError, match="The hub refuses 'not a name'"):
        NEURONS.push_to_hub("not a name", model_like(), **options)
    with pytest.raises(rn.RelationNeuronsError, match="has no neuron"):
        rn.NeuronSet.from_pairs([(9, 9)], site="gate").push_to_hub("me/land", model_like(), **options)


def test_the_fake_model_has_these_sites():
    assert neuron_space(model_like(), "down").widths == (("down", 2),)
