"""Owns the spec: the complete, validated description of one network, a field for every design choice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ladder.errors import UserError, unknown
from ladder.networks.arguments import PREFIX, Arguments, arguments, nested, written_over


def _check_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed or type(value) is not type(allowed[0]):  # True is not 1 here, and 1.0 is not either
        raise UserError(f"spec.{name}={value!r}: allowed are {', '.join(map(str, allowed))}")


# What no network of anybody's reaches: beyond it a typing error would ask for all the memory there is.
MOST_CLASSES, MOST_BANDS = 10_000_000, 65_536  # outputs; channels of an image
MOST_STAGES, MOST_BLOCKS, MOST_CHANNELS, MOST_EXPANSION, LARGEST_KERNEL, LARGEST_IMAGE = 12, 1000, 65_536, 64, 255, 4096


def _is_whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def check_ends(num_classes: object, in_chans: object) -> None:
    """Raise UserError unless a network can have so many outputs (0: features) and read images of so many channels."""
    for name, value, least, most in (
        ("num_classes", num_classes, 0, MOST_CLASSES),
        ("in_chans", in_chans, 1, MOST_BANDS),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise UserError(f"{name}={value!r}: must be a whole number from {least} to {most:,}")


def check_number(name: str, value: object, most: int, or_else: str = "") -> None:
    """Refuse anything but one integer from 1 to `most`; `or_else` says what else the caller takes."""
    if not _is_whole(value, most):
        raise UserError(f"spec.{name}={value!r}: must be {or_else}a whole number from 1 to {most:,}")


def check_stages(name: str, values: object, most: int) -> None:
    """Refuse anything but a tuple of integers from 1 to `most`, one a stage."""
    if not isinstance(values, tuple):
        raise UserError(f"spec.{name}={values!r}: must be a list of numbers, one for each stage")
    if not 1 <= len(values) <= MOST_STAGES:
        raise UserError(f"spec.{name}: has {len(values)} stages; allowed: 1 to {MOST_STAGES}")
    if not all(_is_whole(v, most) for v in values):
        raise UserError(f"spec.{name}={list(values)}: must be whole numbers from 1 to {most:,}")


def check_kernel(name: str, value: object) -> None:
    """Refuse an even or non-positive kernel size (an even one has no same padding)."""
    if not (_is_whole(value, LARGEST_KERNEL) and isinstance(value, int) and value % 2):
        raise UserError(
            f"spec.{name}={value!r}: must be an odd whole number up to {LARGEST_KERNEL}, such as 3, 5, 7, 9 or 11"
        )


def check_rate(name: str, value: object) -> None:
    """Refuse a probability outside [0, 1)."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise UserError(f"spec.{name}={value!r}: must be a number from 0 up to, not including, 1")


def check_layer_scale(value: object) -> None:
    """Refuse a layer scale that is neither off (null) nor a positive start value."""
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 10):
        raise UserError(f"spec.layer_scale={value!r}: must be null (off) or a start value above 0, at most 10, as 1e-6")


def check_act(name: str, value: object) -> None:
    """Refuse an activation that timm does not know."""
    if value in ("relu", "gelu"):  # all that the papers use; timm takes seconds to import
        return
    from timm.layers import get_act_layer

    try:
        known = isinstance(value, str) and value != "" and get_act_layer(value) is not None
    except (KeyError, AssertionError):
        known = False
    if not known:
        raise UserError(f"spec.{name}={value!r}: must be an activation that timm knows, such as relu, gelu, silu")


