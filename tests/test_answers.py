import pytest

from relation_neurons.answers import answer_is_over, prefix_rule, string_rule, to_line_end


@pytest.mark.parametrize(
    ("said", "object", "right"),
    [
        (" New York", "New York City", True),
        (" new york", "New York City", True),
        (" Paris\n", "Paris", True),
        (' "Paris', "Paris", True),
        (" Paris.", "Paris", False),  # strict, as in the paper
        (" Par", "Paris", True),
        (" Lyon", "Paris", False),
        ("", "Paris", False),
        ("  \n", "Paris", False),
        (" ...", "Paris", False),
        (" The Netherlands", "Netherlands", False),
    ],
)
def test_prefix_rule(said, object, right):
    assert prefix_rule(said, object) is right


@pytest.mark.parametrize(
    ("said", "object", "right"),
    [
        (" Paris.\nThe capital", "Paris", True),
        (" The Netherlands", "Netherlands", True),
        (" Bogota", "Bogotá", True),
        (" Washington D.C. is", "Washington, D.C.", True),
        (" Parisian", "Paris", False),
        (" Par", "Paris", False),
        (" I think Paris", "Paris", False),
        (" New", "New York", False),
        ("\n\nParis", "Paris", True),
        ("", "Paris", False),
        (" ???", "Paris", False),
        (" the", "The Hague", False),
    ],
)
def test_string_rule(said, object, right):
    assert string_rule(said, object) is right


@pytest.mark.parametrize(
    ("said", "kept"), [(" Paris", " Paris"), (" Paris\nThe", " Paris"), ("\n Paris\nThe", "\n Paris"), ("\n\n", "\n\n")]
)
def test_an_answer_is_kept_to_the_end_of_its_line(said, kept):
    assert to_line_end(said) == kept


@pytest.mark.parametrize(("said", "over"), [(" Paris", False), (" Paris\n", True), ("\nParis", False), ("", False)])
def test_an_answer_ends_with_its_line(said, over):
    assert answer_is_over(said) is over
