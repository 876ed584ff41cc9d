import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relation_neurons.evaluation.answers import (
    ERROR_KINDS,
    RULES,
    answer_is_over,
    error_kind,
    may_become_right,
    prefix_rule,
    string_rule,
    to_line_end,
)


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
        (" Bogota", "Bogotá", True),
        (" Bogot\u00e1", "Bogota\u0301", True),  # the accent inside and behind its letter
        (" STRASS", "Straße", True),
        (" istanbul", "İstanbul", True),
        (" Киев", "Киёв", True),
        (" αθη", "Ἀθήνα", True),
        (" N\u00b4D", "N D", True),  # a mark without a letter
        ("巴", "巴黎", True),
        ("巴黎。", "巴黎", False),
        ("か", "がいこく", False),  # another letter, not an accent
        ("カ\u3099", "ガーナ", True),
        ("ｶﾞ", "ガーナ", True),
        ("서우", "서울", False),
        ("\u1109\u1165", "서울", True),
        (" +", "+", True),
        (" €", "€", True),
        (' "€', "€", True),
        (" +", "++", True),
        (" ++", "+", False),
        (" €.", "€", False),  # strict, as in the paper
        (" C#", "C", False),
        (" C", "C++", True),
        (" -5", "5", False),
        (" 5", "-5", False),
        (" -5", "\u22125", True),  # a hyphen for the minus sign
        (" $5", "5", False),
        (" (5", "5", True),
        (" O\u2212", "O+", False),
        (" 1,000", "1", False),
        (" 3.5", "3", False),
        (" *", "*", True),
        (" *5", "5", True),
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
        (" **Paris** is", "Paris", True),
        (" _Paris_", "Paris", True),
        (" \u2764\ufe0f Paris", "Paris", True),  # a heart, coloured by a mark
        ("巴黎。", "巴黎", True),
        ("巴黎是法国的首都", "巴黎", True),
        ("法国的首都是巴黎", "巴黎", False),
        ("巴", "巴黎", False),
        ("Parisです", "Paris", True),
        ("東京です。", "東京", True),
        ("パリです", "パリ", True),
        ("パリジャン", "パリ", False),
        ("パーリ", "パリ", False),
        ("ﾊﾟﾘ", "パリ", True),
        ("ハリ", "パリ", False),
        ("かき", "かぎ", False),
        ("서울 입니다", "서울", True),
        ("서울은", "서울", False),
        ("दिल्ली है", "दिल्ली", True),
        ("दल ला", "दिल्ली", False),
        ("กรุงเทพมหานคร", "กรุงเทพ", True),
        ("กุ", "ก", False),  # the vowel belongs to the letter
        (" +", "+", True),
        (" ++", "+", False),
        (" +", "++", False),
        (" €", "€", True),
        (' "€".', "€", True),
        (" € is the sign", "€", True),
        ("€です", "€", True),
        (" $", "€", False),
        (" $5", "$", False),
        (" + -", "+ -", True),
        (" \u2764\ufe0f.", "\u2764", True),
        (" .", ".", True),
        (" C#", "C", False),
        (" C++ is", "C", False),
        (" C", "C++", False),
        (" C.", "C", True),
        (" C#.", "C#", True),
        (" C++, a language", "C++", True),
        (" -5", "5", False),
        (" \u22125", "-5", True),  # a minus sign
        (" - 5", "5", True),  # an item of a list
        (" 5%", "5", False),
        (" $5", "5", False),
        (" $5.", "$5", True),
        (" O\u2212", "O+", False),
        (" O+ blood", "O+", True),
        (" O-", "O\u2212", True),
        (" O- is", "O", False),
        (" 1,000", "1", False),
        (" 1,000.", "1,000", True),
        (" 1, 2", "1", True),
        (" 3.5", "3", False),
        (" 1/2", "\u00bd", True),
        (" 1976-80", "1976", True),
        (" Rolls Royce", "Rolls-Royce", True),
        (" Paris--the city", "Paris", True),
        (" Paris- the city", "Paris", True),
        (" Fox-Strangways", "Fox- Strangways", True),
        (" AB-.", "AB", False),
        (" #Paris", "Paris", True),
        (" <Paris>", "Paris", True),
    ],
)
def test_string_rule(said, object, right):
    assert string_rule(said, object) is right


