"""Rules of correctness of generated answers, and kinds of errors, as pure functions of text.

An empty answer is never correct.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from relation_neurons.relations import translations
from relation_neurons.relations.normalization import STOPS, begins_with_signs, settled, strip, words

ERROR_KINDS = ("right", "empty", "repeats the prompt", "other answer", "the", "a", "other")
"""The results of `error_kind`, in the order in which they are tested."""


def prefix_rule(two_tokens: str, object: str) -> bool:
    """The paper's rule (section 4): the first two generated tokens are a prefix of the object.

    Case, accents, surrounding spaces and leading punctuation are ignored; signs before a number
    (-5, $5) and names without words (€) count. The rule is strict: "Boston." is not a prefix of
    "Boston", so an answer with a single-token object is correct only if the second token is white
    space.

    Args:
        two_tokens: Text of the first two greedy tokens.
        object: The correct answer.

    Example:
        >>> prefix_rule(" New York", "New York City"), prefix_rule("", "Paris"), prefix_rule(" Paris.", "Paris")
        (True, False, False)
    """
    answer = strip(two_tokens)
    return bool(answer) and strip(object).startswith(answer)


def may_become_right(first_token: str, object: str) -> bool:
    r"""Whether some second token could make `prefix_rule` true; true if that is uncertain.

    A text that ends in U+FFFD ends inside a character that the second token completes: uncertain.

    Args:
        first_token: Text of the first greedy token alone.
        object: The correct answer.

    Example:
        >>> may_become_right(" New", "New York"), may_become_right(" Old", "New York"), may_become_right(" ", "Paris")
        (True, False, True)
        >>> may_become_right("か", "がん")  # a voicing mark may follow
        True
    """
    start = strip(first_token)
    is_certain = re.search(r"\w", start) and not first_token.endswith("\ufffd")
    return not is_certain or strip(object).startswith(settled(start))


def exact_rule(generated: str, object: str) -> bool:
    r"""The first line of the answer equals the object; one final punctuation mark is allowed.

    Case and accents matter; surrounding white space and Unicode normalisation do not.

    Example:
        >>> exact_rule(" Paris.\nIt", "Paris"), exact_rule(" paris", "Paris"), exact_rule(" Paris is", "Paris")
        (True, False, False)
    """
    answer, target = (unicodedata.normalize("NFC", text) for text in (_first_line(generated), object))
    return bool(target) and (answer == target or (answer[:-1] == target and answer[-1] in STOPS))


def string_rule(generated: str, object: str, language: str = "en") -> bool:
    r"""The answer begins with the words of the object.

    Case, punctuation and a leading article of the language ("the", "a", "an") are ignored; so are
    accents on Latin, Greek and Cyrillic letters. In other scripts marks form other letters (か, が)
    and matter. Signs count where they belong to a word: before a number (-5, $5), behind a word (C#,
    C++, 5%, O-) and inside a number (1,000, 3.5). For an object without words (€, +) the answer
    begins with it, alone or in quotation marks. Only the first line is used.

    Chinese characters, Hiragana, Thai, Lao, Burmese and Khmer do not mark the ends of words, so any
    text may follow the object: "巴黎是" ("Paris is") is correct for "巴黎". A run of Katakana is a word,
    so for "パリ", "パリは" ("Paris, ...") is correct and "パリジャン" ("Parisian") is not. Korean words are
    separated by spaces.

    Example:
        >>> string_rule(" The Netherlands.\nThe", "Netherlands"), string_rule(" Parisian", "Paris")
        (True, False)
        >>> string_rule(" C# is", "C#"), string_rule(" C#", "C"), string_rule(" €.", "€")
        (True, False, True)
    """
    return _matched_words(generated, object, language) > 0


def _matched_words(generated: str, object: str, language: str) -> int:
    """The number of words of the object if the answer begins with them, otherwise 0."""
    line, target = _first_line(generated), words(object, language)
    if not target:
        return int(begins_with_signs(line, object))
    return len(target) if words(line, language)[: len(target)] == target else 0


@dataclass(frozen=True)
class Rule:
    """A rule of correctness; call it with an answer, the object and the object's aliases.

    Where several of the relation's objects fit the beginning of an answer, only the longest is
    correct: "Guinea-Bissau" is not a correct answer for "Guinea" if both are objects.

    Attributes:
        name: Name of the rule.
        meaning: Short description of a correct answer.
        tokens: Number of greedy tokens that the rule uses; None means the whole answer.
        fit: Returns how many words of an object (second argument) an answer (first argument) begins
            with, in a language; 0 if it is not correct. The rules `prefix` and `exact` return 1 or 0.
        by_alias: Whether aliases of the object are also correct.

    Example:
        >>> [RULES[name](" USA.", "United States", ("USA", "US")) for name in ("string", "alias")]
        [False, True]
        >>> RULES["string"](" Guinea-Bissau", "Guinea", candidates=("Guinea", "Guinea-Bissau"))
        False
    """

    name: str
    meaning: str
    tokens: int | None
    fit: Callable[[str, str, str], int]
    by_alias: bool = False

    def __call__(
        self,
        answer: str,
        object: str,
        aliases: Sequence[str] = (),
        language: str = "en",
        candidates: Sequence[str] = (),
    ) -> bool:
        """Whether an answer is correct; `candidates` are the relation's objects."""
        own = max(self.fit(answer, name, language) for name in (object, *(aliases if self.by_alias else ())))
        return own > 0 and all(self.fit(answer, name, language) <= own for name in candidates)


