"""The bench: what it measures is what was asked for; wrong names are told."""

from __future__ import annotations

import json
import re

import pytest

from ladder.bench import BenchConfig, bench, parse, render
from ladder.errors import UserError


@pytest.fixture(scope="module")
def result():
    """Two rungs and a timm model, in moments."""
    config = parse(
        ["ladder=convnext_32", "rungs=[resnet,12]", "models=[test_resnet]", "image_size=32", "batch_size=2"]
        + ["rounds=3", "seconds=0.01", "num_classes=10", "device=cpu"]
    )
    return bench(config)


def test_every_network_has_every_figure(result) -> None:
    assert [row["name"] for row in result["rows"]] == ["resnet", "separate_downsampling", "timm test_resnet"]
    for row in result["rows"]:
        assert row["failed"] is None
        assert row["params"] > 0 and row["macs"] > 0
        for mode in ("train", "infer"):
            assert row[f"{mode}_images_per_s"] > 0
            assert row[f"{mode}_iqr"] >= 0
    assert result["conditions"]["layout"] == "channels_last"


def test_formats(result) -> None:
    assert json.loads(render(result, "json")) == result
    assert render(result, "csv").count("\n") == 3
    assert render(result, "md").startswith("| network |")
    assert "timm test_resnet" in render(result, "text")


def test_a_network_that_failed_costs_the_others_nothing(result) -> None:
    first, *others = result["rows"]
    measured = {"train_images_per_s", "train_iqr", "infer_images_per_s", "infer_iqr"}
    failed = {k: v for k, v in others[0].items() if k not in measured} | {"failed": "out of GPU memory"}
    for rows in ([first, failed], [failed]):
        told = render({**result, "rows": rows}, "md")
        assert "| out of GPU memory |" in told
        assert "nan" not in told
        assert (f"{first['train_images_per_s']:,.1f} ± " in told) == (first in rows)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to measure"),
        (["ladder=convnext_tt"], "did you mean convnext_t"),
        (["ladder=convnext_32", "rungs=[gleu]"], "did you mean gelu"),
        (["models=[resnet_fifty]"], "unknown timm model"),
        (["ladder=convnext_32", "modes=[trian]"], "did you mean train"),
        (["ladder=convnext_32", "batch_size=many"], "batch_size=many"),
        (["lader=convnext_32"], "did you mean ladder"),
        (["ladder=convnext_32", "device=tpu"], "allowed: auto, cpu"),
        (["ladder=convnext_32", "image_size=-1"], "image_size=-1: must be 1 or more"),
        (["ladder=convnext_32", "threads=0"], "threads=0: must be 1 or more"),
        (["ladder=convnext_32", "seconds=0"], "seconds=0: must be above 0"),
        (["ladder=convnext_32", "seconds=inf"], "seconds=inf: must be above 0, and at most 3600"),
        (["ladder=convnext_32", "threads=1000000"], "threads=1000000: must be 1 or more, at most 4,096"),
        (["ladder=convnext_32", "modes=[]"], "modes=[]: nothing to measure"),
        (["ladder=[a"], "while parsing a flow sequence"),
        (["models=[[a]]"], "must be a list of names"),
        (["models=resnet18"], "models=resnet18: must be a list of names: models=[resnet18]"),
        (["ladder=convnext_32", "image_size=2"], "takes no 3x2x2 image"),
        (["ladder=convnext_32", "batch_size=1", "rungs=[resnet]", "image_size=16"], "batch_size=1: resnet can't"),
        (["ladder=convnext_32", "batch_size=1000000", "image_size=4096"], "1,000,000 images of 4096 px take"),
        (["ladder=convnext_32", "out=nosuch/bench.json"], "nosuch is not a folder"),
    ],
)
def test_a_mistake_is_told(arguments: list[str], says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        bench(parse(arguments))


def test_defaults_are_all_main_rungs() -> None:
    from ladder.bench import networks

    names = [name for name, _, size in networks(BenchConfig(ladder="convnext_t")) if size == 224]
    assert len(names) == 13
