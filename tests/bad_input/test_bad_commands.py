"""Whatever a command is given, it is refused in words and leaves nothing behind."""

import pytest

from tests.bad_input.cases import carry_out, cases, files

pytestmark = pytest.mark.usefixtures("offline")


ASKED = {
    "--model": ["./nowhere", "/nowhere/x.gguf", "FOLDER", "BROKEN", "x" * 5000],
    "--device": ["nowhere", "", "cuda:x"],
}
CONFIG = ASKED | {
    "--relations": ["nowhere", "FOLDER", "BROKEN", "[/red]"],
    "--site": ["pst", ""],
    "--k": ["0", "-3", "1.5"],
}
CONFIG |= {"--seed": ["x", "1e3"], "--batch-size": ["0", "-1"], "--shots": ["-1", "x"], "--n-evaluation": ["0", "x"]}
CONFIG |= {"--templates": ["al"], "--language": [""], "--dtype": ["float8"], "--nowhere": ["1"], "--out": ["BROKEN"]}
CONFIG |= {"--split": ["object"]}
STUDY = CONFIG | {"--scorer": ["aurok"], "--match": ["layers"], "--rule": ["suffix"], "--n-controls": ["1", "x"]}
LOOK = {"--nowhere": ["1"], "": ["nowhere", "FOLDER", "BROKEN", "/nowhere/\x01", "x" * 5000, "/dev/null"]}
COMMANDS = {
    ("run",): CONFIG,
    ("compare-scores",): {name: bad for name, bad in CONFIG.items() if name not in ("--out", "--dtype")},
    ("compare-methods",): STUDY,
    ("parity",): {"--model": ASKED["--model"], "--nowhere": ["1"]},
    ("relations",): LOOK,
    ("report",): LOOK,
    ("scorecard",): LOOK | {"--out": ["card.txt"]},
    ("generate", "a text"): {"--neurons": ["x", "./nowhere:x", "FOLDER:x"], "--nowhere": ["1"], "--k": ["x"]},
    ("explore",): LOOK | {"--port": ["x", "-1", "65536"], "--device": ["nowhere"]},
    ("figures",): LOOK | {"--format": ["gif"], "--experiments": ["intraa"], "--width": ["x"]},
    ("neuron",): {"": ["L1", "gaet:L1.N2", "LX.N1", "-1"]},
    ("neuron", "L0.N0"): STUDY | {"--run": ["./nowhere", "FOLDER", "BROKEN"]} | {"--n-resamples": ["1", "x"]},
    ("data", "check"): LOOK | {"--n-evaluation": ["0"], "--shots": ["-1"]},
    ("data", "describe"): LOOK | {"--model": ASKED["--model"], "--validate": ["x"]},
    ("data", "translate"): LOOK | {"--lang": ["../x", "", "/x"]},
    ("data", "fetch"): {"": ["lree"], "--source": ["FOLDER", "BROKEN", "./nowhere"], "--nowhere": ["1"]},
    ("notebooks", "run"): {
        "": ["99"],
        "--profile": ["demoo"],
        "--k": ["0"],
        "--relations": ["nowhere"],
        "--model": ["./x"],
    },
    ("notebooks", "copy"): {"": ["BROKEN"]},
    ("notebooks", "copy", "copies"): {"": ["99"], "--nowhere": ["1"]},
    ("runs", "list"): LOOK,
    ("runs", "show"): LOOK,
    ("runs", "verify"): LOOK,
    ("runs", "clean"): LOOK,
    ("doctor",): {"--dtype": ["float8"], "--n-prompts": ["x"], "--nowhere": ["1"]},
    ("reproduce", "all"): STUDY
    | {"--profile": ["ful"], "--counts": ["./nowhere", "FOLDER"], "--corpus": ["./nowhere"]},
    ("reproduce",): {"": ["intraa", "FOLDER"], "--nowhere": [""]},
    ("reproduce", "frequency"): STUDY | {"--counts": ["./nowhere", "FOLDER", "BROKEN"]},
    ("",): {"": ["runn", "data", "--nowhere", ""]},
} | {("reproduce", name): STUDY for name in ("intra", "inter", "layers", "cumulativity", "sweep", "languages")}
SAFE = {("run",), ("compare-scores",), ("compare-methods",), ("neuron", "L0.N0")} | {
    one for one in COMMANDS if one[0] == "reproduce"
}
MAY_SUCCEED = {("relations",), ("runs", "list"), ("data", "check"), ("data", "describe"), ("data", "fetch")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder to work in, with an empty folder and a file that is nothing."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "empty").mkdir()
    (folder / "broken.json").write_bytes(b"\x80{")
    return folder


def command_line(chance):
    """A command, and it with some of its arguments wrong."""
    command = chance.kind("command", list(COMMANDS))
    options = COMMANDS[command]
    words = [word for word in command if word]
    for name in chance.sample(list(options), min(len(options), chance.randint(1, 3))):
        value = chance.kind(name, options[name])
        words += [name, value] if name else [value]
    if command in SAFE and "--model" not in words:  # whatever else is right, no model is loaded
        words += ["--model", "./nowhere"]
    return command, words


def test_a_bad_command_is_refused_in_words_and_leaves_nothing(place, monkeypatch, full):
    monkeypatch.chdir(place)
    monkeypatch.setenv("RELATION_NEURONS_DATA", str(place / "cache"))
    places = {"FOLDER": str(place / "empty"), "BROKEN": str(place / "broken.json")}
    for command, words in cases("command lines", command_line, full):
        words = [places.get(word, word) for word in words]
        before = files(place)
        status, said = carry_out(words)
        assert status == 2 or (status in (0, 1) and command in MAY_SUCCEED), (words, status, said)
        assert status == 0 or command in MAY_SUCCEED or said.strip(), words
        assert files(place) == before, words
