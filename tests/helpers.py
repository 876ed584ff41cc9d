"""Cases for full runs, and prompts for the tiny random Llama.

Their words are w0 to w59; queries differ in length, and may follow examples.
"""

import random

import pytest

from relation_neurons import Prompt

CANDIDATES = ("w1", "w2 w3", "w4 w5 w6", "w7")


def full_only(*cases: object) -> list:
    """Cases of a parametrized test, values or tuples of them, that are left out without `--full`."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.full) for case in cases]


def word_prompts(n: int, *, examples: bool, seed: int = 0) -> list[Prompt]:
    generator = random.Random(seed)
    shown = ["w8 w9 ? Answer: w1\nw10 ? Answer: w7\n", "w11 ? Answer: w2 w3\n"]
    prompts = []
    for number in range(n):
        words = " ".join(f"w{generator.randrange(60)}" for _ in range(generator.randint(1, 7)))
        before = shown[number % 2] if examples else ""
        prompts.append(
            Prompt(
                relation=f"r{number % 2}",
                subject=f"{words} {number}",
                object=CANDIDATES[number % 4],
                text=f"{before}{words} ? Answer:",
                query_start=len(before),
                candidates=CANDIDATES,
            )
        )
    return prompts