@pytest.mark.parametrize(
    ("said", "object", "right"),
    [
        (" Paris", "Paris", True),
        (" Paris.\nThe capital", "Paris", True),
        (" Paris,", "Paris", True),
        ("巴黎。", "巴黎", True),
        (" Bogota\u0301", "Bogot\u00e1", True),
        (" Washington, D.C.", "Washington, D.C.", True),
        (" Washington, D.C..", "Washington, D.C.", True),
        (" Paris..", "Paris", False),
        (" Paris)", "Paris", False),
        (" paris", "Paris", False),
        (" Bogota", "Bogotá", False),
        (" The Netherlands", "Netherlands", False),
        (" Paris, France", "Paris", False),
        ("", "Paris", False),
        (".", "Paris", False),
    ],
)
def test_exact_rule(said, object, right):
    assert RULES["exact"](said, object) is right


def test_only_the_alias_rule_accepts_aliases():
    assert list(RULES) == ["prefix", "exact", "string", "alias"]
    assert all(RULES[name].name == name and RULES[name].meaning for name in RULES)
    assert [rule.tokens for rule in RULES.values()] == [2, None, None, None]
    aliases = ("USA", "United Mexican States")
    assert {name for name in RULES if RULES[name](" USA", "United States", aliases)} == {"alias"}
    assert {name for name in RULES if RULES[name](" United States", "United States", aliases)} == set(RULES)
    assert {name for name in RULES if RULES[name](" united states of", "United States")} == {"string", "alias"}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("said", ["", " ", "\n\n", "...", " \u0301", "。"])
@pytest.mark.parametrize("object", ["Paris", "巴黎", "", "\u0302"])
def test_an_empty_answer_is_never_right(name, said, object):
    assert not RULES[name](said, object, ("Lutetia",))


@pytest.mark.parametrize(
    ("first", "object", "possible"),
    [
        (" New", "New York", True),
        (" N", "New York", True),
        (" New York", "New York", True),
        (" Old", "New York", False),
        (" New Y", "New", False),
        (" Paris.", "Paris", False),
        (" The", "Netherlands", False),
        (" ", "Paris", True),
        (' "', "Paris", True),
        ("", "Paris", True),
        ("e\ufffd", "Éire", True),  # the second token completes the character
        (" Bogot\u00e1", "Bogota", True),
        (" Bogut", "Bogota", False),
        ("か", "がん", True),  # a voicing mark may follow
        ("かん", "がん", False),
        ("\u1109", "서울", True),  # a vowel may follow
        ("서우", "서울", True),  # a final consonant may follow
        ("부서우", "서울", False),
        ("巴", "北京", True),  # in doubt
        ("巴黎", "北京", False),
        (" -", "5", True),  # in doubt
        (" -5", "5", False),
        (" -", "-5", True),
        (" 1", "1,000", True),
        (" 1,", "1", False),
        (" C", "C++", True),
        (" C+", "C", False),
    ],
)
def test_may_become_right(first, object, possible):
    assert may_become_right(first, object) is possible


COUNTRIES = ("Guinea", "Guinea-Bissau", "Papua New Guinea", "Niger", "Nigeria")


