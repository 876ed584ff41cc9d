"""Normalise texts, so that names are compared by what tells them apart.

Case, accents, compatibility forms and punctuation do not count. A sign counts where it belongs to a
word: before a number (-5, $5), behind a word (C#, C++, 5%, O-) and inside a number (1,000, 3.5).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from functools import lru_cache

from relation_neurons.relations import translations

STOPS = ".,;:!?…\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f"
"""Punctuation that ends a sentence or a part of one."""
_AROUND = STOPS + "\"'`*_()[]«»“”‘’„"  # noqa: RUF001
_CURRENCY = "$\u00a2-\u00a5\u20a0-\u20cf"
_BEFORE_NUMBER = rf"[-+±{_CURRENCY}]+(?=\d)"
_SIGN = re.compile(
    rf"(?<!\w){_BEFORE_NUMBER}|(?<=\w)[+#%‰°♭♯{_CURRENCY}]+|(?<=\d)[.,:/](?=\d)"
    r"|(?:(?<=\b\w)|(?<=\b\w\w))-(?![\w-])"  # O-, AB-; behind a longer word it is a hyphen
)
_LEADING = re.compile(rf"(?:(?!{_BEFORE_NUMBER})\W)+")
_ONE_FORM = {**dict.fromkeys(map(ord, "\u2010\u2012\u2013\u2212"), "-"), 0x2044: "/"}
"""Hyphens, en dash and minus sign are one sign, as are both slashes."""
_BARE_ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")
"""Scripts whose accents are ignored, as the first word of a letter's Unicode name."""
# Thai, Lao, Burmese, Khmer, Hiragana, Chinese: without spaces, so each character is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u309f\u3005\u3007\u3400-\u9fff\U00020000-\U000323af"
_WORD = re.compile(rf"[{_UNSPACED}][^\w\s]*|(?![{_UNSPACED}])[-+±{_CURRENCY}\w][^\s{_UNSPACED}]*")


@lru_cache(maxsize=1 << 14)
def words(text: str, code: str) -> tuple[str, ...]:
    """The words of a text without a leading article of the language, each with its signs.

    Example:
        >>> words("The C++ (1,000 lines)", "en"), words("U.S. - Türkei", "de")
        (('c++', '1,000', 'lines'), ('u', 's', 'turkei'))
    """
    letters = plain(text)
    signs = {place for match in _SIGN.finditer(letters) for place in range(*match.span())}
    # Many scripts write vowels as marks, which \w does not match.
    kept = (
        letter if letter.isalnum() or is_mark(letter) or place in signs else " " for place, letter in enumerate(letters)
    )
    found = tuple(_WORD.findall("".join(kept)))
    return found[1:] if len(found) > 1 and found[0] in translations.language(code).articles else found


def begins_with_signs(line: str, name: str) -> bool:
    """Whether a text begins with a name without words, such as € or ++, by itself or in quotation marks."""
    target, start = plain(name).split(), re.split(f"[{_UNSPACED}]", plain(line))[0].split()
    answer, signs = (
        "".join(letter for letter in "".join(part) if not is_mark(letter)) for part in (start[: len(target)], target)
    )
    return bool(signs) and signs in (answer, answer.strip(_AROUND))


@functools.lru_cache(maxsize=1 << 16)
def strip(text: str) -> str:
    """A normalised text without leading characters that belong to no word; if it has no word, without quotes."""
    bare = plain(text).strip()
    return re.sub(rf"\A{_LEADING.pattern}", "", bare) or bare.lstrip(_AROUND) or bare


def settled(text: str) -> str:
    """The part of a normalised text that no continuation changes; marks may join the last letter."""
    end = len(text)
    while end and is_mark(text[end - 1]):
        end -= 1
    return text[: end - 1] if end and _keeps_marks(text[end - 1]) else text[:end]


@functools.lru_cache(maxsize=1 << 16)
def plain(text: str) -> str:
    """The text without case, compatibility forms and accents (see `_keeps_marks`)."""
    kept, base = [], ""
    for character in unicodedata.normalize("NFKD", text.casefold()).translate(_ONE_FORM):
        base = base if is_mark(character) else character
        if not unicodedata.combining(character) or _keeps_marks(base):
            kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))


def is_mark(character: str) -> bool:
    """Whether a character is a mark, such as an accent, and no letter of its own."""
    return unicodedata.category(character).startswith("M")


def _keeps_marks(base: str) -> bool:
    """Whether a mark on this character forms another letter, as in か and が, and is not an accent."""
    return base.isalpha() and not unicodedata.name(base, "").startswith(_BARE_ALPHABETS)
