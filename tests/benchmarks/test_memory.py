"""What PyTorch's step is said to take of memory."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")

from contextlib import nullcontext

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import memory
from benchmarks.sides import torch_side
from tests.helpers import small


@pytest.mark.parametrize("fake", [False, True])
def test_living_tensors_are_counted_by_hand(fake: bool) -> None:
    with FakeTensorMode() if fake else nullcontext():
        held = torch.ones(250)  # 1,000 bytes
        with memory.Live([held]) as live:
            one = held + 1
            held.mul_(2)  # in place, and a view: no memory
            view = one.view(25, 10)
            two = torch.cat([view, view])
            assert (live.now, live.most) == (3000, 3000)
            del one, view
            assert live.now == 2000
            two = two[:5].clone()
            assert (live.now, live.most) == (200, 3000)
            del two
            assert live.now == 0


def test_a_step_of_fakes_takes_what_a_step_takes() -> None:
    config = small("dcgan")
    config.batch_size, config.augment.name = 16, "none"
    side = torch_side(memory._stands_for_ours(config.copy_and_resolve_references()), "float32")
    taken = memory._taken(side)
    assert taken > sum(p.nbytes for p in side.trainer.d_params + side.trainer.g_params)  # their gradients
    assert memory.of_pytorch(config, "float32") == taken
