"""Bars on a terminal, lines in a log file."""

import io

import pytest
from rich.console import Console

from relation_neurons.progress import bar


class Clock:
    """Seconds that pass when told to."""

    seconds = 100.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def log(clock, steps, total, label="answering prompts"):
    """The lines after steps of (seconds, items)."""
    file = io.StringIO()
    with bar(label, total, Console(file=file, width=20), clock) as progress:
        for seconds, items in steps:
            clock.seconds += seconds
            progress(items)
    return file.getvalue().splitlines()


def test_a_log_file_gets_a_line_every_half_minute_and_at_the_end(clock):
    assert log(clock, [(10, 5)] * 8, 40) == [
        "answering prompts: 15/40, 0.5/s, 0:00:50 left",
        "answering prompts: 30/40, 0.5/s, 0:00:20 left",
        "answering prompts: 40/40, 0.5/s, 0:01:20 in total",
    ]


def test_resumed_items_do_not_raise_the_rate_of_later_lines(clock):
    assert log(clock, [(0, 900), (30, 3), (30, 3)], 1000) == [
        "answering prompts: 903/1000, 30/s, 0:00:03 left",
        "answering prompts: 906/1000, 0.1/s, 0:15:40 left",
        "answering prompts: 906/1000, 15/s, 0:01:00 in total",
    ]


def test_a_short_stage_is_one_line_and_labels_are_no_markup(clock):
    assert log(clock, [(2, 4)], 4, "[b]a") == ["[b]a: 4/4, 2/s, 0:00:02 in total"]
    assert log(clock, [(1, 2500)], 2500, "many") == ["many: 2500/2500, 2,500/s, 0:00:01 in total"]
    assert log(clock, [], 0, "none") == ["none: 0/0, 0:00:00 in total"]


def test_a_stage_that_waits_for_others_says_so(clock):
    assert log(clock, [(10, 0), (20, 0), (30, 6)], 12)[:2] == [
        "answering prompts: 0/12, none in 0:00:30",
        "answering prompts: 6/12, 0.2/s, 0:00:30 left",
    ]


def test_a_stage_that_fails_says_how_far_it_came(clock):
    file = io.StringIO()
    with pytest.raises(KeyboardInterrupt), bar("reading", 9, Console(file=file), clock) as progress:
        clock.seconds += 4
        progress(2)
        raise KeyboardInterrupt
    assert file.getvalue() == "reading: 2/9, 0.5/s, 0:00:04 in total\n"


def test_a_terminal_keeps_its_bar():
    file = io.StringIO()
    with bar("reading", 9, Console(file=file, force_terminal=True, width=90)) as progress:
        progress(4)
        progress(5)
    assert "/s" in file.getvalue()
    assert "━" in file.getvalue()
    assert "in total" not in file.getvalue()
