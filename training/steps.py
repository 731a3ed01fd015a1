"""What the training steps of all models share: device, reduced precision, learning rate, averaged weights."""
import contextlib

import torch


def has_bf16(device):
    """Whether bf16 is worth it: the chip has instructions for it (emulated, it is slower than fp32)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    can = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16"))


def set_rate(optimizer, lr):
    """Set the learning rate of every group, times the group's own `scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("scale", 1.0)


@torch.no_grad()
def update_average(average, model, decay):
    """average <- decay * average + (1 - decay) * model, for weights and for batch-norm statistics."""
    def floats(m):
        return [v for v in m.state_dict().values() if v.is_floating_point()]
    torch._foreach_lerp_(floats(average), floats(model), 1 - decay)


def autocast(device, bf16):
    """bf16 arithmetic where that is on, else nothing."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()
