"""Owns the tests of the command `ladder signal`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.signal import main, random_subsets
from ladder.errors import UserError
from ladder.networks.rungs import load_ladder


def test_every_rung_and_each_subset_is_a_network(capsys: Any, tmp_path: Path) -> None:
    main(["convmixer_32", "--image-size", "8", "--subsets", "2", "--format", "json", "--out", str(tmp_path)])
    records = json.loads(capsys.readouterr().out)
    assert [r["rung"] for r in records if r["index"] is not None] == [r.name for r in load_ladder("convmixer_32").rungs]
    assert len(records) == 7 + 2 and all(part["std"] > 0 for r in records for part in r["parts"])
    assert (tmp_path / "signal.png").stat().st_size > 10_000


def test_subsets_are_different_and_of_the_seed() -> None:
    chain = load_ladder("convnext_mini")
    names = [rung.name for rung in random_subsets(chain, 30)]
    assert len(set(names)) == 30 and names == [rung.name for rung in random_subsets(chain, 30)]
    assert names != [rung.name for rung in random_subsets(chain, 30, seed=1)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["convnext_33"], "unknown ladder 'convnext_33'"),
        (["convmixer_32", "--subsets", "65"], "--subsets 65: convmixer_32 has 64"),
        (["convnext_mini", "--image-size", "8"], "too small"),
        (["convnext_mini", "--image-size", "0"], "'--image-size'"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], says: str) -> None:
    with pytest.raises(UserError) as told:
        main(arguments)
    assert says in str(told.value) and "\n" not in str(told.value)
