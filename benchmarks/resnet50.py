"""ResNet-50 (He et al., 2016, with the stride in the 3x3 convolution), in torch alone."""

from __future__ import annotations

from torch import Tensor, nn

_BLOCKS = ((64, 3), (128, 4), (256, 6), (512, 3))
_GROWTH = 4


def _conv(channels: int, out: int, size: int, stride: int = 1) -> nn.Sequential:
    padding = size // 2
    conv = nn.Conv2d(channels, out, size, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class Bottleneck(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = _GROWTH * width
        self.body = nn.Sequential(
            _conv(channels, width, 1),
            nn.ReLU(inplace=True),
            _conv(width, width, 3, stride),
            nn.ReLU(inplace=True),
            _conv(width, out, 1),
        )
        plain = stride == 1 and channels == out
        self.shortcut = nn.Identity() if plain else _conv(channels, out, 1, stride)
        self.end = nn.ReLU(inplace=True)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.end(self.body(image) + self.shortcut(image))
        return result


class ResNet50(nn.Sequential):
    """(N, 3, height, width) to (N, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        layers: list[nn.Module] = [_conv(3, 64, 7, 2), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(3, 2, 1))
        channels = 64
        for width, blocks in _BLOCKS:
            for block in range(blocks):
                stride = 2 if block == 0 and width > 64 else 1
                layers.append(Bottleneck(channels, width, stride))
                channels = _GROWTH * width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
        super().__init__(*layers)
