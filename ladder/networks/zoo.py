"""Owns networks by name: `build_model`, the same networks as timm models, and weights taken over from timm.

Every rung and side rung of every ladder of `conf/ladder/` is the timm model `ladder_<ladder>_<rung>`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from timm.models import build_model_with_cfg, generate_default_cfgs, get_pretrained_cfg, register_model
from torch import Tensor, nn

from ladder.errors import UserError, unknown
from ladder.networks.rungs import Ladder, load_ladder
from ladder.networks.spec import CallSpec, Spec, TimmSpec
from ladder.paths import conf_dir

# ladder.networks.build is imported where it is used: first, it would import timm, then this module, then itself.

__all__ = ["build_model", "load_timm_state"]  # timm adds the names of the models

default_cfgs: dict[str, Any] = {}  # timm looks here for what it should know of a model

_NET_OPTIONS = ("num_classes", "in_chans", "global_pool", "drop_rate")
_TIMM_OPTIONS = (  # what timm's builder takes for itself
    "features_only",
    "out_indices",
    "feature_cls",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_model_args",
    "pretrained_strict",
    "cache_dir",
)


def _take_spec(spec: Spec, options: dict[str, Any], others: tuple[str, ...]) -> Spec:
    """The spec with its fields among `options` applied; they are taken out. Raises UserError on unknown options."""
    fields = spec.field_names()
    if "drop_path_rate" in options and "drop_path" in fields:
        if "drop_path" in options:
            raise UserError("drop_path_rate and drop_path are the same: give one of them")
        options["drop_path"] = options.pop("drop_path_rate")
    for name in options:
        if name not in (*fields, *others):
            raise unknown("option or spec field", name, (*fields, *others))
    return spec.replace(**{name: options.pop(name) for name in fields if name in options})


def build_model(
    ladder: str | Path | Ladder,
    rung: str | int | None = None,
    *,
    steps: str | Iterable[str] | None = None,
    without: str | Iterable[str] | None = None,
    num_classes: int = 1000,
    in_chans: int = 3,
    **spec_overrides: Any,
) -> nn.Module:
    """The network of a rung, or of any subset of a ladder's steps, with random weights.

    Args:
        ladder: a ladder, its name, or the path of its YAML file.
        rung: name or number; without one the top of the chain (of a star: its base).
        steps: instead of a rung: only these steps, in the ladder's order.
        without: instead of a rung: all steps but these.
        num_classes: outputs of the classifier; 0: none.
        in_chans: channels of the images.
        spec_overrides: any field of the spec (`kernel_size=9`); also timm's `drop_path_rate`, `global_pool` and
            `drop_rate`.

    Raises:
        UserError: on an unknown ladder, rung, step or option, naming the nearest, and on a value that can't be.
    """
    from ladder.networks.build import build_net

    chain = ladder if isinstance(ladder, Ladder) else load_ladder(ladder)
    if steps is None and without is None:
        spec = chain.rung(rung).spec
    elif rung is not None:
        raise UserError("rung and steps (or without) exclude each other: give one of them")
    else:
        # A single name may stand for itself; as an iterable it would be its letters.
        some, all_but = ([names] if isinstance(names, str) else names for names in (steps, without))
        spec = chain.subset(steps=some, without=all_but).spec
    options = {"num_classes": num_classes, "in_chans": in_chans, **spec_overrides}
    spec = _take_spec(spec, options, (*_NET_OPTIONS, "drop_path_rate"))
    return build_net(spec, **options)


def _timm_model(ladder: str, rung: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """What timm.create_model calls."""
    from ladder.networks.build import build_net, net_class

    name = f"ladder_{ladder}_{rung}"
    chain = load_ladder(ladder)
    spec = chain.rung(rung).spec
    overlay = dict(kwargs.pop("pretrained_cfg_overlay", None) or {})
    source = kwargs.get("pretrained_cfg")
    given = [overlay, source if isinstance(source, dict) else getattr(source, "__dict__", {})]
    if pretrained and not any(g.get(key) for g in given for key in ("url", "file", "state_dict", "hf_hub_id")):
        raise UserError(f"no weights of {name} are published: train it, or take timm's by ladder.zoo.load_timm_state")
    if isinstance(spec, CallSpec):
        return build_net(spec, **{key: kwargs[key] for key in ("num_classes", "in_chans") if key in kwargs})
    if isinstance(spec, TimmSpec):
        return _of_timm(name, spec.for_images(chain.image_size), pretrained, overlay, kwargs)
    spec = _take_spec(spec, kwargs, (*_NET_OPTIONS, "drop_path_rate", *_TIMM_OPTIONS))
    net = net_class(spec)
    stages = net.reductions(spec)
    overlay.setdefault("pool_size", (max(chain.image_size // stages[-1], 1),) * 2)
    return cast(
        nn.Module,
        build_model_with_cfg(
            partial(net, spec),
            name,
            pretrained,
            pretrained_cfg_overlay=overlay,
            feature_cfg={"out_indices": tuple(range(len(stages))), "flatten_sequential": True},
            **kwargs,
        ),
    )


def _of_timm(
    name: str, spec: TimmSpec, pretrained: bool, overlay: Mapping[str, Any], options: dict[str, Any]
) -> nn.Module:
    """A rung that is a model of timm's with arguments: that model, under our name and with our `pretrained_cfg`."""
    from ladder.networks.timm_model import build_timm_model

    sizes = options.pop("num_classes", 1000), options.pop("in_chans", 3)
    cfg = options.pop("pretrained_cfg", None) or default_cfgs[name].default
    more = {"pretrained": pretrained, "pretrained_cfg": cfg, "pretrained_cfg_overlay": dict(overlay), **options}
    if pretrained:  # weights of the caller's own: timm loads them into its model by our config
        return build_timm_model(spec, *sizes, **more)
    model: Any = build_timm_model(spec, *sizes, **options)
    first = next((name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), None)
    known = cfg if isinstance(cfg, dict) else cfg.to_dict()
    model.pretrained_cfg = model.default_cfg = {**known, "first_conv": first, **overlay}
    network: nn.Module = model
    return network


