"""A page-view dump that looks like a real month: many wikis, three access methods, few titles with most views."""

from __future__ import annotations

import bz2
import random
from collections.abc import Iterator
from pathlib import Path

PROJECTS = {
    "de.wikipedia": 0.09,
    "en.wikipedia": 0.45,
    "fr.wikipedia": 0.09,
    "ja.wikipedia": 0.10,
    "zh.wikipedia": 0.27,
}
ACCESS = (("desktop", 1.0), ("mobile-web", 0.6), ("mobile-app", 0.15))
DAYS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_"
SYLLABLES = [
    a + b for a in (*"bcdfghklmnprstvw", "st", "tr", "sch", "br") for b in (*"aeiou", "an", "er", "in", "on", "ai")
]


def write_dump(path: Path, megabytes: float, seed: int = 0) -> int:
    """Write a dump of about so many compressed MB; returns how many lines it has."""
    lines = 0
    with bz2.open(path, "wb") as file:
        for block in _blocks(random.Random(seed), megabytes):
            file.write("".join(block).encode())
            lines += len(block)
    return lines


def _blocks(rng: random.Random, megabytes: float) -> Iterator[list[str]]:
    articles = int(megabytes * 42_000)  # about 24 compressed bytes an article
    for project, share in sorted(PROJECTS.items()):
        count = int(articles * share)
        for start in range(0, count, 20_000):
            yield [line for n in range(start, min(count, start + 20_000)) for line in article(rng, project, n / count)]


def article(rng: random.Random, project: str, place: float) -> Iterator[str]:
    """The lines of one article; `place` in [0, 1) is where it stands in the alphabet."""
    name, page = title(rng, place), rng.randrange(1, 70_000_000)
    popularity = int(2 * rng.paretovariate(0.8))
    for access, share in ACCESS:
        if rng.random() < share:
            daily = days(rng, max(1, int(popularity * share)))
            total = sum(views for _, views in daily)
            counts = "".join(f"{DAYS[day]}{views}" for day, views in daily)
            yield f"{project} {name} {page} {access} {total} {counts}\n"


def title(rng: random.Random, place: float) -> str:
    first = chr(65 + int(place * 26)) + rng.choice(SYLLABLES)
    words = ["".join(rng.choices(SYLLABLES, k=rng.choice((1, 2, 2, 3)))) for _ in range(rng.choice((0, 1, 1, 2)))]
    return "_".join([first + rng.choice(SYLLABLES), *(word.capitalize() for word in words)]) + (
        f"_({rng.choice(('film', 'song', 'album', 'village', 'footballer'))})" if rng.random() < 0.15 else ""
    )


def days(rng: random.Random, total: int) -> list[tuple[int, int]]:
    """Which days had how many views."""
    if total < 60:
        chosen = sorted(rng.randrange(31) for _ in range(total))
        return [(day, chosen.count(day)) for day in sorted(set(chosen))]
    return [(day, max(1, int(rng.gauss(total / 31, total / 150)))) for day in range(31)]
