"""Owns the tests of other choices of a spec field in one table with the plain rung (`--compare spec.FIELD`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import analysis
from analysis.compare.summary import summarise
from analysis.show.collection import curves_of
from analysis.show.formats import FORMATS

Make = Callable[..., Any]


def test_another_choice_of_a_field_stands_beside_the_plain_rung_with_the_change(make_study: Make) -> None:
    study = make_study().chain(rungs=["resnet", "gelu"])
    for seed, base in enumerate((90.0, 91.0, 92.0)):
        study.run("gelu", seed, base, spec={"kernel_size": 11})
        study.run("gelu", seed, base + 1, spec={"kernel_size": 9})
        study.run("resnet", seed, base - 1, spec={"kernel_size": 11, "act": "gelu"})
    (table,) = summarise(analysis.load(study.root), compare=["spec.kernel_size", "spec.act"])
    names = [(row.rung, row.against) for row in table.shown]
    assert names == [
        ("resnet", None),
        ("resnet spec.kernel_size=11 spec.act=gelu", "resnet"),
        ("gelu", "resnet"),
        ("gelu spec.kernel_size=9", "gelu"),
        ("gelu spec.kernel_size=11", "gelu"),
    ]
    nine, eleven, plain = (table.row(f"gelu{words}") for words in (" spec.kernel_size=9", " spec.kernel_size=11", ""))
    assert nine is not None and eleven is not None and plain is not None
    assert nine.top1 is not None and eleven.top1 is not None and plain.top1 is not None
    assert nine.change is not None and nine.change.delta == pytest.approx(nine.top1.mean - plain.top1.mean)
    assert nine.top1.mean - eleven.top1.mean == pytest.approx(1)
    assert not table.choice and not any("instead of the ladder's" in note for note in table.notes)
    text = FORMATS["text"]([table])
    assert "└ gelu spec.kernel_size=9 (side)" in text
    curves = curves_of(table, analysis.load_curves(analysis.load(study.root)))
    assert curves.groupby("rung")["seed"].nunique().to_dict() == {name: 3 for name, _ in names}
    (table,) = summarise(analysis.load(study.root), compare=["spec.kernel_size"])
    assert "spec.act=gelu instead of the ladder's value in resnet spec.kernel_size=11" in table.notes


def test_choices_of_a_field_and_of_the_recipe_are_rows_in_a_table_for_each_rate(make_study: Make) -> None:
    study = make_study()
    for lr in (0.1, 0.2):
        study.chain(rungs=["resnet", "gelu"], recipe={"lr": lr})
        study.run("gelu", 0, 90.0, recipe={"lr": lr}, spec={"kernel_size": 9})
    tables = summarise(analysis.load(study.root), compare=["spec.kernel_size", "recipe.lr"])
    assert [dict(t.choice) for t in tables] == [{"recipe.lr": 0.1}, {"recipe.lr": 0.2}]
    assert all([r.rung for r in t.shown] == ["resnet", "gelu", "gelu spec.kernel_size=9"] for t in tables)
