import math

import numpy as np
import pytest
import torch

from datasets import strokes
from training.augment import add_noise, elastic_field, shift, warp


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    x, _ = strokes.generate(200, seed=1)
    return torch.from_numpy(np.array(x)).unsqueeze(1).float() / 255


def test_shift_moves_whole_images_and_fills_with_background():
    images = torch.zeros(200, 1, 28, 28)
    images[:, 0, 10:14, 5:9] = torch.rand(4, 4) + 0.1
    moved = shift(images, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(moved.sum((1, 2, 3)), images.sum((1, 2, 3)))        # nothing left the frame here
    corners = {tuple((m[0] > 0).nonzero()[0].tolist()) for m in moved}
    assert corners == {(y, x) for y in range(8, 13) for x in range(3, 8)}          # all 25 places, and no other
    edge = torch.ones(50, 1, 28, 28)
    assert (shift(edge, 2, torch.Generator().manual_seed(0)).sum((1, 2, 3)) <= 784).all()


def test_shift_is_seeded_and_lets_gradients_through():
    images = torch.rand(8, 1, 28, 28, requires_grad=True)
    one, two = (shift(images, 3, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
    one.sum().backward()
    assert set(images.grad.unique().tolist()) <= {0.0, 1.0} and images.grad.sum() > 0


def test_warp_without_distortion_is_the_identity(digits):
    same = warp(digits, seeded(), degrees=0, scale=0, shear=0, pixels=0, elastic=0)
    torch.testing.assert_close(same, digits, atol=1e-4, rtol=0)


def test_warp_keeps_shape_range_and_most_of_the_ink(digits):
    for elastic in (0, 8.0, 20.0):
        out = warp(digits, seeded(), elastic=elastic)
        assert out.shape == digits.shape and out.dtype == torch.float32
        assert out.min() >= 0 and out.max() <= 1 + 1e-6
        assert not torch.equal(out, digits)
        assert out.sum() / digits.sum() == pytest.approx(1, abs=0.1)


def test_warp_is_a_function_of_the_state_of_its_generator(digits):
    rng = seeded(5)
    one, two = warp(digits, rng), warp(digits, rng)
    assert torch.equal(one, warp(digits, seeded(5))) and not torch.equal(one, two)
    before = torch.get_rng_state()
    warp(digits, seeded())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("size", [(28, 28), (20, 36)])
def test_warp_moves_turns_and_stretches_as_far_as_it_says(size):
    """Two dots left and right of the centre: their places tell the move, the turn and the stretch of each image."""
    n, (height, width) = 1000, size
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    dots = [torch.exp(-((x - at) ** 2 + y ** 2) / 3).expand(n, 1, height, width) for at in (-6, 6)]

    def places(**how):
        usual = {"degrees": 0, "scale": 0, "shear": 0, "pixels": 0, "elastic": 0}
        out = [warp(d, seeded(), **{**usual, **how}) for d in dots]
        return [torch.stack([(o[:, 0] * x).sum((1, 2)), (o[:, 0] * y).sum((1, 2))], 1) / o.sum((1, 2, 3))[:, None]
                for o in out]

    left, right = places(pixels=2)
    middle = (left + right) / 2
    assert middle.abs().max() == pytest.approx(2, abs=0.05) and middle.std(0) == pytest.approx(2 / 3 ** 0.5, abs=0.05)
    left, right = places(degrees=15)
    turns = torch.rad2deg(torch.atan2(*(right - left).flip(1).T))
    assert turns.abs().max() == pytest.approx(15, abs=0.3) and turns.std() == pytest.approx(15 / 3 ** 0.5, abs=0.5)
    left, right = places(scale=0.15)
    stretch = (right - left)[:, 0] / 12
    assert stretch.min() == pytest.approx(0.85, abs=0.01) and stretch.max() == pytest.approx(1.15, abs=0.01)


def test_warp_leans_to_the_side_and_stretches_each_axis_by_itself():
    """Dots above and below the centre move to opposite sides, whichever way the image is turned and stretched."""
    y, x = torch.meshgrid(torch.arange(28) - 13.5, torch.arange(28) - 13.5, indexing="ij")

    def ends(of_x, of_y, **how):
        """Half the way from the dot at -(of_x, of_y) to the one at +(of_x, of_y), over 6 pixels: [1000, 2]."""
        usual = {"degrees": 0, "scale": 0, "shear": 0, "pixels": 0, "elastic": 0}
        dots = [torch.exp(-((x - s * of_x) ** 2 + (y - s * of_y) ** 2) / 3).expand(1000, 1, 28, 28) for s in (-1, 1)]
        out = [warp(d, seeded(), **{**usual, **how})[:, 0] for d in dots]
        places = [torch.stack([(o * x).sum((1, 2)), (o * y).sum((1, 2))], 1) / o.sum((1, 2))[:, None] for o in out]
        return (places[1] - places[0]) / 12
    upright = ends(0, 6, shear=0.15)
    assert upright[:, 0].abs().max() == pytest.approx(0.15, abs=0.01) and (upright[:, 1] - 1).abs().max() < 0.01
    assert upright[:, 0].std() == pytest.approx(0.15 / 3 ** 0.5, abs=0.01)
    assert (ends(6, 0, shear=0.15) - torch.tensor([1.0, 0.0])).abs().max() < 0.01, "what is level stays so"
    turned = ends(6, 0, degrees=15, shear=0.15)[:, 1]
    assert abs(np.corrcoef(turned, upright[:, 0])[0, 1]) < 0.1, "turns and leans are drawn apart"
    wide, high = ends(6, 0, scale=0.15)[:, 0], ends(0, 6, scale=0.15)[:, 1]
    assert high.std() == pytest.approx(0.15 / 3 ** 0.5, abs=0.01) and abs(np.corrcoef(wide, high)[0, 1]) < 0.1


def test_nothing_is_flipped(digits):
    """The nearest of an image, its mirror images and its half turn to a warped image is the image itself."""
    asymmetric = digits[((digits - digits.flip(3)).abs().mean((1, 2, 3)) > 0.1)
                        & ((digits - digits.flip(2, 3)).abs().mean((1, 2, 3)) > 0.1)
                        & ((digits - digits.flip(2)).abs().mean((1, 2, 3)) > 0.1)]
    assert len(asymmetric) > 50
    out = warp(asymmetric, seeded(), pixels=0)
    rivals = torch.stack([asymmetric, asymmetric.flip(3), asymmetric.flip(2), asymmetric.flip(2, 3)])
    assert ((rivals - out).square().sum((2, 3, 4)).argmin(0) == 0).float().mean() > 0.95


def test_elastic_displacement_is_as_large_as_documented_and_smooth():
    field = elastic_field(3000, 28, 28, 8.0, seeded())
    assert field.shape == (3000, 28, 28, 2)
    rms = field.square().mean((0, 3)).sqrt()
    assert rms.mean() == pytest.approx(0.326, abs=0.005) and rms.min() > 0.31 and rms.max() < 0.34   # at every pixel
    # noise smoothed by a Gaussian of sigma s correlates over a distance d by exp(-d^2 / 4 s^2)
    for distance in (1, 4, 8):
        product = (field[:, :, distance:] * field[:, :, :-distance]).mean() / field.square().mean()
        assert product == pytest.approx(math.exp(-distance ** 2 / 64), abs=0.03)
    assert (field[..., 0] * field[..., 1]).mean().abs() < 0.005                       # the axes are independent
    torch.testing.assert_close(elastic_field(9, 28, 28, 16.0, seeded()), 2 * elastic_field(9, 28, 28, 8.0, seeded()))


def test_images_of_a_batch_are_warped_each_in_its_own_way(digits):
    out = warp(digits[:1].expand(50, 1, 28, 28), seeded())
    assert len({o.numpy().tobytes() for o in out}) == 50


def test_noise_is_as_strong_as_it_says_and_differs_from_image_to_image():
    """Its standard deviation is uniform up to the most: half of that on average, on grey images, of which nothing is cut."""
    grey, rng = torch.full((2000, 1, 28, 28), 0.5), torch.Generator().manual_seed(0)
    noisy = add_noise(grey, rng, 0.1)
    std = noisy.std((1, 2, 3))
    assert abs(std.mean() - 0.05) < 0.003 and 0.095 < std.max() < 0.11 and std.min() < 0.005
    assert abs(noisy.mean() - 0.5) < 1e-3
    black_or_white = add_noise((grey > torch.rand(grey.shape)).float(), rng, 1.0)
    assert black_or_white.min() == 0 and black_or_white.max() == 1
    assert torch.equal(add_noise(grey, rng, 0.0), grey)
