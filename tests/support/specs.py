"""Owns random specs: hypothesis strategies for every field of each kind of spec, small enough to run."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ladder.networks.spec import IsotropicSpec, NetSpec

CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "expansion": st.integers(1, 4),
    "stem": st.sampled_from(["resnet", "patchify"]),
    "stem_stride": st.sampled_from([4, 2, 1]),
    "stem_norm": st.booleans(),
    "stem_act": st.booleans(),
    "block": st.sampled_from(["bottleneck", "inverted"]),
    "conv": st.sampled_from(["dense", "depthwise"]),
    "conv_position": st.sampled_from(["middle", "first"]),
    "kernel_size": st.sampled_from([1, 3, 5, 7, 11]),
    "act": st.sampled_from(["relu", "gelu", "silu", "prelu", "hard_swish"]),
    "acts_per_block": st.sampled_from([1, 2, 3]),
    "norm": st.sampled_from(["batch", "layer"]),
    "norms_per_block": st.sampled_from([1, 2, 3]),
    "shortcut_norm": st.booleans(),
    "downsample": st.sampled_from(["strided", "separate"]),
    "head_norm": st.booleans(),
    "conv_bias": st.sampled_from(["auto", "always"]),
    "layer_scale": st.none() | st.sampled_from([1e-6, 0.1, 1.0]),
    "drop_path": st.sampled_from([0.0, 0.1, 0.5]),
    "init": st.sampled_from(["trunc_normal", "kaiming"]),
    "init_base_width": st.none() | st.sampled_from([64, 96]),
    "grn": st.booleans(),
    "se": st.booleans(),
}

overrides = st.fixed_dictionaries({}, optional=CHOICES)  # any of the choices, the others left as they are


@st.composite
def small_specs(draw: st.DrawFn) -> NetSpec:
    """Any spec of one to three stages of at most two blocks and twelve channels."""
    stages = draw(st.integers(1, 3))
    depths = draw(st.tuples(*[st.integers(1, 2)] * stages))
    widths = draw(st.tuples(*[st.sampled_from([4, 6, 12])] * stages))
    return NetSpec(depths=depths, widths=widths, **draw(st.fixed_dictionaries(CHOICES)))


ISOTROPIC_CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "patch_size": st.integers(1, 4),
    "stem_act": st.booleans(),
    "stem_norm": st.booleans(),
    "kernel_size": st.sampled_from([1, 2, 3, 5, 8, 9]),
    "expansion": st.none() | st.integers(1, 4),
    "act": CHOICES["act"],
    "acts": st.sampled_from(["all", "inner"]),
    "norm": st.sampled_from(["batch", "layer"]),
    "norms": st.sampled_from(["all", "first"]),
    "order": st.sampled_from(["act_norm", "norm_act"]),
    "residual_depthwise": st.booleans(),
    "residual_pointwise": st.booleans(),
    "residual_block": st.booleans(),
    "head_norm": st.booleans(),
    "layer_scale": CHOICES["layer_scale"],
    "drop_path": CHOICES["drop_path"],
    "init": st.sampled_from(["torch", "trunc_normal"]),
}


@st.composite
def isotropic_specs(draw: st.DrawFn) -> IsotropicSpec:
    """Any isotropic spec of at most three blocks and twelve channels."""
    width, depth = draw(st.sampled_from([4, 6, 12])), draw(st.integers(1, 3))
    return IsotropicSpec(width=width, depth=depth, **draw(st.fixed_dictionaries(ISOTROPIC_CHOICES)))
