"""FP32 Linears through oneDNN with weights packed beforehand, where MKL is slow.

torch multiplies FP32 matrices by MKL, which reaches half of oneDNN's speed on AMD's CPUs with AVX-512; elsewhere the
two take the same time. Which one runs follows from the CPU alone, never from timing: its last bits must not depend on
chance.
"""

import platform

import torch
from torch import Tensor, nn

from lraee.cpu import cpu_info
from lraee.models.tower import Tower, sharing_copy


class PackedLinear(nn.Module):
    """A Linear on a CPU in FP32, by oneDNN; equal to the Linear up to the order of summation."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def cpu_vendor() -> str:
    """The CPU's vendor as Linux names it ("AuthenticAMD", "GenuineIntel"); the machine's architecture elsewhere."""
    vendors = cpu_info("vendor_id")
    return vendors[0] if vendors else platform.machine()


def onednn_is_faster() -> bool:
    """Tell whether FP32 products are faster by oneDNN than by what torch uses."""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.backends.mkldnn.is_available() and cpu_vendor() == "AuthenticAMD" and wide


def packed(tower: Tower) -> Tower:
    """Return the tower with its remaining FP32 Linears in the form that is fastest here; itself where they are.

    The last step before a tower runs: what follows finds no weights to quantize. Whatever is not packed is shared.
    """
    if not onednn_is_faster() or tower.device.type != "cpu":
        return tower
    result = sharing_copy(tower)
    for name, module in list(result.named_modules()):
        if isinstance(module, nn.Linear) and module.weight.dtype == torch.float32:
            result.set_submodule(name, PackedLinear(module))
    return result.eval()
