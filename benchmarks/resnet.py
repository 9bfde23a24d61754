"""ResNet-18 and ResNet-50 (He et al., 2016; in the latter the 3x3 convolution has the stride)."""

from __future__ import annotations

from torch import Tensor, nn

_WIDTHS = (64, 128, 256, 512)


def _conv(channels: int, out: int, size: int, stride: int = 1) -> nn.Sequential:
    padding = size // 2
    conv = nn.Conv2d(channels, out, size, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class _Block(nn.Module):
    """What both kinds of block have in common: a shortcut beside the body."""

    def __init__(self, body: nn.Sequential, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = body
        plain = stride == 1 and channels == out
        self.shortcut = nn.Identity() if plain else _conv(channels, out, 1, stride)
        self.end = nn.ReLU(inplace=True)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.end(self.body(image) + self.shortcut(image))
        return result


class Basic(_Block):
    """Two 3x3 convolutions."""

    growth = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        body = nn.Sequential(
            _conv(channels, width, 3, stride), nn.ReLU(inplace=True), _conv(width, width, 3)
        )
        super().__init__(body, channels, width, stride)


class Bottleneck(_Block):
    """1x1, 3x3 and 1x1 convolutions."""

    growth = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        out = self.growth * width
        body = nn.Sequential(
            _conv(channels, width, 1),
            nn.ReLU(inplace=True),
            _conv(width, width, 3, stride),
            nn.ReLU(inplace=True),
            _conv(width, out, 1),
        )
        super().__init__(body, channels, out, stride)


class _ResNet(nn.Sequential):
    """(N, 3, height, width) to (N, classes)."""

    def __init__(
        self, block: type[Basic] | type[Bottleneck], blocks: tuple[int, ...], classes: int
    ) -> None:
        layers: list[nn.Module] = [_conv(3, 64, 7, 2), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(3, 2, 1))
        channels = 64
        for width, count in zip(_WIDTHS, blocks, strict=True):
            for number in range(count):
                stride = 2 if number == 0 and width > 64 else 1
                layers.append(block(channels, width, stride))
                channels = block.growth * width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
        super().__init__(*layers)


class ResNet18(_ResNet):
    """11.7 million parameters, 1.8 billion multiplications for an image of 224x224."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__(Basic, (2, 2, 2, 2), classes)


class ResNet50(_ResNet):
    """25.6 million parameters, 4.1 billion multiplications for an image of 224x224."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__(Bottleneck, (3, 4, 6, 3), classes)