_HEADS = {"first_conv": "stem.conv", "classifier": "head.fc"}  # where timm looks for these layers of ours


def _timm_heads(model: str) -> dict[str, Any]:
    """What timm says of a model of its own that a rung with other arguments keeps."""
    cfg = get_pretrained_cfg(model)
    known = () if cfg is None else ("first_conv", "classifier", "pool_size", "fixed_input_size")
    return {key: getattr(cfg, key) for key in known if getattr(cfg, key) is not None}


def _register(ladder: str, rung: str, cfg: Mapping[str, Any]) -> None:
    name = f"ladder_{ladder}_{rung}"
    default_cfgs.update(generate_default_cfgs({name: dict(cfg)}))

    def entrypoint(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _timm_model(ladder, rung, pretrained, **kwargs)

    entrypoint.__name__ = entrypoint.__qualname__ = name
    entrypoint.__doc__ = f"Rung {rung} of the ladder {ladder}; fields of its spec are options."
    globals()[name] = entrypoint
    register_model(entrypoint)


_loader: Callable[[str], Any] = partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def _read(group: str, name: str) -> dict[str, Any]:
    return dict(_loader((conf_dir() / group / f"{name}.yaml").read_text()))


def _evaluation(ladder: Mapping[str, Any]) -> dict[str, Any]:
    """How a ladder's rungs are evaluated, as timm's `pretrained_cfg` says it; what no file says is timm's default."""
    size, names = int(ladder.get("image_size", 224)), ladder.get("evaluation") or {}
    recipe, data = (_read(group, names[group]) if group in names else {} for group in ("recipe", "data"))
    given = {
        "interpolation": recipe.get("interpolation"),
        "crop_pct": recipe.get("eval_crop_pct"),
        "mean": data.get("mean"),
        "std": data.get("std"),
    }
    cfg = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if value is not None}
    return {"input_size": (3, size, size), **cfg}


def _register_all() -> None:
    """Tell timm the names of all rungs. Reads names only: specs are built, and checked, when a model is asked for."""
    for path in sorted((conf_dir() / "ladder").glob("*.yaml")):
        try:
            values = _loader(path.read_text())
            base = {"name": values["base"].get("rung"), **values["base"]}
            rungs = [base, *(values.get("steps") or []), *(values.get("side") or [])]
            cfg, heads = _evaluation(values), _HEADS
            for rung in rungs:
                if values.get("network") == TimmSpec.network:
                    model = (rung.get("spec") or rung.get("change") or {}).get("model")
                    heads = _timm_heads(model) if model else heads
                _register(path.stem, str(rung["name"]), {**cfg, **heads})
        except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
            # One broken file must not take the others with it; load_ladder says what is wrong with it.
            logging.getLogger(__name__).warning("ladder file %s is not registered with timm: %r", path, error)


_register_all()

