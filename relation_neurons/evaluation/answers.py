"""When is a generated answer right, and what is said when it is not? Pure functions of text.

An empty answer is never right, whatever the rule.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from relation_neurons.relations import translations

ERROR_KINDS = ("right", "empty", "repeats the prompt", "other answer", "the", "a", "other")
"""What `error_kind` can return, in the order of its tests."""

_BARE_ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")
"""Scripts, as they begin a character's Unicode name, whose accents do not count."""
_STOPS = ".,;:!?…\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f"
# Thai and Lao, Burmese, Khmer, Hiragana, Chinese characters: written without spaces, so each character is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u309f\u3005\u3007\u3400-\u9fff\U00020000-\U000323af"
_WORD = re.compile(rf"[{_UNSPACED}][^\w\s]*|(?![{_UNSPACED}])\w[^\s{_UNSPACED}]*")


def prefix_rule(two_tokens: str, object: str) -> bool:
    """The paper's rule (section 4): the first two generated tokens are a prefix of the object.

    Case, accents, outer spaces and leading non-word characters do not count. Strict: "Boston." is not a prefix of
    "Boston", so single-token objects are right only if the second token adds nothing but white space.

    Args:
        two_tokens: Text of the first two greedy tokens.
        object: The right answer.

    Example:
        >>> prefix_rule(" New York", "New York City"), prefix_rule("", "Paris"), prefix_rule(" Paris.", "Paris")
        (True, False, False)
    """
    said = _strip(two_tokens)
    return bool(said) and _strip(object).startswith(said)


def may_become_right(first_token: str, object: str) -> bool:
    r"""Whether some second token could still make `prefix_rule` true; where that is not certain, true.

    False only if no continuation of the text can. A text that ends in U+FFFD ends inside a character, which the second
    token completes, so anything may become of it.

    Args:
        first_token: Text of the first greedy token alone.
        object: The right answer.

    Example:
        >>> may_become_right(" New", "New York"), may_become_right(" Old", "New York"), may_become_right(" ", "Paris")
        (True, False, True)
        >>> may_become_right("か", "がん")  # a voicing mark may follow
        True
    """
    return first_token.endswith("\ufffd") or _strip(object).startswith(_settled(_strip(first_token)))


def exact_rule(generated: str, object: str) -> bool:
    r"""The first line of the answer is the object to the letter; one punctuation mark may follow it.

    Case and accents count, outer white space does not. Two encodings of the same letter are the same.

    Example:
        >>> exact_rule(" Paris.\nIt", "Paris"), exact_rule(" paris", "Paris"), exact_rule(" Paris is", "Paris")
        (True, False, False)
    """
    said, right = (unicodedata.normalize("NFC", text) for text in (_first_line(generated), object))
    return bool(right) and (said == right or (said[:-1] == right and said[-1] in _STOPS))


def string_rule(generated: str, object: str, language: str = "en") -> bool:
    r"""The answer begins with the whole object, and the object's last word is not part of a longer word.

    Case, punctuation and a leading article of the language ("the", "a", "an") do not count, nor do the accents of
    Latin, Greek and Cyrillic letters; elsewhere marks make another letter (か, が) and do count. Only the first line is
    read.

    Chinese characters, Hiragana, Thai, Lao, Burmese and Khmer show no ends of words, so there anything may follow the
    object: "巴黎是" ("Paris is") is right for "巴黎", at the price that a longer name with that beginning is right too.
    A run of Katakana is a word, so "パリは" ("Paris, ...") is right for "パリ" and "パリジャン" ("Parisian") wrong.
    Korean has spaces and is read by them.

    Example:
        >>> string_rule(" The Netherlands.\nThe", "Netherlands"), string_rule(" Parisian", "Paris")
        (True, False)
    """
    said, right = _words(_first_line(generated), language), _words(object, language)
    return bool(right) and said[: len(right)] == right


@dataclass(frozen=True)
class Rule:
    """A rule of correctness; call it with what was said, the object and the object's other names.

    Attributes:
        name: What the rule is called.
        meaning: What counts as right, in a line.
        tokens: How many of the first greedy tokens make up what the rule reads; none means the whole answer.
        judge: Says whether a text names an object.
        by_alias: Whether an alias is as good as the object.

    Example:
        >>> [RULES[name](" USA.", "United States", ("USA", "US")) for name in ("string", "alias")]
        [False, True]
    """

    name: str
    meaning: str
    tokens: int | None
    judge: Callable[[str, str, str], bool]
    by_alias: bool = False

    def __call__(self, said: str, object: str, aliases: Sequence[str] = (), language: str = "en") -> bool:
        """Whether what was said is right."""
        return any(self.judge(said, name, language) for name in (object, *(aliases if self.by_alias else ())))


