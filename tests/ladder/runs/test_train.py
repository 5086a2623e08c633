"""One run, end to end: what it leaves behind, that it repeats itself, that it can be cut anywhere."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import timm
import torch
from tiny import assert_equal, config, final_state, kill, run_of, start, train, wait, wait_for

import ladder
from ladder.errors import UserError
from ladder.runs.folder import RunDir


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory):
    """A finished run of the top rung."""
    run = run_of(tmp_path_factory.mktemp("runs"), "rung=12", "recipe.mixup=0.2")
    assert train(run).state == "done"
    return run


def test_a_run_leaves_the_folder_of_the_contract(done) -> None:
    folder: RunDir = done.dir
    names = {str(p.relative_to(folder.path)) for p in folder.path.rglob("*") if p.is_file()} - {".lock"}
    assert names == {
        "config.yaml",
        "status.json",
        "metrics.csv",
        "predictions.npz",
        "result.json",
        "train.log",
        "model.safetensors",
        "checkpoints/last.pt",
    }
    result = json.loads((folder.path / "result.json").read_text())
    rows = list(csv.DictReader((folder.path / "metrics.csv").open()))
    assert [int(r["epoch"]) for r in rows] == [1, 2]
    assert result["final"]["top1"] == float(rows[-1]["top1"])
    assert result["best"]["top1"] == max(float(r["top1"]) for r in rows)
    assert (result["rung"], result["rung_index"], result["seed"]) == ("separate_downsampling", 12, 0)
    assert result["params"] == sum(p.numel() for p in ladder.load_model(folder.path).parameters())
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.epoch, status.error) == ("done", 2, None)


def measured(model: torch.nn.Module, run) -> tuple[float, float]:
    """Top-1 in percent and mean loss, by one process."""
    from ladder.data import open_data

    data = open_data(run.data, run.recipe, seed=0, micro_batch=64, device=torch.device("cpu"))
    right = total = loss = 0.0
    with torch.no_grad():
        for images, labels in data.eval_batches():
            logits = model(images)
            right += int((logits.argmax(1) == labels).sum())
            loss += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            total += len(labels)
    assert total == json.loads((run.dir.path / "result.json").read_text())["eval_size"]
    return 100 * right / total, loss / total


def test_the_exported_network_gives_the_reported_accuracy(done) -> None:
    result = json.loads((done.dir.path / "result.json").read_text())
    top1, loss = measured(ladder.load_model(done.dir.path), done)
    assert top1 == pytest.approx(result["final"]["top1"], abs=1e-9)
    assert loss == pytest.approx(result["final"]["eval_loss"], rel=1e-5)


def test_timm_evaluates_the_exported_network_as_the_run_did(done) -> None:
    from ladder.data.sources import open_source

    model = ladder.load_model(done.dir.path)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    images = open_source(done.data).evaluation
    with torch.no_grad():
        logits = model(torch.stack([transform(images.open(i).convert("L")) for i in range(len(images.labels))]))
    top1 = 100 * float((logits.argmax(1).numpy() == images.labels).mean())
    assert top1 == pytest.approx(json.loads((done.dir.path / "result.json").read_text())["final"]["top1"], abs=1e-4)


def test_several_ranks_report_what_the_saved_networks_give(tmp_path: Path) -> None:
    # each rank has BatchNorm statistics of its own batches; those of rank 0 are saved
    run = run_of(tmp_path, "rung=8", "recipe.ema_decay=0.9")
    assert wait(start(run, tmp_path, 2)) == [0, 0]
    final = json.loads((run.dir.path / "result.json").read_text())["final"]
    model = ladder.load_model(run.dir.path)
    assert measured(model, run)[1] == pytest.approx(final["eval_loss"], rel=1e-5)
    model.load_state_dict(final_state(run)["ema"])
    assert measured(model, run)[0] == pytest.approx(final["ema_top1"], abs=1e-9)


def test_a_done_run_is_skipped_untouched(done) -> None:
    before = {p: p.stat().st_mtime_ns for p in done.dir.path.rglob("*")}
    assert train(done).state == "skipped"
    assert {p: p.stat().st_mtime_ns for p in done.dir.path.rglob("*")} == before


def test_same_seed_same_bits_other_seed_others(done, tmp_path: Path) -> None:
    again = run_of(tmp_path, "rung=12", "recipe.mixup=0.2")
    train(again)
    assert_equal(final_state(again), final_state(done))
    other = run_of(tmp_path, "rung=12", "recipe.mixup=0.2", "seed=1")
    train(other)
    ours, theirs = final_state(other)["model"], final_state(done)["model"]
    assert not all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_the_network_learns(tmp_path: Path) -> None:
    run = run_of(tmp_path, "rung=12", "recipe.epochs=6", "spec.widths=[8,16,16,32]")
    train(run)
    rows = list(csv.DictReader((run.dir.path / "metrics.csv").open()))
    assert float(rows[-1]["top1"]) > 60  # chance is 10
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


LONG = (
    "recipe.mixup=0.2",
    "recipe.ema_decay=0.9",
    "recipe.drop_path=0.2",
    "engine.save_every=0.05",
)


def survives_kills(tmp_path: Path, kills: int, ranks: int, seed: int) -> None:
    """Kill a run `kills` times at random moments; its end must equal that of an undisturbed one."""
    epochs = f"recipe.epochs={max(8, 2 * kills)}"  # longer than its kills take
    undisturbed, disturbed = (run_of(tmp_path / name, "rung=8", epochs, *LONG) for name in ("one", "other"))
    begun = time.monotonic()
    assert wait(start(undisturbed, tmp_path, ranks), 600) == [0] * ranks
    took = time.monotonic() - begun
    draw = random.Random(seed)

    def last_save() -> int:
        try:
            return (disturbed.dir.checkpoints / "last.pt").stat().st_mtime_ns
        except FileNotFoundError:  # none yet, or for a moment between the two renames of a save
            return 0

    for number in range(kills):
        before = last_save()
        children = start(disturbed, tmp_path, ranks)
        if number % 4:  # the others die while they start or resume
            wait_for(lambda before=before: last_save() > before)
        time.sleep(draw.uniform(0, took / (2 * kills)))
        kill(children)
        wait(children)
        assert not disturbed.dir.is_done, "the run ended before its kills did: it must be longer"
    assert wait(start(disturbed, tmp_path, ranks), 600) == [0] * ranks
    assert_equal(final_state(disturbed), final_state(undisturbed))
    rows = list(csv.DictReader((disturbed.dir.path / "metrics.csv").open()))
    assert [int(r["epoch"]) for r in rows] == list(range(1, disturbed.recipe.epochs + 1))


def test_killed_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    survives_kills(tmp_path, kills=4, ranks=1, seed=0)


@pytest.mark.slow
def test_two_ranks_killed_and_resumed_equal_undisturbed(tmp_path: Path) -> None:
    survives_kills(tmp_path, kills=2, ranks=2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ranks", [1, 2])
def test_twenty_kills(tmp_path: Path, ranks: int) -> None:
    survives_kills(tmp_path, kills=20, ranks=ranks, seed=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_stops_with_its_own_code(tmp_path: Path, number: int) -> None:
    run = run_of(tmp_path, "rung=8", "recipe.epochs=50")
    children = start(run, tmp_path)
    wait_for(lambda: (s := run.dir.read_status()) is not None and s.step > 0)
    asked = time.monotonic()
    kill(children, number)
    assert wait(children, 20) == [75]
    assert time.monotonic() - asked < 10
    status = run.dir.read_status()
    assert status is not None
    assert (status.state, status.error) == ("stopped", None)
    state = final_state(run)
    assert (state["epoch"], state["step"]) != (0, 0)
    assert "same command" in (tmp_path / "output.txt").read_text()


def test_not_finite_stops_before_the_update_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    run = run_of(tmp_path, "rung=8", "recipe.lr=1e30", "recipe.warmup_epochs=0", "engine.save_every=0")
    outcome = train(run)
    assert outcome.state == "failed"
    assert outcome.error is not None
    assert "not finite at step" in outcome.error
    status = run.dir.read_status()
    assert status is not None
    assert status.state == "failed"
    state = final_state(run)
    assert all(torch.isfinite(v).all() for v in state["model"].values())
    assert not run.dir.is_done


def test_fp16_backs_off_from_overflows_and_trains(tmp_path: Path) -> None:
    run = run_of(tmp_path, "rung=8", "engine.precision=fp16")
    outcome = train(run)
    assert outcome.state == "done", outcome.error
    state = final_state(run)
    assert state["scaler"]["scale"] < 2**16  # the first gradients overflow
    first, last = (row["train_loss"] for row in state["history"])
    assert last < first < 3  # of ten classes by chance: 2.3


@pytest.mark.parametrize("clip", ["null", "1.0"])
def test_fp16_gives_up_when_no_scale_helps(tmp_path: Path, clip: str) -> None:
    given = ("engine.precision=fp16", "recipe.lr=1e30", "recipe.warmup_epochs=0", f"recipe.clip_grad={clip}")
    outcome = train(run_of(tmp_path, "rung=8", *given))
    assert outcome.state == "failed" and outcome.error is not None
    told = re.fullmatch(r"the loss or a gradient is not finite at step (\d+) .*a loss scale of 1.*bf16", outcome.error)
    assert told is not None and 16 <= int(told[1]) <= 20  # 16 halvings, and few steps that trained


def test_two_processes_on_one_folder(tmp_path: Path) -> None:
    run = run_of(tmp_path, "rung=8", "recipe.epochs=50")
    children = start(run, tmp_path)
    try:
        wait_for(lambda: (s := run.dir.read_status()) is not None and s.step > 0)
        with pytest.raises(UserError, match="another process"):
            train(run)
        others = start(run, tmp_path, ranks=2)
        codes = wait(others)
        assert codes[0] != 0 and codes[1] == 2, "no rank waits for one that was refused"
    finally:
        kill(children)
        wait(children)


def test_a_run_that_another_process_ends_meanwhile_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path, "rung=8")
    lock = RunDir.lock

    def late(self: RunDir) -> AbstractContextManager[None]:
        if not self.is_done:  # the other process is just done when we get the lock
            self.write_result({"final": {"top1": 12.5}})
        return lock(self)

    monkeypatch.setattr(RunDir, "lock", late)
    assert train(run).state == "skipped"
    assert json.loads((run.dir.path / "result.json").read_text())["final"] == {"top1": 12.5}
    assert run.dir.read_status() is None


@pytest.mark.parametrize(("ranks", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_ranks_and_accumulation_share_one_batch(tmp_path: Path, ranks: int, accumulate: int) -> None:
    plain = (
        "rung=12",
        "data.fraction=0.25",  # few steps: after many, training itself has grown the last bits, more on some processors
        "recipe.epochs=1",
        "recipe.crop=none",
        "recipe.optimizer=sgd",
        "recipe.lr=0.1",
        "recipe.weight_decay=0",
        "recipe.warmup_epochs=0",
    )
    alone = run_of(tmp_path / "alone", *plain)
    train(alone)
    shared = run_of(tmp_path / "shared", *plain, f"engine.accumulate={accumulate}")
    assert wait(start(shared, tmp_path, ranks)) == [0] * ranks
    one, other = final_state(alone), final_state(shared)
    for key, value in one["model"].items():
        torch.testing.assert_close(other["model"][key], value, rtol=1e-3, atol=1e-5)
    for key in ("train_loss", "eval_loss", "top1"):
        assert other["history"][0][key] == pytest.approx(one["history"][0][key], rel=1e-3)


def test_options_of_the_engine_train(tmp_path: Path) -> None:
    for name, options in {
        "bf16": ["engine.precision=bf16", "engine.channels_last=true"],
        "memory": ["engine.checkpoint_activations=true", "recipe.clip_grad=1.0", "recipe.layer_decay=0.8"],
    }.items():
        run = run_of(tmp_path / name, "rung=12", *options)
        assert train(run).state == "done", run.dir.read_status()


class OwnCode(torch.nn.Module):
    """A strided 1 x 1 convolution that no layer holds; see ladder.networks.pointwise."""

    def __init__(self, in_chans: int, num_classes: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(num_classes, in_chans, 1, 1) / 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not x.is_contiguous(memory_format=torch.channels_last)
        return torch.nn.functional.conv2d(x, self.weight, stride=2).mean((2, 3))


def test_a_network_that_no_layout_but_one_suits_is_trained_in_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("ladder.training.engine.build_net", lambda _, in_chans, num_classes: OwnCode(in_chans, num_classes))
    run = run_of(tmp_path, "data.in_chans=3", "recipe.epochs=1", "recipe.optimizer=sgd")
    assert train(run).state == "done"
    assert "trained with engine.channels_last=false: " in (run.dir.path / "train.log").read_text()


def test_checkpointed_activations_and_layout_do_not_change_the_result(done, tmp_path: Path) -> None:
    run = run_of(tmp_path, "rung=12", "recipe.mixup=0.2", "engine.checkpoint_activations=true")
    assert run.config_hash == done.config_hash
    train(run)
    for key, value in final_state(done)["model"].items():
        torch.testing.assert_close(final_state(run)["model"][key], value, rtol=1e-4, atol=1e-5)


def test_evaluating_less_often_changes_nothing_else(tmp_path: Path) -> None:
    every, third = (run_of(tmp_path / str(n), "recipe.epochs=5", f"engine.eval_every={n}") for n in (1, 3))
    train(every)
    train(third)
    told = ("history", "best")
    assert_equal(*({k: v for k, v in final_state(run).items() if k not in told} for run in (every, third)))
    full, sparse = (list(csv.DictReader((run.dir.path / "metrics.csv").open())) for run in (every, third))
    measured_then = {int(row["epoch"]): row for row in sparse if row["top1"]}
    assert sorted(measured_then) == [3, 5]  # the last epoch always
    for epoch, row in measured_then.items():
        assert [row[k] for k in ("top1", "top5", "eval_loss")] == [
            full[epoch - 1][k] for k in ("top1", "top5", "eval_loss")
        ]
    assert [row["train_loss"] for row in sparse] == [row["train_loss"] for row in full]
    result = json.loads((third.dir.path / "result.json").read_text())
    assert result["final"]["top1"] == float(full[-1]["top1"]) and result["best"]["epoch"] in (3, 5)
    with pytest.raises(UserError, match=r"engine\.eval_every=0: must be 1 or more"):
        run_of(tmp_path, "engine.eval_every=0")


def test_disabled_wandb_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from tiny import run_of, train; from pathlib import Path\n"
        "train(run_of(Path(sys.argv[1]), 'rung=0', 'recipe.epochs=1'))\n"
        "print('wandb' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert said.stdout.split()[-1] == "False"


def test_config_is_the_run(done) -> None:
    from omegaconf import OmegaConf

    written = OmegaConf.to_container(OmegaConf.load(done.dir.path / "config.yaml"))
    assert written == done.config
    assert written["spec"]["kernel_size"] == 7
    assert config("rung=12").recipe.name == "digits"


def test_training_starts_from_given_weights(done, tmp_path: Path) -> None:
    """The same classes: the whole network; other classes: all but the classifier. Other content is another run."""
    tiny_lr = ("rung=12", "recipe.lr=1e-12", "recipe.min_lr=0", "recipe.epochs=1", "recipe.weight_decay=0")
    run = run_of(tmp_path, *tiny_lr, f"weights={done.dir.path}")
    assert train(run).state == "done"
    trained, started = final_state(done)["model"], final_state(run)["model"]
    for key, value in trained.items():
        torch.testing.assert_close(started[key], value, rtol=1e-4, atol=1e-6)
    assert run.config_hash != run_of(tmp_path, *tiny_lr).config_hash
    wider = run_of(tmp_path, *tiny_lr, f"weights={done.dir.path}", "data.num_classes=12")
    assert train(wider).state == "done"
    started = final_state(wider)["model"]
    assert started["head.fc.weight"].shape[0] == 12
    torch.testing.assert_close(started["stem.conv.weight"], trained["stem.conv.weight"], rtol=1e-4, atol=1e-6)


def test_weights_that_do_not_fit_or_are_not_there_are_told(done, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another network"):
        train(run_of(tmp_path, "rung=0", f"weights={done.dir.path}"))
    with pytest.raises(UserError, match="nowhere"):
        run_of(tmp_path, "weights=nowhere")
