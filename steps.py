"""What the training steps of all models share: learning rate, averaged weights, reduced precision."""
import contextlib

import torch


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