def _prefix_rule(said: str, object: str, language: str) -> bool:
    return prefix_rule(said, object)


def _exact_rule(said: str, object: str, language: str) -> bool:
    return exact_rule(said, object)


RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("prefix", "the first two tokens are a prefix of the object (the paper's rule)", 2, _prefix_rule),
        Rule("exact", "the answer's first line is the object to the letter, a final stop aside", None, _exact_rule),
        Rule("string", "the answer begins with the object; case and accents do not count", None, string_rule),
        Rule("alias", "the answer begins with the object or another name of it", None, string_rule, by_alias=True),
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
    """What kind of answer this is (the paper's Table 4): the first of `ERROR_KINDS` that fits.

    - `right`: by the rule `alias`.
    - `empty`: no word in the first line.
    - `repeats the prompt`: the first two words (or the one) in front of any stop, an article before them aside, stand
      side by side in the query.
    - `other answer`: begins with another candidate, by the rule `string`.
    - `the`, `a`: begins with "the", or with "a" or "an", whatever follows.
    - `other`: all the rest.

    Args:
        generated: The answer.
        prompt: The query alone, without solved examples.
        object: The right answer.
        candidates: The relation's objects.
        aliases: Other names of the right answer.
        language: Whose articles do not count.

    Example:
        >>> query, capitals = "The capital of France is? Answer:", ("Paris", "Rome")
        >>> [error_kind(said, query, "Paris", capitals) for said in (" Paris.", " The capital of", " Rome", " A. Lyon")]
        ['right', 'repeats the prompt', 'other answer', 'a']
    """
    line = unicodedata.normalize("NFC", _first_line(generated))
    article = re.match(r"[\W_]*(the|an?)\b", line, re.IGNORECASE)
    fits = {
        "right": RULES["alias"](generated, object, aliases, language),
        "empty": not _words(line, language),
        "repeats the prompt": _repeats(line, prompt, language),
        "other answer": any(string_rule(generated, candidate, language) for candidate in candidates),
        "the": article and article[1].casefold() == "the",
        "a": article,
        "other": True,
    }
    return next(kind for kind in ERROR_KINDS if fits[kind])


def answer_is_over(generated: str) -> bool:
    """Whether a generated answer has come to its end: something was said, then the line ended."""
    return "\n" in generated.lstrip()


def to_line_end(generated: str) -> str:
    """A generated text up to the end of its first line that says something."""
    body = generated.lstrip()
    return generated[: len(generated) - len(body)] + body.split("\n")[0]


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0].strip()


def _repeats(line: str, prompt: str, code: str) -> bool:
    parts = (_words(part, code) for part in re.split(f"[{_STOPS}]", line))
    said, asked = next(filter(None, parts), ())[:2], _words(prompt, code)
    starts = range(len(asked)) if said and said[0] not in translations.language(code).articles else ()
    return any(asked[start : start + len(said)] == said for start in starts)


def _strip(text: str) -> str:
    return re.sub(r"^\W+", "", _plain(text)).strip()


def _settled(said: str) -> str:
    """What of a normalised text stays as it is, whatever follows: marks or a Korean vowel may join the last letter."""
    end = len(said)
    while end and _is_mark(said[end - 1]):
        end -= 1
    return said[: end - 1] if end and _keeps_marks(said[end - 1]) else said[:end]


def _plain(text: str) -> str:
    """The text without case and compatibility forms, and without marks except on letters that keep theirs."""
    kept, base = [], ""
    for character in unicodedata.normalize("NFKD", text.casefold()):
        base = base if _is_mark(character) else character
        if not unicodedata.combining(character) or _keeps_marks(base):
            kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _keeps_marks(base: str) -> bool:
    """Whether a mark on this character makes another letter, as か and が, rather than an accent."""
    return base.isalpha() and not unicodedata.name(base, "").startswith(_BARE_ALPHABETS)


@lru_cache(maxsize=1 << 14)
def _words(text: str, code: str) -> tuple[str, ...]:
    # Many scripts write vowels as marks, which no regular expression here counts as part of a word.
    spelt = (letter if letter.isalnum() or _is_mark(letter) else " " for letter in _plain(text))
    words = tuple(_WORD.findall("".join(spelt)))
    return words[1:] if len(words) > 1 and words[0] in translations.language(code).articles else words
