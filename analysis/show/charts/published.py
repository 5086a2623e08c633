"""Owns the published networks beyond the ladders as points of the scatter charts."""

from __future__ import annotations

from analysis.read.published import PAPER, number, rows
from analysis.show.charts.scatter import Point


def imagenet_points(x: str) -> list[Point]:
    """ImageNet-1K models of Table 1 (no 22K pre-training) over a column: gflops or throughput_a100_img_s."""
    out = []
    for row in rows("convnext_imagenet1k"):
        value, top1 = number(row[x]), number(row["top1"])
        if row["pretrain"] != "none" or not row["source"].startswith(PAPER) or value is None or top1 is None:
            continue
        family, _, size = row["model"].partition("-")
        pixels = row["train_or_finetune_px"]
        label = size if pixels == "224" else f"{size} {pixels} px"
        params = number(row["params_M"])
        part = "" if pixels == "224" else pixels
        out.append(Point(label, value, top1, None, None if params is None else params * 1e6, family, part=part))
    return out


def isotropic_points() -> list[Point]:
    """Table 2: isotropic ConvNeXt beside ViT, over GFLOPs."""
    out = []
    for row in rows("convnext_isotropic"):
        x, top1, params = (
            number(row["gflops"]),
            number(row["top1"]),
            number(row["params_M"]),
        )
        if x is not None and top1 is not None:
            name = row["model"].split(" ")[0]
            family = "ViT" if name.startswith("ViT") else "ConvNeXt (isotropic)"
            out.append(Point(name.split("-")[1], x, top1, None, params and params * 1e6, family))
    return out


def convmixer_points() -> list[Point]:
    """ConvMixer's Table 1: ImageNet top-1 over parameters in millions."""
    out = []
    for row in rows("convmixer_imagenet"):
        x, top1 = number(row["params_M"]), number(row["top1"])
        if row["table"] == "1" and x is not None and top1 is not None:
            family, _, size = row["network"].partition("-")
            out.append(Point(size, x, top1, None, None, family))
    return out