def as_float(value: Any) -> Any:
    """A number as a float, -0.0 as 0.0; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return float(value) + 0.0
    except OverflowError:  # a whole number of 300 digits: refused by whoever reads it
        return value


def _canonical(name: str, kind: str, value: Any) -> Any:
    """One way to write each value, so that equal networks have equal specs: 0 and -0.0 as 0.0, GELU as gelu."""
    if isinstance(value, list):
        return tuple(value)
    if name == "act" and isinstance(value, str):
        return value.lower()  # as timm takes it
    return as_float(value) if kind.startswith("float") else value


def later(default: Any) -> Any:
    """A field that came after runs were made: at its default no run records it, so that their names stay."""
    return dataclasses.field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class Spec:
    """What every kind of spec can do; subclasses add the fields."""

    network: ClassVar[str]

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """The names of the design choices, in the order of declaration."""
        return tuple(f.name for f in dataclasses.fields(cls))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build a spec from YAML values. Raises UserError naming the first bad or missing field."""
        names = cls.field_names()
        for key in values:
            if key not in names:
                raise unknown("spec field", key, names)
        missing = [
            f.name
            for f in dataclasses.fields(cls)
            if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise UserError(f"spec lacks {', '.join(missing)}")
        kinds = {f.name: str(f.type) for f in dataclasses.fields(cls)}
        return cls(**{name: _canonical(name, kinds[name], value) for name, value in values.items()})

    def replace(self, **changes: Any) -> Self:
        """The same spec with some choices changed. Raises UserError on an unknown field or a bad value."""
        return self.from_mapping({**self.to_dict(), **changes})

    def for_images(self, size: int) -> Self:
        """The spec for square images of `size` pixels: itself, but for networks that are made for one size."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values (lists, not tuples), as YAML and JSON hold them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in ((n, getattr(self, n)) for n in self.field_names())
        }

    def recorded(self) -> dict[str, Any]:
        """`to_dict` as a run's config and its name hold it: without what `unrecorded` says."""
        values, absent = self.to_dict(), self.unrecorded()
        return {name: value for name, value in values.items() if name not in absent or value != absent[name]}

    @classmethod
    def unrecorded(cls) -> dict[str, Any]:
        """The `later` fields and their defaults: what a record that lacks them means."""
        return {f.name: f.default for f in dataclasses.fields(cls) if f.metadata.get("later")}


@dataclass(frozen=True)
class NetSpec(Spec):
    """A staged network on the road from ResNet to ConvNeXt (arXiv:2201.03545, section 2).

    A block is three convolutions: the spatial one (k x k) and two pointwise ones (1 x 1). With `widths` w and
    `expansion` e, a `bottleneck` block runs wide-narrow-wide (e*w, w, e*w: ResNet), an `inverted` one
    narrow-wide-narrow (w, e*w, w: MobileNetV2, ConvNeXt).

    What the paper leaves open at the steps between the two ends is a field too; the ladder files say what they
    choose and why (`conf/ladder/`).

    Raises:
        UserError: on any value outside what a field's comment allows.
    """

    network: ClassVar[str] = "roadmap"

    depths: tuple[int, ...] = (3, 4, 6, 3)  # blocks in each stage
    widths: tuple[int, ...] = (64, 128, 256, 512)  # narrow width of each stage, channels
    expansion: int = 4  # wide width / narrow width
    stem: str = "resnet"  # resnet: overlapping conv, max pool | patchify: conv p x p, stride p
    stem_stride: int = 4  # total stride of the stem: 4 | 2 | 1 (for small images)
    stem_norm: bool = True  # norm after the stem's convolution
    stem_act: bool = True  # activation after it
    block: str = "bottleneck"  # bottleneck | inverted
    conv: str = "dense"  # the spatial convolution: dense | depthwise
    conv_position: str = "middle"  # of the spatial convolution in its block: middle | first
    kernel_size: int = 3  # of the spatial convolution; odd
    act: str = "relu"  # any activation of timm
    acts_per_block: int = 3  # 3: after both inner layers and after the sum | 2: not after the sum | 1: before the last
    norm: str = "batch"  # batch: BatchNorm, eps 1e-5 | layer: LayerNorm over channels, eps 1e-6
    norms_per_block: int = 3  # 3: after every layer | 2: not after the last | 1: after the spatial convolution
    shortcut_norm: bool = True  # norm after a projection shortcut
    downsample: str = "strided"  # strided: first block of a stage | separate: norm and conv 2x2 stride 2 between stages
    head_norm: bool = False  # norm after global pooling
    conv_bias: str = "auto"  # auto: only where no norm follows directly | always
    layer_scale: float | None = None  # start value of the per-channel scale of the residual branch; null: off
    drop_path: float = 0.0  # stochastic depth of the last block; grows linearly from 0 at the first
    init: str = "trunc_normal"  # trunc_normal: std 0.02 | kaiming: fan-out, as torchvision's ResNet
    # of trunc_normal: the first width for which 0.02 was chosen; other widths keep its signal. null: 0.02 at any width
    init_base_width: int | None = later(None)
    # global response normalisation of what the last convolution of a block reads (ConvNeXt V2, arXiv:2301.00808)
    grn: bool = later(False)
    # squeeze-and-excitation, ratio 1/16, of what a block adds (arXiv:1709.01507)
    se: bool = later(False)

    def __post_init__(self) -> None:
        check_stages("depths", self.depths, MOST_BLOCKS)
        check_stages("widths", self.widths, MOST_CHANNELS)
        if len(self.depths) != len(self.widths):
            raise UserError(
                f"spec.depths has {len(self.depths)} stages and spec.widths {len(self.widths)}: must be equal"
            )
        check_number("expansion", self.expansion, MOST_EXPANSION)
        _check_choice("stem", self.stem, ("resnet", "patchify"))
        _check_choice("stem_stride", self.stem_stride, (4, 2, 1))
        for flag in ("stem_norm", "stem_act", "shortcut_norm", "head_norm", "grn", "se"):
            _check_choice(flag, getattr(self, flag), (True, False))
        _check_choice("block", self.block, ("bottleneck", "inverted"))
        _check_choice("conv", self.conv, ("dense", "depthwise"))
        _check_choice("conv_position", self.conv_position, ("middle", "first"))
        check_kernel("kernel_size", self.kernel_size)
        check_act("act", self.act)
        _check_choice("acts_per_block", self.acts_per_block, (1, 2, 3))
        _check_choice("norm", self.norm, ("batch", "layer"))
        _check_choice("norms_per_block", self.norms_per_block, (1, 2, 3))
        _check_choice("downsample", self.downsample, ("strided", "separate"))
        _check_choice("conv_bias", self.conv_bias, ("auto", "always"))
        check_layer_scale(self.layer_scale)
        check_rate("drop_path", self.drop_path)
        _check_choice("init", self.init, ("trunc_normal", "kaiming"))
        if self.init_base_width is not None:
            check_number("init_base_width", self.init_base_width, MOST_CHANNELS, "null (std 0.02 at any width) or ")

    @property
    def reduction(self) -> int:
        """Total stride: input pixels per pixel of the last feature map."""
        return int(self.stem_stride * 2 ** (len(self.depths) - 1))


@dataclass(frozen=True)
class IsotropicSpec(Spec):
    """A network of one resolution: a patch embedding, then equal blocks. Isotropic ConvNeXt (arXiv:2201.03545,
    section 3.3), ConvMixer (arXiv:2201.09792), and everything between them.

    A block mixes space by a depthwise convolution (k x k, same padding), then channels by one pointwise convolution
    (ConvMixer) or two with a wider layer between them (ConvNeXt). All convolutions have biases, as in both papers.
    The defaults are ConvMixer-256/8 of the CIFAR-10 ablation.

    Raises:
        UserError: on any value outside what a field's comment allows.
    """

    network: ClassVar[str] = "isotropic"

    width: int = 256  # channels, h in ConvMixer's paper
    depth: int = 8  # blocks
    patch_size: int = 1  # p: the stem is a conv p x p, stride p
    stem_act: bool = True  # activation after the stem's convolution
    stem_norm: bool = True  # norm after it
    kernel_size: int = 9  # k of the depthwise convolution
    expansion: int | None = None  # null: one pointwise layer | e: two, e * width channels between them
    act: str = "gelu"  # any activation of timm
    acts: str = "all"  # all: after every layer of a block | inner: after its first pointwise layer only
    norm: str = "batch"  # batch: BatchNorm, eps 1e-5 | layer: LayerNorm over channels, eps 1e-6
    norms: str = "all"  # all: after every layer of a block | first: after its depthwise convolution only
    order: str = "act_norm"  # where both follow a layer: act_norm | norm_act
    residual_depthwise: bool = True  # the depthwise part is added to its input
    residual_pointwise: bool = False  # the pointwise part is added to its input
    residual_block: bool = False  # the whole block is added to its input
    head_norm: bool = False  # norm after global pooling
    layer_scale: float | None = None  # start value of the per-channel scale of what is added; null: off
    drop_path: float = 0.0  # stochastic depth of what is added, in the last block; grows linearly from 0 at the first
    init: str = "torch"  # torch: PyTorch's own start weights (ConvMixer) | trunc_normal: std 0.02 (ConvNeXt)

    def __post_init__(self) -> None:
        check_number("width", self.width, MOST_CHANNELS)
        check_number("depth", self.depth, MOST_BLOCKS)
        check_number("patch_size", self.patch_size, LARGEST_IMAGE)
        check_number("kernel_size", self.kernel_size, LARGEST_KERNEL)
        if self.expansion is not None:
            check_number("expansion", self.expansion, MOST_EXPANSION, "null (one pointwise layer) or ")
        flags = ("stem_act", "stem_norm", "residual_depthwise", "residual_pointwise", "residual_block", "head_norm")
        for flag in flags:
            _check_choice(flag, getattr(self, flag), (True, False))
        check_act("act", self.act)
        _check_choice("acts", self.acts, ("all", "inner"))
        _check_choice("norm", self.norm, ("batch", "layer"))
        _check_choice("norms", self.norms, ("all", "first"))
        _check_choice("order", self.order, ("act_norm", "norm_act"))
        check_layer_scale(self.layer_scale)
        check_rate("drop_path", self.drop_path)
        _check_choice("init", self.init, ("torch", "trunc_normal"))

    @property
    def reduction(self) -> int:
        """Total stride: input pixels per pixel of the feature maps."""
        return self.patch_size


class FactorySpec(Spec):
    """What specs share whose network a factory builds, with arguments of its own in the field `args`."""

    args: Arguments

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """As `Spec.from_mapping`; arguments may be nested (`args: {a: 1}`) or dotted (`args.a: 1`)."""
        own: dict[str, Any] = {}
        given: dict[str, Any] = {}
        for key, value in values.items():
            name = str(key)  # YAML has keys of other types
            (given if name.partition(".")[0] == PREFIX else own)[name] = value
        return super().from_mapping({**own, PREFIX: arguments(written_over({}, given))})

    def replace(self, **changes: Any) -> Self:
        """The same spec with some choices changed; `args` changes those that it names."""
        return self.from_mapping(written_over(self.to_dict(), changes))

    def for_images(self, size: int) -> Self:
        """The spec for square images of `size` pixels."""
        return self.replace(image_size=size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the arguments nested."""
        return {**super().to_dict(), PREFIX: nested(self.args)}

    @classmethod
    def unrecorded(cls) -> dict[str, Any]:
        """As `Spec.unrecorded`."""
        return {**super().unrecorded(), PREFIX: {}}


@dataclass(frozen=True)
class TimmSpec(FactorySpec):
    """A model of timm with random weights, as `timm.create_model(model, **args)` makes it.

    Whether timm has it, and takes the arguments, is known when it is built: timm takes seconds to import.

    Raises:
        UserError: on a value outside what a field's comment allows.
    """

    network: ClassVar[str] = "timm"

    model: str  # timm's name
    image_size: int | None = None  # pixels, square, those of the data; null: the model's own
    drop_path: float = 0.0  # timm's drop_path_rate; recipe.drop_path sets it
    args: tuple[tuple[str, Any], ...] = later(())  # further arguments of timm.create_model

    def __post_init__(self) -> None:
        name: object = self.model
        if not isinstance(name, str) or not name:
            raise UserError(f"spec.model={name!r}: must be a name of timm.list_models()")
        if self.image_size is not None:
            check_number("image_size", self.image_size, LARGEST_IMAGE)
        check_rate("drop_path", self.drop_path)
        _check_arguments(self.args, tuple(_GIVEN))


_GIVEN = {  # arguments that a run gives
    "num_classes": "is that of the data",
    "in_chans": "is data.in_chans",
    "img_size": "is data.image_size",
    "image_size": "is data.image_size",
    "pretrained": "start from published weights by weights=",
    "checkpoint_path": "start from weights by weights=",
    "drop_path_rate": "is recipe.drop_path",
}


def _check_arguments(args: Arguments, given: Iterable[str]) -> None:
    """Refuse arguments that the run itself gives."""
    for name, _ in args:
        if name in given:
            raise UserError(f"spec.args.{name}: {_GIVEN[name]}")


@dataclass(frozen=True)
class CallSpec(FactorySpec):
    """A network that a person's own function makes: `target(**args, num_classes=..., in_chans=...)`.

    Nothing is imported before the network is built (`ladder.networks.call`), and never where the spec is `foreign`.

    Raises:
        UserError: on a value outside what a field's comment allows.
    """

    network: ClassVar[str] = "call"

    target: str  # package.module.function, on the Python path or beside the ladder file
    image_size: int | None = None  # pixels, square, those of the data; handed over where the function takes it
    drop_path: float = 0.0  # handed over as drop_path_rate or drop_path; recipe.drop_path sets it
    code: str | None = later(None)  # digest of the module's source file, where a run knows it
    args: tuple[tuple[str, Any], ...] = later(())  # further arguments of the function
    folder: str | None = dataclasses.field(default=None, compare=False)  # of the ladder file; no run records it
    foreign: bool = dataclasses.field(default=False, compare=False)  # read from a study: its code is not to be run

    def __post_init__(self) -> None:
        target: object = self.target
        parts = target.split(".") if isinstance(target, str) else []
        if len(parts) < 2 or not all(part.isidentifier() for part in parts):
            raise UserError(f"spec.target={target!r}: must be MODULE.FUNCTION, such as mynets.make")
        if self.image_size is not None:
            check_number("image_size", self.image_size, LARGEST_IMAGE)
        check_rate("drop_path", self.drop_path)
        code: object = self.code
        if code is not None and not isinstance(code, str):
            raise UserError(f"spec.code={code!r}: must be null: a run takes the digest of the function's file")
        _check_arguments(self.args, ("num_classes", "in_chans", "image_size"))

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Without where the code lies, which is no choice of the network."""
        return tuple(name for name in super().field_names() if name not in ("folder", "foreign"))

    def at(self, folder: str | None, foreign: bool = False) -> Self:
        """The same network, its function looked for in `folder` too."""
        return dataclasses.replace(self, folder=folder, foreign=foreign)

    def replace(self, **changes: Any) -> Self:
        """The same spec with some choices changed; `args` changes those that it names."""
        return super().replace(**changes).at(self.folder, self.foreign)


# The `network:` key of a ladder file.
SPECS: dict[str, type[Spec]] = {spec.network: spec for spec in (NetSpec, IsotropicSpec, TimmSpec, CallSpec)}


def spec_class(network: str) -> type[Spec]:
    """The spec class of a ladder's `network:` key, or of saved weights. Raises UserError on an unknown one."""
    if network not in SPECS:
        raise unknown("network", network, SPECS)
    return SPECS[network]
