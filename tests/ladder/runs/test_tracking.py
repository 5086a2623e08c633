"""What W&B gets: read back from the offline files that it would sync."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import run_of, start, train, wait
from wandb_files import read_back

from ladder.errors import UserError
from ladder.runs import tracking
from ladder.runs.notes import by_default, notes
from ladder.runs.tracking import result_of


def test_offline_files_hold_what_a_comparison_needs(tmp_path: Path) -> None:
    run = run_of(tmp_path, "rung=gelu", "seed=3", "study=mine", "wandb.mode=offline")
    assert train(run).state == "done"
    (read,) = read_back(run.dir.path)
    assert (read["name"], read["group"], read["job_type"], read["exit"]) == ("gelu-s3", "mine", "train", 0)
    assert read["tags"] == {"convnext_32", "gelu", "digits"}
    assert read["config"]["spec"]["kernel_size"] == 7
    assert read["config"]["recipe"]["name"] == "digits"
    result = json.loads((run.dir.path / "result.json").read_text())
    assert [row["epoch"] for row in read["history"]] == [1, 2]
    assert read["history"][-1]["top1"] == result["final"]["top1"]
    assert read["summary"]["final/top1"] == result["final"]["top1"]
    assert read["summary"]["params"] == result["params"]


def test_a_failed_run_is_closed_as_failed_and_the_next_is_its_own(tmp_path: Path) -> None:
    bad = run_of(tmp_path, "rung=gelu", "recipe.lr=1e30", "recipe.warmup_epochs=0", "wandb.mode=offline")
    good = run_of(tmp_path, "rung=gelu", "wandb.mode=offline")
    assert train(bad).state == "failed"
    assert train(good).state == "done"
    (one,), (other,) = read_back(bad.dir.path), read_back(good.dir.path)
    assert one["exit"] == 1
    assert other["exit"] == 0
    assert one["id"] != other["id"]
    assert len(other["history"]) == 2


def test_online_without_login_goes_on_offline_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.netrc
    monkeypatch.setattr(tracking, "INIT_TIMEOUT", 5.0)
    run = run_of(tmp_path, "rung=gelu", "wandb.mode=online")
    assert train(run).state == "done"
    (read,) = read_back(run.dir.path)
    assert read["exit"] == 0
    assert "offline" in (run.dir.path / "train.log").read_text()
    assert "not logged in; run `wandb login`" in capfd.readouterr().err, "the terminal says so, too"
    status = run.dir.read_status()
    assert status is not None and status.tracking is not None and "going on offline" in status.tracking


def test_wandbs_environment_is_heeded_where_the_command_line_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"MODE": "dryrun", "PROJECT": "mine", "ENTITY": "team", "RUN_GROUP": "tries", "TAGS": "a, b,"}
    for name, value in variables.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    run = run_of(tmp_path / "runs", "rung=gelu", "recipe.epochs=1", "wandb.mode=offline")
    assert (run.wandb.project, run.wandb.entity, run.wandb.group) == ("mine", "team", "tries")
    assert train(run).state == "done"
    (read,) = read_back(tmp_path / "elsewhere")
    assert (read["group"], read["tags"]) == ("tries", {"convnext_32", "gelu", "digits", "a", "b"})
    given = run_of(tmp_path / "runs", "rung=gelu", "recipe.epochs=1", "wandb.mode=offline", "wandb.project=other")
    assert given.wandb.project == "other" and given.config_hash == run.config_hash
    told = notes([(run, []), (given, [])])
    assert "W&B: project mine (WANDB_PROJECT), entity team (WANDB_ENTITY), group tries (WANDB_RUN_GROUP)" in told[0]
    assert "wandb.project=other was given, not WANDB_PROJECT=mine" in told
    for name in ("PROJECT", "ENTITY", "RUN_GROUP", "TAGS", "DIR"):
        monkeypatch.delenv(f"WANDB_{name}")
    assert notes([(run_of(tmp_path / "runs", "rung=gelu", "recipe.epochs=1"), [])]) == [], "our defaults are nothing to tell of"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("wandb.project=a/b", "wandb.project=a/b: W&B allows no / in it"),
        (f"wandb.project={'x' * 129}", "W&B allows 1 to 128 characters"),
        ("wandb.project=''", "W&B allows 1 to 128 characters"),
        ("wandb.entity='my team'", "must be a user or team"),
        (f"wandb.tags=[{'x' * 65}]", "has 65 characters; W&B allows 1 to 64"),
        ("wandb.mode=on", "wandb.mode=on: allowed are online, offline, disabled"),
        (f"ladder.name={'x' * 65}", "W&B allows tags of 64 characters"),
    ],
)
def test_what_wandb_would_refuse_is_told_before_anything_starts(tmp_path: Path, given: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as told:
        run_of(tmp_path, "rung=gelu", "wandb.mode=offline", given)
    assert "\n" not in str(told.value)


def test_no_secret_in_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("WANDB_API_KEY", secret)
    monkeypatch.setenv("HF_TOKEN", f"hf_{secret}")
    run = run_of(tmp_path, "rung=gelu", "recipe.epochs=1", "wandb.mode=offline")
    assert train(run).state == "done"
    files = [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_symlink()]
    assert any(p.suffix == ".wandb" for p in files)
    assert not [p for p in files if secret.encode() in p.read_bytes()]


def test_a_tracker_that_breaks_never_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: tracking.Tracker) -> None:
        raise RuntimeError("the service died")

    monkeypatch.setattr(tracking.Tracker, "_start", broken)
    run = run_of(tmp_path, "rung=gelu", "wandb.mode=offline")
    assert wait(start(run, tmp_path)) == [0]
    log = (run.dir.path / "train.log").read_text()
    assert "the service died" in log
    assert "training goes on" in log


def test_wandbs_own_reader_finds_the_same(tmp_path: Path) -> None:
    """`wandb leet inspect`, as the README shows it, on the folder that it names."""
    run = run_of(tmp_path, "rung=gelu", "wandb.mode=offline")
    assert train(run).state == "done"
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(run.dir.path / "wandb")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "No such command" in done.stderr:
        pytest.skip("this release of W&B has no `wandb leet inspect`")
    read = json.loads(done.stdout)
    result = json.loads((run.dir.path / "result.json").read_text())
    assert read["config"]["run"] == run.label and read["config"]["recipe"]["epochs"] == 2
    assert read["summary"]["final/top1"] == result["final"]["top1"]
    assert read["summary"]["epoch"] == 2
    assert (read["name"], read["state"], read["exit_code"]) == ("gelu-s0", "finished", 0)
    assert set(read["tags"]) == {"convnext_32", "gelu", "digits"}


def test_a_summary_says_each_figure_once_and_gives_the_result_back(tmp_path: Path) -> None:
    run = run_of(tmp_path, "rung=gelu", "recipe.epochs=1", "wandb.mode=offline")
    assert train(run).state == "done"
    (read,) = read_back(run.dir.path)
    result = json.loads((run.dir.path / "result.json").read_text())
    values = {key: value for key, value in read["values"].items() if not key.startswith("_")}
    found = result_of(values)
    assert found is not None
    assert {k: v for k, v in found.items() if v is not None} == {k: v for k, v in result.items() if v is not None}
    assert not {"final", "best", "params", "macs", "wall_s"} & set(values["result"])
    assert result_of({"result": result}) == result, "as earlier versions logged it"
    assert result_of({"state": "running"}) is None and result_of({"result": {"ladder": "mine"}}) is None


def test_what_nobody_named_is_told(tmp_path: Path) -> None:
    run = run_of(tmp_path, "rung=gelu")
    assert by_default(run, ["rung=gelu"]) == "ladder=convnext_32 recipe=digits data=digits"
    assert by_default(run, []) == "ladder=convnext_32 rung=gelu recipe=digits data=digits"
    assert by_default(run, ["steps=[gelu]", "ladder=convnext_32", "recipe=digits"]) == "data=digits"
    assert by_default(run, ["experiment=demo", "seed=1"]) == "", "the experiment chose"