@pytest.mark.parametrize("rule", ["string", "alias"])
@pytest.mark.parametrize(
    ("said", "object", "right"),
    [
        (" Guinea-Bissau", "Guinea", False),
        (" Guinea-Bissau", "Guinea-Bissau", True),
        (" guinea bissau.", "Guinea", False),
        (" Guinea.", "Guinea", True),
        (" Guinea is", "Guinea", True),
        (" Guinea", "Guinea-Bissau", False),
        (" Nigeria", "Niger", False),
        (" Papua New Guinea", "Guinea", False),
    ],
)
def test_of_several_objects_that_fit_only_the_longest_is_right(rule, said, object, right):
    assert RULES[rule](said, object, candidates=COUNTRIES) is right
    assert RULES[rule](said, object) is (right or "bissau" in said.lower())  # alone, the shorter fits too


def test_an_alias_that_is_as_long_as_another_object_is_right():
    instruments = ("bass", "bass guitar", "guitar")
    assert RULES["alias"](" bass guitar", "bass", ("bass guitar",), candidates=instruments)
    assert not RULES["string"](" bass guitar", "bass", ("bass guitar",), candidates=instruments)
    assert RULES["string"](" BASS", "bass", candidates=("bass", "Bass"))


def test_chinese_objects_are_compared_by_characters():
    assert not RULES["string"]("几内亚比绍", "几内亚", language="zh", candidates=("几内亚", "几内亚比绍"))
    assert RULES["string"]("几内亚是", "几内亚", language="zh", candidates=("几内亚", "几内亚比绍"))


@pytest.mark.parametrize(
    ("said", "object"),
    [
        (" C#", "C"),
        (" C", "C++"),
        (" -5", "5"),
        (" O\u2212", "O+"),
        (" 1,000", "1"),
        (" 3.5", "3"),
        (" Guinea-Bissau", "Guinea"),
    ],
)
def test_signs_tell_names_apart(said, object):
    candidates = (object, said.strip())
    wrong = {name for name, rule in RULES.items() if not rule(said, object, candidates=candidates)}
    assert wrong == set(RULES) - ({"prefix"} if object == "C++" else set())
    assert all(RULES[name](said, said.strip(), candidates=candidates) for name in RULES)
    assert error_kind(said, "Which is it? Answer:", object, candidates) == "other answer"


@pytest.mark.parametrize("sign", ["$", "€", "£", "¥", "+", "♥", "=", "&"])
def test_objects_made_of_signs_are_right(sign):
    signs = ("$", "€", "£", "¥", "+", "♥", "=", "&")
    for said in signs:
        assert {rule(f" {said}", sign, candidates=signs) for rule in RULES.values()} == {said == sign}
        kind = error_kind(f" {said}", "The sign of the dollar is? Answer:", sign, signs)
        assert kind == ("right" if said == sign else "other answer")


PIECES = st.sampled_from(
    [
        *"+-#%°$€,./:*()=\u2212\u2013\u2044",  # signs
        *"157½",
        *"aAeEnNsSzZiI\u0131İßœŁł .,-'\n19",
        *"éÅñĲﬁªǅ",  # letters that fall apart
        *"\u0301\u0307\u0308\u0323\u0327\u034f\u0345\ufe0f",  # marks of alphabets
        *"αΆΐς\u1fb3йЙё",
        *"かがカガはぱハパー・ゝゞｶﾊﾞﾟ゛\u3099\u309a",
        *"서울한\u1109\u1165\u11af\u3145\u314f",  # syllables and their parts
        *"巴黎。\uf900",
        *"দ\u09c7\u09be\u09d7ক\u0bc6\u0bbeदि\u093c\u094dกุำ",  # vowels and marks that join
        *"\u05d1\u05bc\u0627\u0653\u0654",
        "\ufffd",
    ]
)
TEXTS = st.text(PIECES, max_size=4)
FORMS = st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"])


@given(TEXTS, TEXTS, TEXTS, FORMS)
@example("\u1109", "\u1165\u11af", "", "NFC")
@example("か", "\u3099", "な", "NFC")
@example("I", "\u0307", "", "NFKD")
@example("a\u09c7", "\u0301\u09be", "", "NFC")
@example("-", "5", "", "NFC")
@example("(", "$5", "", "NFC")
@example("*", "*", "", "NFC")
def test_every_right_answer_may_become_right_by_its_first_token(first, second, more, form):
    object = unicodedata.normalize(form, (first + second + more).swapcase())
    if prefix_rule(first + second, object):
        assert may_become_right(first, object)


