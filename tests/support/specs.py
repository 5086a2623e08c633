"""Owns random specs: hypothesis strategies for every field of a NetSpec, small enough to run."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ladder.spec import NetSpec

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
}

overrides = st.fixed_dictionaries({}, optional=CHOICES)  # any of the choices, the others left as they are


@st.composite
def small_specs(draw: st.DrawFn) -> NetSpec:
    """Any spec of one to three stages of at most two blocks and twelve channels."""
    stages = draw(st.integers(1, 3))
    depths = draw(st.tuples(*[st.integers(1, 2)] * stages))
    widths = draw(st.tuples(*[st.sampled_from([4, 6, 12])] * stages))
    return NetSpec(depths=depths, widths=widths, **draw(st.fixed_dictionaries(CHOICES)))
