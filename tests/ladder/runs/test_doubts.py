"""Owns the tests of what makes a finished run doubtful."""

from __future__ import annotations

import math

from ladder.runs.doubts import doubts

FINE = {"top1": 60.0, "num_classes": 10, "train_loss": 0.5, "epochs": 10, "warmup_epochs": 1.0}


def test_a_network_that_learnt_is_not_doubtful() -> None:
    assert doubts(**FINE) == []
    assert doubts(top1=None, num_classes=None, train_loss=None, epochs=None, warmup_epochs=None) == []


def test_chance_is_doubtful_only_where_training_learnt() -> None:
    (told,) = doubts(**FINE | {"top1": 10.0})
    assert "guessing among 10 classes" in told and "fell to 0.50" in told
    assert doubts(**FINE | {"top1": 10.0, "train_loss": math.log(10)}) == []
    assert doubts(**FINE | {"top1": 0.1, "num_classes": 1000, "train_loss": 3.0}) != []


def test_a_run_that_ended_within_its_warm_up_is_doubtful() -> None:
    (told,) = doubts(**FINE | {"epochs": 5, "warmup_epochs": 5})
    assert "within its warm-up of 5 epochs" in told
    assert doubts(**FINE | {"epochs": 6, "warmup_epochs": 5}) == []
