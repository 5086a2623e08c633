"""Owns what all our networks share: a stem, stages or blocks, a head, and timm's conventions for them."""

# No `from __future__ import annotations` where modules have a `forward`: torch.fx copies its annotations into the code
# that it writes, and TorchScript cannot read them as strings.

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from timm.layers import ClassifierHead, LayerNorm2d, NormMlpClassifierHead
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from ladder.networks.layers import STD, check_pool, init_weights
from ladder.networks.pointwise import reroute


class Net(nn.Module):
    """A network that timm can use as one of its own. Subclasses build `stem` and the sequence named `body`.

    Args:
        spec: the network.
        num_classes: outputs of the classifier; 0: none, the network ends in pooled features.
        in_chans: channels of the images.
        global_pool: timm's name of the pooling: avg, max, avgmax, catavgmax (without head norm only), "" for none.
        drop_rate: dropout before the classifier.

    Raises:
        UserError: on a pooling that the head does not have.
    """

    if TYPE_CHECKING:  # TorchScript takes annotations for its own
        body: ClassVar[str]  # the attribute that holds the stages or blocks
        stem: nn.Module
        head: Any

    def __init__(
        self,
        spec: Any,  # of the kind that the subclass reads
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self._head_norm, self._init = spec.head_norm, spec.init
        self.feature_info: list[dict[str, Any]] = []
        self._make_head(self._build(spec), spec.norm, global_pool)
        reroute(self)

    def _build(self, spec: Any) -> int:
        """Make stem, body and feature_info; returns the channels of the last feature map."""
        raise NotImplementedError

    @staticmethod
    def reductions(spec: Any) -> tuple[int, ...]:
        """Total stride of each feature map that the network offers (timm's features_only)."""
        raise NotImplementedError

    @staticmethod
    def min_image_size(spec: Any) -> int:
        """The smallest image side, pixels, that leaves a feature map of at least one pixel."""
        raise NotImplementedError

    def _make_head(self, width: int, norm: str, global_pool: str) -> None:
        """The head, and start weights for the whole network. Raises UserError on a pooling that it does not have."""
        check_pool(global_pool, self._head_norm)
        self.num_features = width
        head: Callable[..., Any] = ClassifierHead
        if self._head_norm:
            layer = nn.BatchNorm2d if norm == "batch" else partial(LayerNorm2d, eps=1e-6)
            head = partial(NormMlpClassifierHead, norm_layer=layer)
        self.head = head(width, self.num_classes, pool_type=global_pool, drop_rate=self.drop_rate)
        self._count_head()
        for name, module in self.named_modules():
            if module is not self.head.fc:
                init_weights(module, self._init, self._start_std(name, module))
        self._init_classifier()

    def _init_classifier(self) -> None:
        if self._init == "trunc_normal":  # else torch's own
            init_weights(self.head.fc, self._init, self._start_std("head.fc", self.head.fc))

    def _start_std(self, name: str, module: nn.Module) -> float:
        """The standard deviation of a layer's start weights, where they are truncated normal."""
        return STD

    def _count_head(self) -> None:
        self.head_hidden_size = self.num_features * self.head.global_pool.feat_mult()  # features before the classifier

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: keep only the blocks' inputs for the backward pass."""
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        """The last layer; Identity where num_classes is 0."""
        return cast(nn.Module, self.head.fc)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new classifier (and pooling) in place of the old one. Raises UserError on an unknown pooling."""
        if global_pool is not None:
            check_pool(global_pool, self._head_norm)
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)
        self._count_head()
        self._init_classifier()

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Feature maps of the stages or blocks (all, the last n, or those of `indices`), and the last one before the
        head.

        `norm` is accepted for timm's sake: no norm belongs to the features here.
        """
        if output_fmt != "NCHW":
            raise ValueError("output_fmt: only NCHW")
        parts = cast(nn.Sequential, getattr(self, self.body))
        take, last = feature_take_indices(len(parts), indices)
        x = self.stem(x)
        taken: list[Tensor] = []
        for i, part in enumerate(parts[: last + 1] if stop_early else parts):
            x = part(x)
            if i in take:
                taken.append(x)
        return taken if intermediates_only else (x, taken)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages or blocks after the last of `indices`, and the head; the indices kept."""
        parts = cast(nn.Sequential, getattr(self, self.body))
        take, last = feature_take_indices(len(parts), indices)
        setattr(self, self.body, parts[: last + 1])
        if prune_head or last + 1 < len(self.feature_info):
            self.num_features = self.feature_info[last]["num_chs"]
            self.head = ClassifierHead(self.num_features, 0, pool_type="")
            self.num_classes = 0
            self._count_head()
        return take

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to the last feature map (B, num_features, H / reduction, W / reduction)."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """A feature map to logits (B, num_classes), or to what the classifier would see (B, head_hidden_size)."""
        out: Tensor = self.head(x, pre_logits=pre_logits)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))
