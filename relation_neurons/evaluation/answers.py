"""Rules of correctness of generated answers, and kinds of errors, as pure functions of text.

An empty answer is never correct.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from relation_neurons.relations import translations

ERROR_KINDS = ("right", "empty", "repeats the prompt", "other answer", "the", "a", "other")
"""The results of `error_kind`, in the order in which they are tested."""

_BARE_ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")
"""Scripts whose accents are ignored, as the first word of a letter's Unicode name."""
_STOPS = ".,;:!?…\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f"
# Thai, Lao, Burmese, Khmer, Hiragana, Chinese: without spaces, so each character is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u309f\u3005\u3007\u3400-\u9fff\U00020000-\U000323af"
_WORD = re.compile(rf"[{_UNSPACED}][^\w\s]*|(?![{_UNSPACED}])\w[^\s{_UNSPACED}]*")


def prefix_rule(two_tokens: str, object: str) -> bool:
    """The paper's rule (section 4): the first two generated tokens are a prefix of the object.

    Case, accents, surrounding spaces and leading non-word characters are ignored. The rule is
    strict: "Boston." is not a prefix of "Boston", so an answer with a single-token object is
    correct only if the second token is white space.

    Args:
        two_tokens: Text of the first two greedy tokens.
        object: The correct answer.

    Example:
        >>> prefix_rule(" New York", "New York City"), prefix_rule("", "Paris"), prefix_rule(" Paris.", "Paris")
        (True, False, False)
    """
    answer = _strip(two_tokens)
    return bool(answer) and _strip(object).startswith(answer)


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
    return first_token.endswith("\ufffd") or _strip(object).startswith(_settled(_strip(first_token)))


def exact_rule(generated: str, object: str) -> bool:
    r"""The first line of the answer equals the object; one final punctuation mark is allowed.

    Case and accents matter; surrounding white space and Unicode normalisation do not.

    Example:
        >>> exact_rule(" Paris.\nIt", "Paris"), exact_rule(" paris", "Paris"), exact_rule(" Paris is", "Paris")
        (True, False, False)
    """
    answer, target = (unicodedata.normalize("NFC", text) for text in (_first_line(generated), object))
    return bool(target) and (answer == target or (answer[:-1] == target and answer[-1] in _STOPS))


def string_rule(generated: str, object: str, language: str = "en") -> bool:
    r"""The answer begins with the words of the object.

    Case, punctuation and a leading article of the language ("the", "a", "an") are ignored; so are
    accents on Latin, Greek and Cyrillic letters. In other scripts marks form other letters (か, が)
    and matter. Only the first line is used.

    Chinese characters, Hiragana, Thai, Lao, Burmese and Khmer do not mark the ends of words, so any
    text may follow the object: "巴黎是" ("Paris is") is correct for "巴黎", but so is a longer name that
    begins with it. A run of Katakana is a word, so for "パリ", "パリは" ("Paris, ...") is correct and
    "パリジャン" ("Parisian") is not. Korean words are separated by spaces.

    Example:
        >>> string_rule(" The Netherlands.\nThe", "Netherlands"), string_rule(" Parisian", "Paris")
        (True, False)
    """
    answer, target = _words(_first_line(generated), language), _words(object, language)
    return bool(target) and answer[: len(target)] == target


@dataclass(frozen=True)
class Rule:
    """A rule of correctness; call it with an answer, the object and the object's aliases.

    Attributes:
        name: Name of the rule.
        meaning: Short description of a correct answer.
        tokens: Number of greedy tokens that the rule uses; None means the whole answer.
        judge: Returns whether an answer (first argument) is correct for an object in a language.
        by_alias: Whether aliases of the object are also correct.

    Example:
        >>> [RULES[name](" USA.", "United States", ("USA", "US")) for name in ("string", "alias")]
        [False, True]
    """

    name: str
    meaning: str
    tokens: int | None
    judge: Callable[[str, str, str], bool]
    by_alias: bool = False

    def __call__(self, answer: str, object: str, aliases: Sequence[str] = (), language: str = "en") -> bool:
        """Whether an answer is correct."""
        return any(self.judge(answer, name, language) for name in (object, *(aliases if self.by_alias else ())))


def _prefix_rule(answer: str, object: str, language: str) -> bool:
    return prefix_rule(answer, object)


def _exact_rule(answer: str, object: str, language: str) -> bool:
    return exact_rule(answer, object)


RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("prefix", "the first two tokens are a prefix of the object (the paper's rule)", 2, _prefix_rule),
        Rule(
            "exact", "the answer's first line equals the object, apart from a final punctuation mark", None, _exact_rule
        ),
        Rule("string", "the answer begins with the object, ignoring case and accents", None, string_rule),
        Rule("alias", "the answer begins with the object or one of its aliases", None, string_rule, by_alias=True),
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
    - `empty`: no word in the first line.
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
    article = re.match(r"[\W_]*(the|an?)\b", line, re.IGNORECASE)
    applies = {
        "right": RULES["alias"](generated, object, aliases, language),
        "empty": not _words(line, language),
        "repeats the prompt": _repeats(line, prompt, language),
        "other answer": any(string_rule(generated, candidate, language) for candidate in candidates),
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
    parts = (_words(part, code) for part in re.split(f"[{_STOPS}]", line))
    answer, query = next(filter(None, parts), ())[:2], _words(prompt, code)
    starts = range(len(query)) if answer and answer[0] not in translations.language(code).articles else ()
    return any(query[start : start + len(answer)] == answer for start in starts)


def _strip(text: str) -> str:
    return re.sub(r"^\W+", "", _plain(text)).strip()


def _settled(text: str) -> str:
    """The part of a normalised text that no continuation changes; marks may join the last letter."""
    end = len(text)
    while end and _is_mark(text[end - 1]):
        end -= 1
    return text[: end - 1] if end and _keeps_marks(text[end - 1]) else text[:end]


def _plain(text: str) -> str:
    """The text without case, compatibility forms and accents (see `_keeps_marks`)."""
    kept, base = [], ""
    for character in unicodedata.normalize("NFKD", text.casefold()):
        base = base if _is_mark(character) else character
        if not unicodedata.combining(character) or _keeps_marks(base):
            kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _keeps_marks(base: str) -> bool:
    """Whether a mark on this character forms another letter, as in か and が, and is not an accent."""
    return base.isalpha() and not unicodedata.name(base, "").startswith(_BARE_ALPHABETS)


@lru_cache(maxsize=1 << 14)
def _words(text: str, code: str) -> tuple[str, ...]:
    # Many scripts write vowels as marks, which \w does not match.
    characters = (letter if letter.isalnum() or _is_mark(letter) else " " for letter in _plain(text))
    words = tuple(_WORD.findall("".join(characters)))
    return words[1:] if len(words) > 1 and words[0] in translations.language(code).articles else words
