"""Where the network runs, tried without an accelerator: fake tensors refuse to mix devices as real ones do."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lraee.models.device import usable
from lraee.models.tower import Tower


def test_the_cpu_is_always_there() -> None:
    assert usable("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("lraee.models.device._PRESENT", {"cpu": lambda: True, name: lambda: False})
    with pytest.raises(ValueError, match=f"device is '{name}', but torch .* finds only cpu on this machine"):
        usable(name)


def test_pixels_follow_the_weights_and_no_two_devices_meet(tower: Tower) -> None:
    # "meta" stands for any other device: fake tensors of a real one need its library.
    pixels = torch.randn(2, 3, 32, 32)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(pixels)
        for module in tower.modules():
            for name, parameter in module.named_parameters(recurse=False):
                moved = torch.empty(parameter.shape, device="meta")
                module._parameters[name] = nn.Parameter(moved, requires_grad=False)
        assert fake.device.type == "cpu"
        assert {z.device.type for z in tower.states(fake)} == {"meta"}
        assert tower(fake).device.type == "meta"
        # The check can fail: without the one move in Tower, two devices meet.
        with pytest.raises(RuntimeError, match="device"):
            tower.stem(fake)
