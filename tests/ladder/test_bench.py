"""The bench: what it measures is what was asked for; wrong names are told."""

from __future__ import annotations

import json

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
        assert row["infer_images_per_s"] > row["train_images_per_s"]  # a training step does three times the work
    assert result["conditions"]["layout"] == "channels_last"


def test_formats(result) -> None:
    assert json.loads(render(result, "json")) == result
    assert render(result, "csv").count("\n") == 3
    assert render(result, "md").startswith("| network |")
    assert "timm test_resnet" in render(result, "text")


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
    ],
)
def test_a_mistake_is_told(arguments: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says.replace("[", r"\[")):
        bench(parse(arguments))


def test_defaults_are_all_main_rungs() -> None:
    from ladder.bench import networks

    names = [name for name, _, size in networks(BenchConfig(ladder="convnext_t")) if size == 224]
    assert len(names) == 13
