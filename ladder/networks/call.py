"""Owns networks that a person's own function makes: importing it, its arguments, a digest of its code."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ladder.errors import UserError, one_line, unknown
from ladder.networks.arguments import nested
from ladder.networks.cost import on_meta
from ladder.networks.spec import CallSpec


def build_call(spec: CallSpec, num_classes: int, in_chans: int) -> nn.Module:
    """The module that the target makes. Raises UserError, one line, where it can't be imported or called so."""
    target = _target(spec)
    names, takes_any = _parameters(target)
    given = nested(spec.args)
    for name in given:
        if name not in names and not takes_any:
            raise unknown(f"argument of {spec.target}", name, names)
    given |= {"num_classes": num_classes, "in_chans": in_chans}
    if spec.image_size is not None and "image_size" in names:
        given["image_size"] = spec.image_size
    if spec.drop_path:
        known = next((name for name in ("drop_path_rate", "drop_path") if name in names or takes_any), None)
        if known is None:
            raise UserError(f"{spec.target} takes neither drop_path_rate nor drop_path: it needs recipe.drop_path=0")
        given[known] = spec.drop_path
    try:
        net = _made(target, given)
    except (Exception, SystemExit) as error:
        shown = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise UserError(f"{spec.target}({shown}) raises {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(net, nn.Module):
        raise UserError(f"{spec.target} returns {type(net).__name__}: must return a torch.nn.Module")
    return net


def _made(target: Callable[..., Any], given: dict[str, Any]) -> Any:
    """What the function returns; on the meta device also where it reads values of tensors, which have none there."""
    if torch.get_default_device().type != "meta":
        return target(**given)
    try:
        return target(**given)
    except (RuntimeError, NotImplementedError):
        with torch.device("cpu"):
            net = target(**given)
        return net.to("meta") if isinstance(net, nn.Module) else net


def check_call(spec: CallSpec, image_size: int, num_classes: int = 10, in_chans: int = 3) -> None:
    """Build it and send a shape through. Raises UserError where it takes no such image, or gives no logits."""
    with torch.device("meta"):
        net = build_call(spec, num_classes, in_chans)
    try:
        out = on_meta(net, image_size, in_chans)
    except UserError as error:
        raise UserError(f"{spec.target}: {error}") from None
    except Exception as error:
        raise UserError(f"{spec.target}: its network raises {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != (1, num_classes):
        shape = list(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise UserError(f"{spec.target}: its network gives {shape} for one image; must give logits, [1, {num_classes}]")


def code_digest(spec: CallSpec) -> str:
    """A digest of the source file of the target's module. Raises UserError where the target can't be imported."""
    target = _target(spec)
    try:
        file = inspect.getsourcefile(inspect.unwrap(target))
    except TypeError:  # a partial, a built-in
        file = getattr(_module(spec), "__file__", None)
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else "built in"
    except OSError as error:
        raise UserError(f"can't read {file}: {error.strerror}") from None


def _module(spec: CallSpec) -> Any:
    """The module of the target, imported from the folder of the ladder file, then from the Python path."""
    if spec.foreign:
        raise UserError(f"the network of {spec.target} is built by training alone: a study's code is not run")
    name = spec.target.rpartition(".")[0]
    if spec.folder is not None and spec.folder not in sys.path:
        sys.path.insert(0, spec.folder)
    try:
        with torch.device("cpu"):  # what a module makes for itself is real, also where the first network is a sketch
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            beside = f", nor beside the ladder file in {spec.folder}" if spec.folder else ""
            raise UserError(f"spec.target={spec.target}: no module {error.name} on the Python path{beside}") from None
        raise UserError(f"spec.target={spec.target}: importing {name} raises {one_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise UserError(
            f"spec.target={spec.target}: importing {name} raises {type(error).__name__}: {one_line(error)}"
        ) from error


def _target(spec: CallSpec) -> Callable[..., Any]:
    module, name = _module(spec), spec.target.rpartition(".")[2]
    found = getattr(module, name, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise unknown(f"function of {module.__name__}", name, names)
    return found  # type: ignore[no-any-return]


def _parameters(target: Callable[..., Any]) -> tuple[list[str], bool]:
    """The names that a function takes as keywords, and whether it takes any."""
    kinds = inspect.Parameter
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # a built-in that doesn't say
        return [], True
    named = [p.name for p in parameters if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    return named, any(p.kind is kinds.VAR_KEYWORD for p in parameters)