def _prefix_rule(answer: str, object: str, language: str) -> int:
    return int(prefix_rule(answer, object))


def _exact_rule(answer: str, object: str, language: str) -> int:
    return int(exact_rule(answer, object))


RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("prefix", "the first two tokens are a prefix of the object (the paper's rule)", 2, _prefix_rule),
        Rule(
            "exact", "the answer's first line equals the object, apart from a final punctuation mark", None, _exact_rule
        ),
        Rule("string", "the answer begins with the object, ignoring case and accents", None, _matched_words),
        Rule("alias", "the answer begins with the object or one of its aliases", None, _matched_words, by_alias=True),
    )
}
"""Rules of correctness by name."""


def error_kind(
    generated: str,
    prompt: str,
    object: str,
    candidates: Sequence[str],
    aliases: Sequence[str] = (),
    language: str = "en",
) -> str:
    """Classify an answer (the paper's Table 4): the first of `ERROR_KINDS` that applies.

    - `right`: correct by the rule `alias`.
    - `empty`: no word in the first line, and no object without words.
    - `repeats the prompt`: the first one or two words, up to any punctuation and without a leading
      article, are adjacent in the query.
    - `other answer`: begins with another candidate, by the rule `string`.
    - `the`, `a`: begins with "the", or with "a" or "an".
    - `other`: any other answer.

    Args:
        generated: The answer.
        prompt: The query alone, without few-shot examples.
        object: The correct answer.
        candidates: The relation's objects.
        aliases: Other names of the correct answer.
        language: Language code, for its articles.

    Example:
        >>> query, capitals = "The capital of France is? Answer:", ("Paris", "Rome")
        >>> answers = (" Paris.", " The capital of", " Rome", " A. Lyon")
        >>> [error_kind(answer, query, "Paris", capitals) for answer in answers]
        ['right', 'repeats the prompt', 'other answer', 'a']
    """
    line = unicodedata.normalize("NFC", _first_line(generated))
    is_other = any(string_rule(generated, candidate, language) for candidate in candidates)
    article = re.match(r"[\W_]*(the|an?)\b", line, re.IGNORECASE)
    applies = {
        "right": RULES["alias"](generated, object, aliases, language, candidates),
        "empty": not words(line, language) and not is_other,
        "repeats the prompt": _repeats(line, prompt, language),
        "other answer": is_other,
        "the": article and article[1].casefold() == "the",
        "a": article,
        "other": True,
    }
    return next(kind for kind in ERROR_KINDS if applies[kind])


def answer_is_over(generated: str) -> bool:
    """Whether a generated answer is complete: its first non-empty line has ended."""
    return "\n" in generated.lstrip()


def to_line_end(generated: str) -> str:
    """A generated text up to the end of its first non-empty line."""
    body = generated.lstrip()
    return generated[: len(generated) - len(body)] + body.split("\n")[0]


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0].strip()


def _repeats(line: str, prompt: str, code: str) -> bool:
    parts = (words(part, code) for part in re.split(f"[{STOPS}]", line))
    answer, query = next(filter(None, parts), ())[:2], words(prompt, code)
    starts = range(len(query)) if answer and answer[0] not in translations.language(code).articles else ()
    return any(query[start : start + len(answer)] == answer for start in starts)
