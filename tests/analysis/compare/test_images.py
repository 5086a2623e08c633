"""Owns the checks of the images' part of intervals, of classes and of images won, on answers whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis import classes, export, images, table
from analysis.compare import model
from analysis.compare.answers import load_answers
from analysis.compare.images import covariance, judged
from analysis.read.predictions import predictions_of
from ladder.data.sources import open_source
from ladder.errors import UserError
from ladder.runs.config import DataConfig
from ladder.runs.predictions import FILE, Predictions

RUNGS, SEEDS, IMAGES = 4, 3, 400


def drawn(random: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Right or wrong, of rungs whose true top-1 is equal: images differ in difficulty, rungs in which are hard."""
    difficulty = random.normal(0.5, 1.5, IMAGES) + 2.0 * random.normal(size=(RUNGS, IMAGES))
    seed = 0.15 * random.normal(size=(RUNGS, SEEDS))
    logits = difficulty[:, None, :] + seed[:, :, None] + random.logistic(0, 0.5, (RUNGS, SEEDS, IMAGES))
    return {str(rung): list(logits[rung] > 0) for rung in range(RUNGS)}


def share_held(noise: str, studies: int = 400) -> float:
    """How often single intervals of the changes between neighbours hold 0, the truth."""
    random, held, count = np.random.default_rng(5), 0, 0
    for _ in range(studies):
        right = drawn(random)
        values = {name: {s: 100 * float(r.mean()) for s, r in enumerate(runs)} for name, runs in right.items()}
        fit = judged(model.fit(values, 100 / IMAGES), right, noise)
        changes = fit.changes([(str(i), str(i + 1)) for i in range(RUNGS - 1)], kind="each")
        held += sum(abs(change.delta) <= change.half for change in changes if change)
        count += len(changes)
    return held / count


def test_intervals_hold_when_images_are_drawn_anew_only_if_they_are_for_both() -> None:
    assert 0.92 < share_held("both") < 0.985
    assert share_held("seeds") < 0.9, "for other seeds on the same images alone"


def test_for_one_seed_the_images_part_is_the_paired_one() -> None:
    right = {name: runs[:1] for name, runs in drawn(np.random.default_rng(0)).items()}
    cover = covariance(right, list(right), seeds_vary=False)
    one, other = (right[name][0].astype(float) for name in ("0", "1"))
    variance = 100**2 * np.var(other - one, ddof=1) / IMAGES  # of the mean of paired differences
    assert cover[0, 0] + cover[1, 1] - 2 * cover[0, 1] == pytest.approx(variance)


def test_more_seeds_take_their_own_noise_out_of_the_images_part() -> None:
    random = np.random.default_rng(1)
    coin = {name: [random.random(IMAGES) < 0.5 for _ in range(SEEDS)] for name in "ab"}  # no image is harder
    with_seeds, without = (np.trace(covariance(coin, ["a", "b"], seeds_vary=vary)) for vary in (True, False))
    assert with_seeds < 0.35 * without


@pytest.fixture
def answered(make_study) -> Path:
    """Two rungs of two seeds on digits: the second wins images 0 and 1 in both seeds and loses 2 and 5 in one."""
    made = make_study("answered")
    label = open_source(DataConfig(name="digits", source="digits")).evaluation.labels
    wrongs = {("resnet", 0): [0, 1, 5], ("resnet", 1): [0, 1], ("stage_ratio", 0): [2], ("stage_ratio", 1): [5]}
    for (rung, seed), wrong in wrongs.items():
        predicted = label.copy()
        predicted[wrong] = (label[wrong] + 1) % 10
        probability = np.where(predicted == label, 0.9, 0.2).astype(np.float32)
        each = Predictions(np.arange(len(label)), label, predicted, probability, tuple("0123456789"))
        top1 = 100 * float(each.correct.mean())
        path = made.run(rung, seed, top1, eval_size=len(label), result={"best": {"top1": top1, "epoch": 3}})
        each.write(path / FILE)
    return made.root


