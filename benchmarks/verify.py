"""Verdicts per minute: `python -m benchmarks.verify [ANSWERS] [WORKERS]`, default 10,000, a worker per processor.

Ordinary answers, none of them twice, 70% right: integers, decimals and fractions, LaTeX, small expressions, sets. For
`math` a second line has sums, which only the library in the workers reads.
"""

from __future__ import annotations

import argparse
import random
import resource
import time

from cohobate.config import Verification
from cohobate.evaluation.verifiers.verdict import Case
from cohobate.evaluation.verifiers.verify import verdicts_of


def integers(rng: random.Random) -> tuple[str, str]:
    """A gold answer, and the same value written in another way."""
    n = rng.randrange(10**6)
    return str(n), f"{n:,}"


def fractions(rng: random.Random) -> tuple[str, str]:
    a, b, k = rng.randrange(1, 999), rng.randrange(2, 99), rng.randrange(2, 9)
    return f"\\frac{{{a}}}{{{b}}}", f"{a * k}/{b * k}"


def decimals(rng: random.Random) -> tuple[str, str]:
    n = rng.randrange(10**5)
    return f"{n / 100}", f"${n / 100:.3f}$"


def roots(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randrange(2, 60), rng.randrange(2, 99)
    return f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}"


def polynomials(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randrange(1, 99), rng.randrange(1, 99)
    return f"(x+{a})(x+{b})", f"x^2+{a + b}x+{a * b}"


def sets(rng: random.Random) -> tuple[str, str]:
    a, b = rng.sample(range(1, 999), 2)
    return f"\\{{{a}, {b}\\}}", f"{b}, {a}"


def sums(rng: random.Random) -> tuple[str, str]:
    n = rng.randrange(3, 10**6)
    return str(n * (n + 1) // 2), f"\\sum_{{k=1}}^{{{n}}} k"


KINDS = (integers, decimals, fractions, roots, polynomials, sets)


def cases(count: int, kinds: tuple[object, ...], seed: int = 0) -> list[Case]:
    """`count` cases of the kinds in turn; a wrong answer is right for another question."""
    rng = random.Random(seed)
    pairs = [kinds[i % len(kinds)](rng) for i in range(count)]  # type: ignore[operator]
    return [
        Case(answer if rng.random() < 0.7 else pairs[(i + len(kinds)) % count][1], gold)
        for i, (gold, answer) in enumerate(pairs)
    ]


def processor_seconds() -> float:
    """Of this process and of its workers, those that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", nargs="?", type=int, default=10_000)
    parser.add_argument("workers", nargs="?", type=int)
    arguments = parser.parse_args()
    count, workers = arguments.answers, arguments.workers
    ordinary = (integers, decimals, fractions)
    for name, kinds in (("exact", KINDS), ("numeric", ordinary), ("math", KINDS), ("math", (sums,))):
        judged = cases(count if sums not in kinds else count // 20, kinds)
        began, used = time.monotonic(), processor_seconds()
        verdicts = verdicts_of(Verification(name=name, workers=workers), judged)
        seconds, used = time.monotonic() - began, processor_seconds() - used
        labels = {label: sum(v.label == label for v in verdicts) for label in ("correct", "incorrect", "undecided")}
        kinds_named = "+".join(kind.__name__ for kind in kinds)
        rates = [
            f"{len(judged) / each * 60:12,.0f} verdicts/{per}" for each, per in ((seconds, "min"), (used, "CPU min"))
        ]
        print(f"{name:<8}{'  '.join(rates)}  {seconds:6.2f} s  {labels}  {kinds_named}")


if __name__ == "__main__":
    main()