@given(TEXTS, TEXTS, TEXTS)
def test_answers_that_cannot_become_right_are_never_right(first, second, object):
    assert may_become_right(first, object) or not prefix_rule(first + second, object)


CAPITALS = ("Paris", "Rome", "New York", "Netherlands", "The Hague")
FRANCE = "The capital of France is? Answer:"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (" Paris.\nThe", "right"),
        (" Lutetia", "right"),  # the alias
        ("", "empty"),
        ("\n\n", "empty"),
        (" ...\nParis", "empty"),
        (" The capital of France is", "repeats the prompt"),
        (" the capital", "repeats the prompt"),
        (" capital of", "repeats the prompt"),
        (' "The capital of', "repeats the prompt"),
        (" France is a", "repeats the prompt"),
        (" France", "repeats the prompt"),
        (" France, Rome", "repeats the prompt"),
        (" The France.", "repeats the prompt"),
        (" The capital. It", "repeats the prompt"),
        (" Answer: Paris", "repeats the prompt"),
        (" Rome", "other answer"),
        (" Rome is", "other answer"),
        (" The Netherlands", "other answer"),
        (" The Hague", "other answer"),
        (" A Rome", "other answer"),
        (" Roman", "other"),
        (" The", "the"),
        (" The French capital", "the"),
        (" The city of Rome", "the"),
        (" A. Lyon", "a"),
        (" (a) Lyon", "a"),
        (" A", "a"),
        (" A city", "a"),
        (" An old city", "a"),
        (" à Lyon", "other"),
        (" a\u0300 Lyon", "other"),
        (" Another", "other"),
        (" Theatre", "other"),
        (" Lyon", "other"),
        (" Capital city", "other"),  # "capital city" does not stand in the query
        (" French", "other"),
    ],
)
def test_error_kind(said, kind):
    assert error_kind(said, FRANCE, "Paris", CAPITALS, ("Lutetia",)) == kind


def test_error_kinds_are_tested_in_order():
    assert ERROR_KINDS == ("right", "empty", "repeats the prompt", "other answer", "the", "a", "other")
    fathers = ("Barack Obama", "George Bush")
    assert error_kind(" Barack Obama", "Barack Obama's father is named?", "Hussein", fathers) == "repeats the prompt"
    assert error_kind(" Barack Obama", "Barack Obama's father is named?", "Barack Obama", fathers) == "right"
    assert error_kind(" A", "By profession, Einstein is a?", "physicist", ("physicist",)) == "a"
    assert error_kind("法国的首都", "法国的首都是", "巴黎", ("巴黎", "罗马")) == "repeats the prompt"
    assert error_kind("罗马。", "法国的首都是", "巴黎", ("巴黎", "罗马")) == "other answer"


@given(TEXTS)
def test_every_answer_has_a_kind_and_right_means_the_alias_rule(said):
    kind = error_kind(said, FRANCE, "Å", ("Å", "n"), ("か",))
    assert kind in ERROR_KINDS
    assert (kind == "right") == RULES["alias"](said, "Å", ("か",))


@pytest.mark.parametrize(
    ("said", "kept"), [(" Paris", " Paris"), (" Paris\nThe", " Paris"), ("\n Paris\nThe", "\n Paris"), ("\n\n", "\n\n")]
)
def test_an_answer_is_truncated_at_the_end_of_its_line(said, kept):
    assert to_line_end(said) == kept


@pytest.mark.parametrize(("said", "over"), [(" Paris", False), (" Paris\n", True), ("\nParis", False), ("", False)])
def test_an_answer_ends_with_its_line(said, over):
    assert answer_is_over(said) is over