_TIMM_NAMES = (  # timm's and the authors' names of the same parameters, to ours; applied in this order
    (r"^module\.", ""),
    # ResNet: timm, torchvision
    (r"^conv1\.", "stem.conv."),
    (r"^bn1\.", "stem.norm."),
    (r"^layer(\d+)\.(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}.blocks.{m[2]}."),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"(blocks\.\d+)\.downsample\.0\.", r"\1.shortcut.conv."),
    (r"(blocks\.\d+)\.downsample\.1\.", r"\1.shortcut.norm."),
    (r"^fc\.", "head.fc."),
    # ConvNeXt: the authors
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
    (r"^norm\.", "head.norm."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
    # ConvNeXt: timm
    (r"^stem\.0\.", "stem.conv."),
    (r"^stem\.1\.", "stem.norm."),
    (r"\.downsample\.0\.", ".downsample.norm."),
    (r"\.downsample\.1\.", ".downsample.conv."),
    (r"\.conv_dw\.", ".conv1."),
    (r"(blocks\.\d+)\.norm\.", r"\1.norm1."),
    (r"\.mlp\.grn\.", ".grn."),
    (r"\.mlp\.fc1\.", ".conv2."),
    (r"\.mlp\.fc2\.", ".conv3."),
    # isotropic ConvNeXt: the authors
    (r"^stem\.(weight|bias)$", r"stem.conv.\1"),
    (r"^(blocks\.\d+)\.(conv|norm)1\.", r"\1.depthwise.\2."),
    (r"^(blocks\.\d+)\.conv2\.", r"\1.pointwise.conv1."),
    (r"^(blocks\.\d+)\.conv3\.", r"\1.pointwise.conv2."),
    (r"^(blocks\.\d+)\.gamma$", r"\1.add_block.gamma"),
    # ConvMixer: timm, the authors
    (r"^stem\.2\.", "stem.norm."),
    (r"^(blocks\.\d+)\.0\.fn\.0\.", r"\1.depthwise.conv."),
    (r"^(blocks\.\d+)\.0\.fn\.2\.", r"\1.depthwise.norm."),
    (r"^(blocks\.\d+)\.1\.", r"\1.pointwise.conv1."),
    (r"^(blocks\.\d+)\.3\.", r"\1.pointwise.norm1."),
)


def _our_name(key: str) -> str:
    for pattern, replacement in _TIMM_NAMES:
        key = re.sub(pattern, cast(Any, replacement), key)
    return key


def _some(keys: Iterable[str]) -> str:
    names = sorted(keys)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def load_timm_state(model: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Copy published weights into the same network of ours: a ResNet's into a base rung, a ConvNeXt's into a top one,
    those of an isotropic ConvNeXt or a ConvMixer into their rungs. All of them or none.

    Args:
        model: as `build_model` makes it; ConvNeXt-S, -L, -XL by overriding `depths` and `widths`.
        state_dict: of timm's `resnet50`, `convnext_tiny`, `convmixer_768_32`, ..., or as the authors published it
            (torchvision's names; `{"model": ...}` of facebookresearch/ConvNeXt).

    Raises:
        UserError: naming parameters that are missing, left over or of another shape.
    """
    for wrapper in ("model", "state_dict"):
        if isinstance(state_dict.get(wrapper), Mapping):
            state_dict = state_dict[wrapper]
    given: dict[str, Any] = {_our_name(key): (key, value) for key, value in state_dict.items()}
    own: dict[str, Tensor] = model.state_dict()
    found: dict[str, Tensor] = {}
    missing, misshaped = [], []
    for name, tensor in own.items():
        if name not in given:
            if name.endswith("num_batches_tracked"):  # old checkpoints lack it, and nothing here reads it
                found[name] = tensor
            else:
                missing.append(name)
            continue
        key, value = given[name]
        # A linear layer over channels is a 1 x 1 convolution: (out, in) and (out, in, 1, 1).
        if {(*value.shape, 1, 1), tuple(value.shape)} & {(*tensor.shape, 1, 1), tuple(tensor.shape)}:
            value = value.reshape(tensor.shape)
        if value.shape != tensor.shape:
            misshaped.append(f"{key} {tuple(value.shape)} for {tuple(tensor.shape)}")
        found[name] = value
    unexpected = [key for name, (key, _) in given.items() if name not in own]
    problems = [
        f"{what}: {_some(names)}"
        for what, names in (("missing", missing), ("left over", unexpected), ("of another shape", misshaped))
        if names
    ]
    if problems:
        raise UserError(f"these weights do not fit this network; {'; '.join(problems)}")
    with torch.no_grad():
        model.load_state_dict(found, strict=True)