def test_a_table_says_what_other_images_would_add(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main([str(answered)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "test images: intervals are ±" in out and "(--noise both)" in out
    assert table.main([str(answered), "--noise", "images"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "for other test images, of the same runs" in out and "degrees of freedom" not in out
    assert table.main([str(answered), "--noise", "both"]) == 0
    assert "for others of both kinds" in " ".join(capsys.readouterr().out.split())


def test_without_predictions_the_images_can_not_be_judged(make_study, answered: Path) -> None:
    older = make_study("older").chain((0, 1), ("resnet", "stage_ratio"))
    with pytest.raises(UserError, match=r"--noise both takes what each run predicted"):
        table.main([str(older.root), "--noise", "both"])
    with pytest.raises(UserError, match=r"no run of this study kept predictions\.npz"):
        classes.main([str(older.root)])


def test_classes_and_confusions_count_the_answers(answered: Path) -> None:
    answers = load_answers([str(answered)], {})
    label = answers.label
    zero = answers.by_class("resnet")[label[0]]
    wrong = sum(label[i] == label[0] for i in (0, 1)) + 0.5 * (label[5] == label[0])
    assert zero == pytest.approx(100 * (1 - wrong / (label == label[0]).sum()))
    confusion = answers.confusion("0")
    assert confusion.sum(axis=1) == pytest.approx([100.0] * 10)
    assert answers.won("resnet", "stage_ratio")[[0, 1, 2, 3, 5]].tolist() == [1.0, 1.0, -0.5, 0.0, 0.0]
    with pytest.raises(UserError, match=r"did you mean resnet\?"):
        answers.of("resnett")


def test_images_won_and_lost_are_counted_by_class(answered: Path) -> None:
    answers = load_answers([str(answered)], {})
    grid = classes.wins(answers, *answers.two("0", "stage_ratio"))
    cells = {line.cells[0]: line.cells[1:] for line in grid.lines}
    total = len(answers.label)
    assert cells["all"] == (f"{total:,}", "2", "2", "1", "0", f"{100 * 1.5 / total:+.2f}")
    for column in range(1, 5):
        assert sum(int(each[column]) for name, each in cells.items() if name != "all") == int(cells["all"][column])
    lost = answers.class_names[answers.label[2]]
    assert cells[lost][3] == "1"
    with pytest.raises(UserError, match="resnet twice"):
        classes.main([str(answered), "--won", "resnet", "0"])
    with pytest.raises(UserError, match="ask for one"):
        classes.main([str(answered), "--won", "0", "1", "--confusion", "0", "1"])


def test_the_picture_shows_the_images_won_and_lost(
    answered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], assert_readable
) -> None:
    assert images.main([str(answered), "resnet", "1", "--out", str(tmp_path / "won.png")]) == 0
    out = capsys.readouterr().out
    assert "wins 2 (2 in every seed), loses 1 (0 in every seed), as often right 356" in out
    assert (tmp_path / "won.png").read_bytes()[:4] == b"\x89PNG"
    answers = load_answers([str(answered)], {})
    won = answers.won("resnet", "stage_ratio")
    figure = images.draw(answers, "resnet", "stage_ratio", won, images.open_images(answers, None), 24)
    assert len(figure.axes) == 3
    FigureCanvasAgg(figure)
    assert_readable(figure)
    with pytest.raises(UserError, match="name two rungs"):
        images.main([str(answered), "resnet", "0"])


def test_a_packed_study_answers_as_its_run_folders(answered: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    assert FILE in {path.name for path in export.export(answered, out)}
    before, after = (load_answers([str(folder)], {}) for folder in (answered, out))
    for rung in ("resnet", "stage_ratio"):
        for mine, packed in zip(before.of(rung), after.of(rung), strict=True):
            assert np.array_equal(mine.predicted, packed.predicted) and np.array_equal(mine.label, packed.label)
            assert packed.probability == pytest.approx(mine.probability, abs=0.003)
    (out / FILE).write_bytes(b"broken")
    with pytest.raises(UserError, match="can't be read"):
        load_answers([str(out)], {})
    assert predictions_of(str(next(answered.glob("resnet-*")))) is not None
