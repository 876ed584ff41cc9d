"""While tests run, functions that state shapes refuse others."""

import jaxtyping
import numpy as np
import pytest

from relation_neurons.scores import effect_size
from relation_neurons.statistics import hypothesis_tests


def test_a_wrong_shape_is_refused_though_the_function_does_not_look():
    with pytest.raises(jaxtyping.TypeCheckError, match="fact"):
        hypothesis_tests.sign_flip_test(np.zeros((2, 2)))


def test_a_shape_that_another_module_names_counts():
    checked = effect_size.by_effect_size.__wrapped__  # below `validated`
    assert hasattr(checked, "__wrapped__")


def test_functions_without_shapes_are_left_alone(full):
    assert hasattr(hypothesis_tests.sign_flip_test, "__wrapped__")
    assert hasattr(hypothesis_tests.mcnemar_test, "__wrapped__") == full
