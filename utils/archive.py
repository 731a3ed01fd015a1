"""Torch files of plain values: dicts, lists, JSON types and tensors, and nothing that could run code.

    write_archive({"step": 3, "weights": network.state_dict()}, "a.pth")
    content = read_archive("a.pth")
"""
import pickletools
import zipfile
from pathlib import Path

import torch

from utils.checked_json import is_plain
from utils.files import UserError, atomic

STORED = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2",        # what a file may be made of
          *(f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Byte",
                                                "Bool"))}


def write_archive(content, path):
    """torch.save, atomically. Raises UserError where the disk is full or the folder cannot be written."""
    with atomic(path) as tmp:
        try:
            torch.save(content, tmp)
        except RuntimeError as e:             # what torch makes of a full disk
            raise OSError(f"could not be written whole ({str(e).splitlines()[0]}); is the disk full?") from e


def read_archive(path):
    """The content of a torch file: dicts, lists, tuples, JSON values, and tensors on the CPU that lie in the file as
    they are. Raises UserError for a missing or damaged file, or one that holds anything else."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as z:      # torch stores members uncompressed: a member larger than the file lies
            if sum(m.file_size for m in z.infolist()) > size:
                raise UserError(f"{path} declares more bytes than it has: it is damaged or not from train.py")
            if z.testzip():
                raise UserError(f"{path} is damaged (checksum of {z.testzip()}): train again or copy it again")
            recipe = next(z.read(m) for m in z.infolist() if m.filename.endswith("/data.pkl"))
        used = {str(name) for op, name, _ in pickletools.genops(recipe) if "GLOBAL" in op.name}
        if not used <= STORED:
            raise UserError(f"{path} holds more than plain tensors: it is not from train.py")
        content, tensors = torch.load(path, map_location="cpu", weights_only=True), []
        is_whole = is_plain(content, lambda value: lies_in_file(value) and not tensors.append(value))
        if not is_whole or sum(t.nbytes for t in tensors) > 4 * size:
            raise UserError(f"{path} holds tensors larger than the file, or other values than train.py writes")
        return content
    except UserError:
        raise
    except Exception as e:                    # the loader raises half a dozen types; all mean the same to the user
        raise UserError(f"{path} is not a checkpoint of train.py, or is damaged ({type(e).__name__})") from e


def lies_in_file(tensor):
    """Whether a value is a plain tensor with a place in its storage for every element: an expanded one would take
    memory when it is copied, without limit."""
    is_plain_tensor = type(tensor) is torch.Tensor and not tensor.requires_grad
    return is_plain_tensor and tensor.nbytes <= tensor.untyped_storage().nbytes()
