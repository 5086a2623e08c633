"""Owns the final weights: a safetensors file that holds its spec, so that it alone rebuilds the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ladder.errors import UserError, one_line
from ladder.networks.build import build_net
from ladder.networks.spec import CallSpec, Spec, spec_class
from ladder.paths import strict_json, write_atomic

FILE = "model.safetensors"


def save_model(path: Path, model: nn.Module, spec: Spec, about: dict[str, Any]) -> None:
    """Write the weights of `model` and what rebuilds it (`about` must hold num_classes and in_chans)."""
    metadata = {"network": spec.network, "spec": strict_json(spec.to_dict()), "about": strict_json(about)}
    # .contiguous(): channels-last weights are saved in the plain order
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    write_atomic(path, _in_order(save(tensors, metadata)))


def _in_order(file: bytes) -> bytes:
    """A safetensors file with its header's keys sorted: equal runs write equal files (metadata come in any order)."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(file)[end:]))


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a run folder or of its `model.safetensors`. Raises UserError."""
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError) as error:
        raise UserError(f"can't read {file}: {one_line(error)}") from None
    if not {"network", "spec", "about"} <= metadata.keys():
        raise UserError(f"{file} holds no spec: not written by this project")
    return tensors, metadata


def check_start(spec: Spec, path: str | Path, in_chans: int) -> None:
    """Raise UserError where `start_from` would refuse the weights in `path` for any number of classes.

    Only shapes are read.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        with safe_open(file, framework="pt") as opened:
            found = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"weights={path}: can't read {file}: {one_line(error)}") from None

    def shapes(num_classes: int) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            net = build_net(spec, num_classes=num_classes, in_chans=in_chans)
        return {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}

    wanted, other = shapes(2), shapes(3)
    for key in sorted(found.keys() ^ wanted.keys()):
        raise UserError(f"weights={path}: of another network: {key} is {'missing' if key in wanted else 'too much'}")
    for key, shape in wanted.items():
        if shape != found[key] and shape == other[key]:  # unequal ones are the classifier's
            raise UserError(f"weights={path}: of another network: {key} is {list(found[key])}, not {list(shape)}")


def start_from(model: nn.Module, path: str | Path, num_classes: int) -> None:
    """Copy the weights in `path` into `model`; a classifier of another number of classes keeps its own.

    Raises UserError where the file is of another network.
    """
    tensors, _ = read_weights(path)
    own = model.state_dict()
    for name, theirs in tensors.items():
        mine = own.get(name)
        if mine is None or mine.ndim == 0 or mine.shape[1:] != theirs.shape[1:]:
            continue
        if len(mine) == num_classes != len(theirs):  # the classifier's
            tensors[name] = mine
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"weights={path}: of another network: {one_line(error)[:200]}") from None


def load_model(path: str | Path, into: nn.Module | None = None) -> nn.Module:
    """The trained network of a run folder or of its `model.safetensors`, in eval mode, on the CPU.

    `into`: a network that takes the weights; needed where a function of your own makes it (`network: call`), as no file
    may say which code runs.
    `model.about` holds what the file says of it: ladder, rung, class_names, image_size, mean, std, top1.
    `model.pretrained_cfg` is what timm asks for how the run evaluated (`timm.data.resolve_model_data_config(model)`);
    files from before it was written have none.
    Raises UserError where there is no such file or it is not one of ours.
    """
    tensors, metadata = read_weights(path)
    spec = spec_class(metadata["network"]).from_mapping(json.loads(metadata["spec"]))
    about = json.loads(metadata["about"])
    if into is None and isinstance(spec, CallSpec):
        raise UserError(f"{path}: a network of {spec.target}; build it and give it: load_model(path, into=network)")
    model: Any = into
    if model is None:
        model = build_net(spec, num_classes=about["num_classes"], in_chans=about["in_chans"])
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path}: of another network than this one: {one_line(error)[:200]}") from None
    model.about = about
    if "evaluation" in about:
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in about["evaluation"].items()}
        model.pretrained_cfg = {**getattr(model, "pretrained_cfg", {}), **given}
    network: nn.Module = model.eval()
    return network
