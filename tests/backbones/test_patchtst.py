import pytest
import torch
from torch.testing import assert_close

from mimstocr.backbones._forecast import Normalised
from mimstocr.backbones.patchtst import PatchTst, PatchTstModule


@pytest.mark.parametrize(("window", "size", "stride", "count"), [(96, 16, 8, 12), (16, 16, 8, 2), (20, 6, 5, 4)])
def test_the_patches_of_the_paper(window: int, size: int, stride: int, count: int) -> None:
    """(L - P) // S + 2 of them, the last step repeated S times at the end."""
    torch.manual_seed(0)
    module = PatchTst(patch_size=size, stride=stride, dropout=0).forecaster(1, window)
    assert isinstance(module, Normalised)
    inner = module.inner
    assert isinstance(inner, PatchTstModule)
    seen = []
    inner.embed.register_forward_hook(lambda _, given, out: seen.append(given[0]))
    x = torch.randn(2, window, 1)
    inner(x)
    (patches,) = seen
    assert patches.shape == (2, 1, count, size)
    for place in range(count):
        steps = [min(place * stride + k, window - 1) for k in range(size)]
        assert torch.equal(patches[:, 0, place], x[:, steps, 0])


def test_series_do_not_see_one_another_and_share_their_weights() -> None:
    torch.manual_seed(0)
    module = PatchTst(patch_size=4, stride=2, horizon=3).forecaster(3, 12).double().eval()
    x = torch.randn(2, 12, 3, dtype=torch.float64)
    out = module(x)
    assert_close(module(x.flip(2)), out.flip(2))
    for c in range(3):
        assert_close(module(x[..., c : c + 1]), out[..., c : c + 1])
