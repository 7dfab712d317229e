"""A rotated experience has all classes, turned by an angle of its own."""

import pytest
import torch

from distill.images import LabelledImages
from fedcl.streams.rotated import Rotated, turned

BLACK = torch.tensor([-1.0]).view(1, 1, 1)


def part(count: int, seed: int) -> LabelledImages:
    rng = torch.Generator().manual_seed(seed)
    return LabelledImages(torch.randn(count, 1, 8, 8, generator=rng), torch.arange(count) % 3, 3)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_move_pixels_counterclockwise(quarters):
    images = part(3, 0).images
    torch.testing.assert_close(
        turned(images, 90 * quarters, BLACK), images.rot90(quarters, (2, 3)), rtol=0, atol=1e-5
    )


def test_an_oblong_image_is_turned_without_being_squeezed(rng):
    images = torch.randn(1, 2, 8, 12, generator=rng)
    fill = torch.tensor([-1.0, -2.0]).view(2, 1, 1)
    # A quarter turn of 8 x 12 keeps the middle 8 x 8; the two columns on either side are empty.
    expected = fill.expand(1, 2, 8, 12).clone()
    expected[..., 2:10] = images[..., 2:10].rot90(1, (2, 3))
    torch.testing.assert_close(turned(images, 90, fill), expected, rtol=0, atol=1e-5)


def test_corners_are_filled_and_the_middle_is_not():
    seen = turned(torch.ones(1, 1, 9, 9), 45, BLACK)[0, 0]
    # The corner's distance from the centre is 4 sqrt(2) = 5.7 pixels, along the axes after the
    # turn: 1.2 beyond the edge at 4.5, so that nothing of the image is blended in.
    torch.testing.assert_close(seen[0, 0].item(), -1.0)
    torch.testing.assert_close(seen[4, 4].item(), 1.0)


def test_nothing_is_turned_by_no_angle():
    images = part(3, 0).images
    assert turned(images, 0.0, BLACK).equal(images)


def test_even_angles_go_from_none_to_the_most():
    assert Rotated(5, 180, drawn=False, divided=False).angles(0) == [0, 45, 90, 135, 180]
    assert Rotated(1, 180, drawn=False, divided=False).angles(0) == [0]


def test_drawn_angles_lie_each_in_its_part_and_are_the_seeds():
    stream = Rotated(20, 180, drawn=True, divided=True)
    angles = stream.angles(3)
    assert [int(angle // 9) for angle in angles] == list(range(20))
    assert angles == stream.angles(3) != stream.angles(4)
    assert len({angle % 9 for angle in angles}) == 20


def test_training_and_test_images_are_turned_alike_and_filled_with_the_darkest_training_value():
    train, test = part(12, 1), part(6, 2)
    stream = Rotated(3, 60, drawn=False, divided=False)
    black = train.images.min().view(1, 1, 1)
    for angle, experience in zip((0, 30, 60), stream.divide(train, test, 0), strict=True):
        assert experience.train.images().images.equal(turned(train.images, angle, black))
        assert experience.test.images().images.equal(turned(test.images, angle, black))
        assert experience.classes == [0, 1, 2]


def test_each_channel_is_filled_with_its_own_black(rng):
    images = torch.rand(3, 3, 8, 8, generator=rng) + torch.tensor([0, 10, 20]).view(3, 1, 1)
    data = LabelledImages(images, torch.arange(3), 3)
    seen = Rotated(2, 45, drawn=False, divided=False).divide(data, data, 0)[1]
    torch.testing.assert_close(seen.train.images().images[0, :, 0, 0], images.amin((0, 2, 3)))


def test_divided_images_come_once_and_no_task_is_told():
    stream = Rotated(3, 180, drawn=True, divided=True)
    shares = [e.train.rows for e in stream.divide(part(12, 1), part(6, 2), 0)]
    assert torch.cat(shares).sort().values.tolist() == list(range(12))
    assert stream.tells_tasks is False


@pytest.mark.parametrize(
    ("experiences", "most", "reason"),
    [(0, 180, "stream.experiences must be >= 1, got 0"), (2, 0, "stream.most must be > 0, got 0")],
)
def test_what_is_no_stream_is_refused(experiences, most, reason):
    with pytest.raises(ValueError, match=reason):
        Rotated(experiences, most, drawn=False, divided=False)
