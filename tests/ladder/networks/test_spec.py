"""Specs: what they accept, what they refuse and how they say it, that plain values make the same spec again."""

from __future__ import annotations

import dataclasses
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import CHOICES, ISOTROPIC_CHOICES, isotropic_specs, small_specs

from ladder.errors import UserError
from ladder.networks.spec import IsotropicSpec, NetSpec, Spec, TimmSpec, spec_class


@settings(max_examples=80)
@given(spec=st.one_of(small_specs(), isotropic_specs(), st.builds(TimmSpec, st.just("resnet18"), st.integers(1, 99))))
def test_plain_values_make_the_same_spec_again(spec: Spec) -> None:
    for back in (json.loads(json.dumps(spec.to_dict())), yaml.safe_load(yaml.safe_dump(spec.to_dict()))):
        again = spec_class(spec.network).from_mapping(back)
        assert again == spec
        assert hash(again) == hash(spec)


def test_random_specs_vary_every_field_but_the_sizes() -> None:
    assert set(CHOICES) | {"depths", "widths"} == set(NetSpec.field_names())
    assert set(ISOTROPIC_CHOICES) | {"depth", "width"} == set(IsotropicSpec.field_names())


def test_a_spec_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NetSpec().kernel_size = 5  # type: ignore[misc]


def test_replace_changes_only_what_it_names() -> None:
    before = NetSpec()
    after = before.replace(kernel_size=7, widths=[8, 16, 32, 64])
    assert (after.kernel_size, after.widths) == (7, (8, 16, 32, 64))
    assert after.replace(kernel_size=before.kernel_size, widths=before.widths) == before


BAD: list[tuple[str, object]] = [
    ("grn", 1),
    ("se", 0.25),
    ("depths", []),
    ("depths", 3),
    ("depths", None),
    ("depths", [3, 4, 6, 0]),
    ("depths", [3, 4, 6]),  # widths have four stages
    ("widths", [64, 128, 256, 51.2]),
    ("widths", [64, 128, 256, "512"]),
    ("widths", [True, 128, 256, 512]),
    ("expansion", 0),
    ("expansion", 4.0),
    ("expansion", (2, 4)),
    ("stem", "conv"),
    ("stem", ["resnet"]),
    ("stem_stride", 3),
    ("stem_stride", "4"),
    ("stem_stride", True),
    ("stem_norm", 1),
    ("stem_act", "yes"),
    ("block", "basic"),
    ("conv", "grouped"),
    ("conv_position", "last"),
    ("kernel_size", 4),
    ("kernel_size", -3),
    ("kernel_size", 3.0),
    ("kernel_size", None),
    ("act", "relux"),
    ("act", ""),
    ("act", None),
    ("acts_per_block", 0),
    ("acts_per_block", 1.0),
    ("norm", "group"),
    ("norms_per_block", 4),
    ("shortcut_norm", None),
    ("downsample", "pool"),
    ("head_norm", 0),
    ("conv_bias", True),
    ("layer_scale", 0),
    ("layer_scale", -1e-6),
    ("layer_scale", float("nan")),
    ("layer_scale", float("inf")),
    ("layer_scale", "1e-6"),
    ("layer_scale", True),
    ("drop_path", 1),
    ("drop_path", -0.1),
    ("drop_path", float("nan")),
    ("drop_path", "0.1"),
    ("init", "xavier"),
    ("init_base_width", 0),
    ("init_base_width", 96.0),
    ("init_base_width", [96]),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_value_is_one_line_that_names_its_field(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"spec.{field}") as told:
        NetSpec().replace(**{field: value})
    assert "\n" not in str(told.value)


def test_every_field_refuses_something() -> None:
    assert {field for field, _ in BAD} == set(NetSpec.field_names())


BAD_ISOTROPIC: list[tuple[str, object]] = [
    ("width", 0),
    ("width", [256]),
    ("width", "256"),
    ("depth", -1),
    ("depth", True),
    ("depth", 8.0),
    ("patch_size", 0),
    ("patch_size", None),
    ("stem_act", "gelu"),
    ("stem_norm", 1),
    ("kernel_size", 0),
    ("kernel_size", "9"),
    ("expansion", 0),
    ("expansion", 0.5),
    ("expansion", False),
    ("act", "relux"),
    ("acts", "every"),
    ("acts", True),
    ("norm", "instance"),
    ("norm", None),
    ("norms", "inner"),
    ("order", "act"),
    ("residual_depthwise", None),
    ("residual_pointwise", 0),
    ("residual_block", "yes"),
    ("head_norm", "layer"),
    ("layer_scale", 0.0),
    ("layer_scale", 11),
    ("drop_path", 1.0),
    ("drop_path", None),
    ("init", "kaiming"),
]


@pytest.mark.parametrize(("field", "value"), BAD_ISOTROPIC)
def test_a_bad_value_of_an_isotropic_spec_is_one_line_that_names_its_field(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"spec.{field}=") as told:
        IsotropicSpec().replace(**{field: value})
    assert "\n" not in str(told.value)


def test_every_field_of_an_isotropic_spec_refuses_something() -> None:
    assert {field for field, _ in BAD_ISOTROPIC} == set(IsotropicSpec.field_names())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model": 18}, "spec.model=18: must be a name of timm.list_models()"),
        ({"model": ""}, "spec.model='': must be a name of timm.list_models()"),
        ({}, "spec lacks model"),
        ({"model": "resnet18", "image_size": 0}, "spec.image_size=0: must be a whole number from 1"),
        ({"model": "resnet18", "drop_path": 1}, "spec.drop_path=1"),
        ({"model": "resnet18", "img_size": 32}, "did you mean image_size"),
    ],
)
def test_a_bad_reference_is_one_line(values: dict[str, object], says: str) -> None:
    with pytest.raises(UserError) as told:
        TimmSpec.from_mapping(values)
    assert says in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("typed", "meant"), [("kernel_sise", "kernel_size"), ("norm_per_block", "norms_per_block"), ("Stem", "stem")]
)
def test_an_unknown_field_is_told_with_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"unknown spec field '{typed}'; did you mean .*\b{meant}\b") as told:
        NetSpec.from_mapping({typed: 3})
    assert "\n" not in str(told.value)


def test_an_unknown_network_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown network 'roadmp'; did you mean roadmap"):
        spec_class("roadmp")
    assert [spec_class(name) for name in ("roadmap", "isotropic", "timm")] == [NetSpec, IsotropicSpec, TimmSpec]


@pytest.mark.parametrize(("stem_stride", "stages", "reduction"), [(4, 4, 32), (2, 4, 16), (1, 3, 4), (4, 1, 4)])
def test_reduction_is_the_total_stride(stem_stride: int, stages: int, reduction: int) -> None:
    spec = NetSpec(depths=(1,) * stages, widths=(8,) * stages, stem_stride=stem_stride)
    assert spec.reduction == reduction
