"""A network of one's own, as `docs/your-network.md` walks it: a plain stack of convolutions, or one with shortcuts."""

from torch import Tensor, nn


class Residual(nn.Module):
    """Adds what a layer makes to what it got: (B, C, H, W) to the same."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)


def make(
    num_classes: int, in_chans: int, width: int = 24, depth: int = 2, norm: bool = False, shortcuts: bool = False
) -> nn.Module:
    """A network of `depth` layers of `width` channels; images of any size."""
    layers: list[nn.Module] = [nn.Conv2d(in_chans, width, 2, stride=2)]
    for _ in range(depth):
        conv = nn.Conv2d(width, width, 3, padding=1, bias=not norm)
        layer = nn.Sequential(conv, nn.BatchNorm2d(width) if norm else nn.Identity(), nn.ReLU())
        layers.append(Residual(layer) if shortcuts else layer)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
