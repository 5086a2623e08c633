"""Odd input of every kind: whatever is typed or lies in a file, a command ends as it should, and never in a traceback.

`python tests/support/odd_input.py KIND COUNT --seed N` looks further.
"""

from __future__ import annotations

from collections import Counter

import pytest
from odd_input import KINDS, tried
from trial import Case, Ended

SEED = 11
SAMPLE = {"configs": 6, "ladders": 4, "preview": 4, "bench": 4}
WHOLE = {"configs": 1000, "ladders": 200, "preview": 200, "bench": 200}


def _try(kind: str, count: int) -> Counter[str]:
    found = []

    def tell(number: int, case: Case, ended: Ended) -> None:
        if ended.faults():
            found.append(f"{kind} {number}: {'; '.join(ended.faults())}\n{case}\n{ended.code} {ended.err[-2000:]}")

    counts = tried(kind, SEED, range(count), tell)
    assert not found, "\n".join(found)
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_a_few(kind: str) -> None:
    assert _try(kind, SAMPLE[kind])["cases"] == SAMPLE[kind]


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
def test_many(kind: str) -> None:
    counts = _try(kind, WHOLE[kind])
    assert counts["exit 0"] > WHOLE[kind] / 50  # some input is fine
    assert counts["exit 2"] > WHOLE[kind] / 3


def test_what_a_user_would_complain_about_is_found() -> None:
    good = Ended(2, "", "error: no such rung\n", (), (), False)
    assert good.faults() == []
    bad = {
        Ended(1, "", "Traceback (most recent call last):\n", (), (), False): "traceback",
        Ended(1, "", "error: a bug in the Modernization Ladder\n", (), (), False): "bug",
        Ended(2, "", "error: a\nerror: b\n", (), (), False): "not one line for a mistake",
        Ended(2, "", "error: a\n", ("runs",), (), False): "a mistake left files",
        Ended(-11, "", "", (), (), False): "exit code -11",
        Ended(-9, "", "", (), (), True): "hang",
        Ended(1, "", "", (), (), False): "failed without a word",
        Ended(1, "", "failed\n", (), ("running",), False): "failed without a word",
        Ended(2, "", "error: \x1b[31m\n", (), (), False): "control characters",
        Ended(2, "", "x" * 5000 + "\n", (), (), False): "a line too long to read",
    }
    assert {ended: ended.faults() for ended in bad} == {ended: [fault] for ended, fault in bad.items()}
