"""When is a generated answer right? Pure functions of text; an empty answer is never right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping


def prefix_rule(two_tokens: str, object: str) -> bool:
    """The paper's rule (section 4): the first two generated tokens are a prefix of the object.

    Case, outer spaces and leading non-word characters do not count. Strict: "Boston." is not a prefix of "Boston", so
    single-token objects are right only if the second token adds nothing but white space.

    Args:
        two_tokens: Text of the first two greedy tokens.
        object: The right answer.

    Example:
        >>> prefix_rule(" New York", "New York City"), prefix_rule("", "Paris"), prefix_rule(" Paris.", "Paris")
        (True, False, False)
    """
    said = _strip(two_tokens)
    return bool(said) and _strip(object).startswith(said)


def string_rule(generated: str, object: str) -> bool:
    r"""The answer begins with the whole object, and the object's last word is not part of a longer word.

    Case, accents, punctuation and a leading "the", "a" or "an" do not count; only the first line is read.

    Example:
        >>> string_rule(" The Netherlands.\nThe", "Netherlands"), string_rule(" Parisian", "Paris")
        (True, False)
    """
    said, right = _words(_first_line(generated)), _words(object)
    return bool(right) and said[: len(right)] == right


RULES: Mapping[str, Callable[[str, str], bool]] = {"prefix": prefix_rule, "string": string_rule}
"""Rules of correctness by name; `prefix` reads two tokens, `string` the whole answer."""


def answer_is_over(generated: str) -> bool:
    """Whether a generated answer has come to its end: something was said, then the line ended."""
    return "\n" in generated.lstrip()


def to_line_end(generated: str) -> str:
    """A generated text up to the end of its first line that says something."""
    body = generated.lstrip()
    return generated[: len(generated) - len(body)] + body.split("\n")[0]


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def _strip(text: str) -> str:
    return re.sub(r"^\W+", "", _plain(text)).strip()


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _words(text: str) -> list[str]:
    words = re.findall(r"\w+", _plain(text))
    return words[1:] if len(words) > 1 and words[0] in ("the", "a", "an") else words
