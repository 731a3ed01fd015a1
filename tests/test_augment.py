import torch

from augment import shift


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
