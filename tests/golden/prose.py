"""Seeded text for the golden data: prose, code, tables and mixed scripts with facts inside. Imported by the scripts."""

import random

NAMES = "Maren Tobias Ilse Quentin Yara Bogdan Petra Osric Leila Anselm Dunya Corin".split()
PLACES = "harbour mill orchard observatory library ferry quarry greenhouse archive lighthouse tannery bakery".split()
NOUNS = "ledger lantern compass violin kettle ladder parcel barometer curtain anchor sundial basket".split()
ADJECTIVES = "amber crooked silent dented borrowed ancient copper narrow gilded weathered spotless hollow".split()
VERBS = "repaired hid measured painted sold inspected borrowed polished labelled weighed dropped traded".split()
TIMES = ["before dawn", "on a windy Tuesday", "after the long winter", "while the rain kept falling", "at noon",
         "during the spring fair", "without telling anyone", "for the third time that year"]
TEMPLATES = [
    "{name} {verb} the {adjective} {noun} near the {place} {time}.",
    "Nobody at the {place} knew why {name} had {verb} another {noun}.",
    '"The {noun} belongs in the {place}," said {name}, "and it\'s {adjective} enough already."',
    "By evening the {adjective} {noun} stood in the {place}, and {name} was gone.",
    "It cost {number} crowns to move the {noun} from the {place} to the old {other}, which {name} thought too much.",
    "{name} didn't mind; the {place} was quiet, the {noun} was {adjective}, and there was time.",
    "Of the {number} visitors who came to the {place}, only {name} asked about the {adjective} {noun}.",
]
UNICODE = [
    "図書館の{number}番目の棚に、古い羅針盤があります。", "{name} schrieb: »Für Größe zählt der Süden nicht.« 🧭",
    "Компас лежит у старой мельницы, сказала {name}.", "La lumière naît à l'été — déjà vu, c'est ça… 🌊🌊",
    "이 등대는 오래되었습니다. 👩‍🚀 ✅", "Η πυξίδα είναι στο λιμάνι· {name}.", "البوصلة في المكتبة القديمة.",
    "x² ≤ y → ∑ αᵢ ≈ π, said {name} (naïve façade).",
]


def _fill(template: str, rng: random.Random) -> str:
    place, other = rng.sample(PLACES, 2)
    return template.format(name=rng.choice(NAMES), place=place, other=other, noun=rng.choice(NOUNS),
                           adjective=rng.choice(ADJECTIVES), verb=rng.choice(VERBS), time=rng.choice(TIMES),
                           number=rng.randint(3, 980))


def fact(rng: random.Random) -> tuple[str, str]:
    """A sentence that states something once, and the question that asks for it."""
    place, noun, name = rng.choice(PLACES), rng.choice(NOUNS), rng.choice(NAMES)
    city = rng.choice(["Lisbon", "Oslo", "Quito", "Hanoi", "Dakar", "Riga"])
    return rng.choice([
        (f"The secret number of the {place} is {rng.randint(10000, 99999)}.",
         f"What is the secret number of the {place}?"),
        (f"The {noun} of {name} was made in {city}.", f"In which city was the {noun} of {name} made?"),
        (f"The keeper of the {place} is called {name}.", f"What is the keeper of the {place} called?"),
    ])


def _plain(rng):
    return _fill(rng.choice(TEMPLATES), rng) + rng.choice([" ", " ", " ", "\n", "\n\n"])


def _unicode(rng):
    return _fill(rng.choice(UNICODE + TEMPLATES[:2]), rng) + rng.choice([" ", "\n"])


def _spaces(rng):
    words = _fill(rng.choice(TEMPLATES), rng).split(" ")
    gaps = ["\t" if word[:1].isdigit() else rng.choice([" ", " ", "  ", "   ", "\n", "\t", " \n", "\n\n\n"]) for word in words]
    return "".join(gap + word for gap, word in zip(gaps, words))


def _digits(rng):
    row = [str(rng.randint(1, 10 ** rng.randint(1, 7))) for _ in range(3)]
    return f"{rng.choice(NOUNS)}: {row[0]}, {row[1]}.{rng.randint(10, 99)}; total={row[2]}% (-{rng.randint(1, 9)}e{rng.randint(2, 9)})\n"


def _code(rng):
    noun, verb, place = rng.choice(NOUNS), rng.choice(VERBS), rng.choice(PLACES)
    return (f"def {verb}_{noun}(self, {place}: int = {rng.randint(0, 99)}) -> bool:\n"
            f"    # {_fill(TEMPLATES[0], rng)}\n"
            f"    if self.{place}[{rng.randint(0, 9)}] != \"{rng.choice(ADJECTIVES)}\":\n"
            f"        return {place} >= {rng.randint(100, 9999)} and not self.{noun}\n"
            f"    self.{noun} += {rng.random():.3f}\n    return True\n\n\n")


KINDS = {"plain": _plain, "unicode": _unicode, "spaces": _spaces, "digits": _digits, "code": _code}


def text(kind: str, seed: int, tokens: int, count) -> tuple[str, list[str]]:
    """Text of `kind` with two facts inside, at least `tokens` long by `count`, and the questions of its facts."""
    rng = random.Random(f"{kind}-{seed}-{tokens}")
    first, second = fact(rng), fact(rng)
    while second[1] == first[1]:
        second = fact(rng)
    parts, length = [], 0
    while length < tokens:
        parts.append(KINDS[kind](rng))
        length += count(parts[-1])
    parts.insert(len(parts) // 3, first[0] + "\n")
    parts.insert(2 * len(parts) // 3 + 1, second[0] + "\n")
    return "".join(parts).strip(), [first[1], second[1]]
