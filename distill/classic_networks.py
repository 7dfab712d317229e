r"""LeNet, AlexNet and VGG11, as the dataset-distillation literature evaluates on them.

LeNet: two blocks of a 5x5 convolution, ReLU and a 2x2 maximum, then two hidden linear
layers. AlexNet: convolutions of 5, 5, 3, 3 and 3 pixels, each with ReLU, and a 2x2
maximum after the first, second and fifth. VGG11: eight 3x3 convolutions, each with
instance normalisation (one affine group per channel) and ReLU, and a 2x2 maximum after
the first, second, fourth, sixth and eighth. A linear layer reads the last features.
Grey 28x28 images are padded by two more pixels, which makes them 32x32.

References:
    | Gradient-Based Learning Applied to Document Recognition (LeCun, Bottou, Bengio and
    | Haffner, Proceedings of the IEEE 1998), https://doi.org/10.1109/5.726791
    | ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky,
    | Sutskever and Hinton, NeurIPS 2012)
    | Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan and
    | Zisserman, ICLR 2015), https://arxiv.org/abs/1409.1556
    | Dataset Condensation with Gradient Matching (Zhao, Mopuri and Bilen, ICLR 2021),
    | https://arxiv.org/abs/2006.05929, whose code fixes the sizes:
    | https://github.com/VICO-UoE/DatasetCondensation, networks.py

Differences from the paper: that code takes 28x28 grey and 32x32 colour only, and for
these the networks are its own. On sides below 32 pixels VGG11 leaves out its first
maximum, and below 16 its second, so that every normalisation sees maps of 2x2 or more: it
turns a 1x1 map into a constant, and the images would no longer reach the logits. (The
last maxima could go instead, at fewer multiplications, but then 8x8 digits were hardly
learned.) LeNet pads a convolution by 2 where its maps are smaller than the original's, 32
and 14 pixels. The networks of the first papers have other activations, normalisations and
linear layers than those of that code.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from distill.checks import whole
from distill.instance_norm import InstanceNorm
from distill.networks import Architecture, ImageShape, Network


@final
@dataclass(frozen=True)
class LeNet(Architecture):
    """LeNet-5: 62,006 parameters at width 6 on 32x32 colour, 61,706 on 28x28 grey.

    Attributes:
        width: Channels of the first convolution, >= 1; 6 in the literature, with 16
            channels, 120 and 84 units after it, which scale along (rounded down).
    """

    width: int

    def __post_init__(self) -> None:
        whole("network.width", self.width, 1)

    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        """Returns the network.

        Raises:
            ValueError: If an image side is below 8 pixels.
        """
        channels, height, width = _checked(image_shape)
        layers: list[nn.Module] = []
        for planes, original in ((self.width, 32), (8 * self.width // 3, 14)):
            padding = 2 if min(height, width) < original else 0
            convolution = nn.Conv2d(channels, planes, 5, padding=padding)
            layers += [convolution, nn.ReLU(), nn.MaxPool2d(2)]
            channels, height, width = planes, height // 2 + padding - 2, width // 2 + padding - 2
        layers.append(nn.Flatten())
        features = channels * height * width
        for units in (20 * self.width, 14 * self.width):
            layers += [nn.Linear(features, units), nn.ReLU()]
            features = units
        return Network(nn.Sequential(*layers), features, num_classes)


@final
@dataclass(frozen=True)
class AlexNet(Architecture):
    """AlexNet without normalisation: 1,872,202 parameters at width 128 on 32x32 colour.

    Attributes:
        width: Channels of the first convolution, >= 1; 128 in the literature, with 192,
            256, 192 and 192 after it, which scale along (rounded down).
    """

    width: int

    def __post_init__(self) -> None:
        whole("network.width", self.width, 1)

    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        """Returns the network.

        Raises:
            ValueError: If an image side is below 8 pixels.
        """
        channels, height, width = _checked(image_shape)
        rim = _rim(image_shape)
        narrow, wide = 3 * self.width // 2, 2 * self.width
        layers: list[nn.Module] = [nn.Conv2d(channels, self.width, 5, padding=2 + rim), nn.ReLU()]
        layers += [nn.MaxPool2d(2), nn.Conv2d(self.width, narrow, 5, padding=2), nn.ReLU()]
        layers += [nn.MaxPool2d(2), nn.Conv2d(narrow, wide, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(wide, narrow, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        features = narrow * ((height + 2 * rim) // 8) * ((width + 2 * rim) // 8)
        return Network(nn.Sequential(*layers, nn.Flatten()), features, num_classes)


@final
@dataclass(frozen=True)
class VGG11(Architecture):
    """VGG11 with instance normalisation: 9,231,114 parameters at width 64 on 32x32 colour.

    Attributes:
        width: Channels of the first convolution, >= 1; 64 in the literature, with 128,
            256, 256 and four times 512 after it, which scale along.
    """

    width: int

    def __post_init__(self) -> None:
        whole("network.width", self.width, 1)

    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        """Returns the network.

        Raises:
            ValueError: If an image side is below 8 pixels.
        """
        channels, height, width = _checked(image_shape)
        rim = _rim(image_shape)
        height, width = height + 2 * rim, width + 2 * rim
        maxima = min(5, min(height, width).bit_length() - 1)
        layers: list[nn.Module] = []
        for stage, multiples in enumerate(((1,), (2,), (4, 4), (8, 8), (8, 8))):
            for multiple in multiples:
                planes = multiple * self.width
                padding = 1 if layers else 1 + rim
                layers.append(nn.Conv2d(channels, planes, 3, padding=padding))
                layers += [InstanceNorm(planes), nn.ReLU()]
                channels = planes
            if stage >= 5 - maxima:
                layers.append(nn.MaxPool2d(2))
        features = channels * (height >> maxima) * (width >> maxima)
        return Network(nn.Sequential(*layers, nn.Flatten()), features, num_classes)


def _rim(image_shape: ImageShape) -> int:
    """Returns the pixels by which the first convolution widens the image on each side."""
    return 2 if image_shape == (1, 28, 28) else 0


def _checked(image_shape: ImageShape) -> ImageShape:
    """Returns ``image_shape``, and refuses sides that three halvings would leave empty."""
    _, height, width = image_shape
    if min(height, width) < 8:
        raise ValueError(
            f"image sides must be >= 8 pixels, got {height}x{width}; "
            "enlarge the images or take the MLP"
        )
    return image_shape
