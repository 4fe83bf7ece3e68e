"""A small grammar that writes minimal pairs: an acceptable English sentence and an unacceptable one beside it.

One function per phenomenon yields every pair that its tables allow. Each phenomenon gives ``PAIRS`` of them, or more
where more sentences are wanted, the first in the order of their SHA-256, which looks random and is the same on every
machine and in every version of Python. The phenomena take turns, so any beginning of the list is a fair mixture, and
the two sentences of a pair stay together.

Most words occur on both sides: what is wrong is a combination of words. Left out is what standard written English
tolerates or can parse another way: objects that may be dropped, singular "they", collective nouns, particles ("brought
in the car"), "any" of free choice, verbs that hide in a form ("will found").
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterator
from itertools import permutations, product

from validate.sampled.sentence import Sentence

__all__ = ["PAIRS", "PHENOMENA", "grammar_sentences"]

PAIRS = 100
# None of them is also a verb: "the clever nurse work" would have a second reading.
PEOPLE = (
    "artist", "baker", "dancer", "driver", "farmer", "lawyer",
    "painter", "sailor", "singer", "student", "teacher", "writer",
)  # fmt: skip
WOMEN = ("aunt", "daughter", "girl", "mother", "queen", "sister", "woman")
MEN = ("boy", "brother", "father", "king", "man", "son", "uncle")
RELATIVES = ("aunt", "brother", "daughter", "father", "mother", "sister", "son", "uncle")
THINGS = ("book", "car", "chair", "clock", "coat", "cup", "key", "lamp", "letter", "picture")
TRAITS = ("cheerful", "clever", "famous", "honest", "tall")
LOOKS = ("clean", "dirty", "heavy", "new", "old")
PLACES = ("at the station", "in the garden", "in the kitchen", "near the river")
TIMES = ("last week", "this morning", "today", "yesterday")

# Regular, and their objects cannot be left out: base, past and participle, form in -ing.
TRANSITIVE = (
    ("damage", "damaged", "damaging"), ("describe", "described", "describing"),
    ("destroy", "destroyed", "destroying"), ("fix", "fixed", "fixing"),
    ("discover", "discovered", "discovering"), ("mention", "mentioned", "mentioning"),
)  # fmt: skip
# The last two are seldom in progress and seldom decided on.
ACTIONS = TRANSITIVE[:4]
OBJECTS = ("car", "chair", "clock", "lamp", "picture")  # each fits all of these verbs
# They never take an object; "walked the dog" and "fell the tree" keep others off this list.
INTRANSITIVE_PAST = ("arrived", "laughed", "listened", "slept", "smiled", "sneezed")
RESTING = ("laugh", "sing", "sit", "sleep", "smile", "wait", "work")
SOCIAL = ("help", "know", "like", "trust")
THINKING = ("say", "think")
SOCIAL_PAST = ("called", "followed", "helped", "thanked", "visited")
REFLEXIVE_PAST = ("admired", "blamed", "defended", "described", "praised")

Pairs = Iterator[tuple[str, str]]


def plural(noun: str) -> str:
    return {"man": "men", "woman": "women"}.get(noun, noun + "s")


def by_gender(noun: str, female: str, male: str) -> tuple[str, str]:
    """The right form for ``noun`` and the wrong one."""
    return (female, male) if noun in WOMEN else (male, female)


def subject_verb_agreement() -> Pairs:
    for trait, who, verb, place in product(TRAITS, PEOPLE, RESTING, PLACES):
        one, many = f"The {trait} {who}", f"The {trait} {plural(who)}"
        yield f"{one} {verb}s {place}.", f"{one} {verb} {place}."
        yield f"{many} {verb} {place}.", f"{many} {verb}s {place}."


def agreement_across_attractor() -> Pairs:
    """The noun next to the verb has the other number."""
    for (what, other), look in product(permutations(THINGS, 2), LOOKS):
        one, many = f"The {what} near the {plural(other)}", f"The {plural(what)} near the {other}"
        yield f"{one} is {look}.", f"{one} are {look}."
        yield f"{many} are {look}.", f"{many} is {look}."
    for (who, other), verb, trait in product(permutations(PEOPLE, 2), SOCIAL, TRAITS):
        one = f"The {who} that the {plural(other)} {verb}"
        many = f"The {plural(who)} that the {other} {verb}s"
        yield f"{one} is {trait}.", f"{one} are {trait}."
        yield f"{many} are {trait}.", f"{many} is {trait}."


def determiner_and_noun() -> Pairs:
    verbs = ("borrowed", "bought", "cleaned", "sold")
    for who, verb, what, time in product(PEOPLE, verbs, THINGS, TIMES):
        start, one, many = f"The {who} {verb}", f"{what} {time}.", f"{plural(what)} {time}."
        for determiner in ("a", "every", "one", "that", "this"):
            yield f"{start} {determiner} {one}", f"{start} {determiner} {many}"
        for determiner in ("many", "several", "these", "those", "two"):
            yield f"{start} {determiner} {many}", f"{start} {determiner} {one}"


def reflexive_binding() -> Pairs:
    """A reflexive agrees with the subject of its own clause, not with another noun."""
    for who, verb, time in product(WOMEN + MEN, REFLEXIVE_PAST, TIMES):
        right, wrong = by_gender(who, "herself", "himself")
        one, many = f"The {who} {verb}", f"The {plural(who)} {verb}"
        yield f"{one} {right} {time}.", f"{one} {wrong} {time}."
        yield f"{many} themselves {time}.", f"{many} {right} {time}."
    for who, other, verb in product(WOMEN + MEN, WOMEN + MEN, REFLEXIVE_PAST):
        right, wrong = by_gender(who, "herself", "himself")
        if (who in WOMEN) != (other in WOMEN):
            said = f"said that the {who} {verb}"
            yield f"The {other} {said} {right}.", f"The {other} {said} {wrong}."
            yield f"The {plural(other)} {said} {right}.", f"The {plural(other)} {said} themselves."
    for who, whose, verb in product(RELATIVES, ("boy", "girl", "king", "queen"), REFLEXIVE_PAST):
        right, wrong = by_gender(whose, "himself", "herself")
        one, many = f"The {who} of the {whose} {verb}", f"The {plural(who)} of the {whose} {verb}"
        if (who in WOMEN) != (whose in WOMEN):
            yield f"{one} {right}.", f"{one} {wrong}."
        yield f"{many} themselves.", f"{many} {wrong}."


def argument_structure() -> Pairs:
    for who, (_, past, _), what, place in product(PEOPLE, TRANSITIVE, OBJECTS, PLACES):
        yield f"The {who} {past} the {what} {place}.", f"The {who} {past} {place}."
    for who, past, what, time in product(PEOPLE, INTRANSITIVE_PAST, OBJECTS, TIMES):
        yield f"The {who} {past} {time}.", f"The {who} {past} the {what} {time}."


def auxiliary_and_verb_form() -> Pairs:
    for who, (base, past, ing), what in product(PEOPLE, ACTIONS, OBJECTS):
        for auxiliaries, right, wrong in (
            (("will", "must", "should", "did not"), base, (past, ing)),
            (("has", "had"), past, (base, ing)),
            (("is", "was"), ing, (base,)),
        ):
            for start, form in product([f"The {who} {word}" for word in auxiliaries], wrong):
                yield f"{start} {right} the {what}.", f"{start} {form} the {what}."


def negative_polarity() -> Pairs:
    """The words "ever" and "any" need a negation above them; one inside a relative clause does not count."""
    for who, (_, past, _), what, place in product(PEOPLE, TRANSITIVE, OBJECTS, PLACES):
        end = f"{who} has ever {past} the {what} {place}."
        yield f"No {end}", f"The {end}"
        end = f"{past} any {plural(what)} {place}."
        yield f"The {who} has not {end}", f"The {who} has {end}"
    for (who, other), verb, (_, past, _) in product(permutations(PEOPLE, 2), SOCIAL, TRANSITIVE):
        for end in (f"{past} the {what}." for what in OBJECTS):
            low = f"The {who} that no {other} {verb}s has"
            yield f"No {who} that the {other} {verb}s has ever {end}", f"{low} ever {end}"
            yield f"{low} {end}", f"{low} ever {end}"


def filler_and_gap() -> Pairs:
    for who, (base, _, _), what, place in product(PEOPLE, TRANSITIVE, OBJECTS, PLACES):
        gap, filled = f"did the {who} {base} {place}?", f"did the {who} {base} the {what} {place}?"
        yield f"What {gap}", f"What {filled}"
        yield filled.capitalize(), gap.capitalize()
    for (who, other), (_, past, _), what in product(permutations(PEOPLE, 2), ACTIONS, OBJECTS):
        for start in (f"What did the {who} {verb} that the {other} {past}" for verb in THINKING):
            yield f"{start}?", f"{start} the {what}?"


def islands() -> Pairs:
    for (who, other), (base, past, _) in product(permutations(PEOPLE, 2), TRANSITIVE):
        start, they = f"What did the {who}", f"the {other}"
        for thinks, helps in product(THINKING, SOCIAL):
            yield f"{start} {thinks} that {they} {past}?", f"{start} {helps} {they} that {past}?"
        for what in OBJECTS:
            start = f"Which {what} did the {who}"
            yield f"{start} and the {other} {base}?", f"{start} {base} the {other} and?"
            yield f"{start} {base}?", f"Which did the {who} {base} {what}?"


def word_order() -> Pairs:
    for who, (base, past, _), what in product(PEOPLE, TRANSITIVE, OBJECTS):
        for trait in TRAITS:
            yield f"The {trait} {who} {past} the {what}.", f"The {who} {trait} {past} the {what}."
        for how in ("quickly", "quietly", "secretly"):
            yield f"The {who} {how} {past} the {what}.", f"The {who} {past} {how} the {what}."
        for asks in ("How", "When", "Where", "Why"):
            end = f"{base} the {what}?"
            yield f"{asks} did the {who} {end}", f"{asks} the {who} did {end}"


def pronoun_case() -> Pairs:
    cases = (("I", "me"), ("he", "him"), ("she", "her"), ("we", "us"), ("they", "them"))
    for who, past, (subject, other), time in product(PEOPLE, SOCIAL_PAST, cases, TIMES):
        end = f"{past} the {who} {time}."
        yield f"{subject.capitalize()} {end}", f"{other.capitalize()} {end}"
        yield f"The {who} {past} {other} {time}.", f"The {who} {past} {subject} {time}."
    for who, (subject, other), place in product(PEOPLE, cases, PLACES):
        yield f"The {who} sang with {other} {place}.", f"The {who} sang with {subject} {place}."


def existential_there() -> Pairs:
    for (one, many), what, place in product((("is", "are"), ("was", "were")), THINGS, PLACES):
        for count in ("a", "one"):
            yield f"There {one} {count} {what} {place}.", f"There {many} {count} {what} {place}."
        for end in (f"{count} {what}s {place}." for count in ("many", "several", "three", "two")):
            yield f"There {many} {end}", f"There {one} {end}"


def tag_questions() -> Pairs:
    for who in WOMEN + MEN:
        right, wrong = by_gender(who, "she", "he")
        for trait in TRAITS:
            one, many = f"The {who} is not {trait},", f"The {plural(who)} are not {trait},"
            yield f"{one} is {right}?", f"{one} is {wrong}?"
            yield f"{many} are they?", f"{many} is {right}?"
        for verb in RESTING:
            one, many = f"The {who} does not {verb},", f"The {plural(who)} do not {verb},"
            yield f"{one} does {right}?", f"{one} is {right}?"
            yield f"{many} do they?", f"{many} are they?"


def verb_complement() -> Pairs:
    for who, (base, _, ing), what in product(PEOPLE, ACTIONS, OBJECTS):
        infinitive, gerund = f"to {base} the {what}.", f"{ing} the {what}."
        for verb in ("agreed", "decided", "hoped", "promised"):
            yield f"The {who} {verb} {infinitive}", f"The {who} {verb} {gerund}"
        for verb in ("avoided", "considered", "enjoyed", "suggested"):
            yield f"The {who} {verb} {gerund}", f"The {who} {verb} {infinitive}"


PHENOMENA: dict[str, Callable[[], Pairs]] = {
    function.__name__.replace("_", " "): function
    for function in (
        subject_verb_agreement, agreement_across_attractor, determiner_and_noun, reflexive_binding,
        argument_structure, auxiliary_and_verb_form, negative_polarity, filler_and_gap, islands,
        word_order, pronoun_case, existential_there, tag_questions, verb_complement,
    )
}  # fmt: skip


def _digest(pair: tuple[str, str]) -> bytes:
    return hashlib.sha256("\n".join(pair).encode()).digest()


def grammar_sentences(wanted: int = 0) -> list[Sentence]:
    """Equally many sentences of every phenomenon, each sentence once, pair after pair.

    ``2 * PAIRS`` of each, or so many more that there are ``wanted`` in all, as far as the tables allow.
    """
    return list(_sentences(max(PAIRS, math.ceil(wanted / (2 * len(PHENOMENA))))))


@functools.cache
def _sentences(pairs_each: int) -> tuple[Sentence, ...]:
    used: set[str] = set()
    columns: dict[str, list[tuple[str, str]]] = {name: [] for name in PHENOMENA}
    for name, write in PHENOMENA.items():
        for texts in sorted(write(), key=_digest):
            if used.isdisjoint(texts) and len(columns[name]) < pairs_each:
                used.update(texts)
                columns[name].append(texts)
    sentences: list[Sentence] = []
    turns = min(len(pairs) for pairs in columns.values())
    for turn, (name, pairs) in product(range(turns), columns.items()):
        place = f"grammar, {name}, pair {turn + 1}"
        pair = [Sentence(text, text == pairs[turn][0], name, place) for text in pairs[turn]]
        # Which of the two comes first must say nothing about the label.
        sentences += pair if _digest(pairs[turn])[-1] % 2 else pair[::-1]
    return tuple(sentences)
