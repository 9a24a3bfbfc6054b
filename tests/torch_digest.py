#!/usr/bin/env python3
"""Digests checkpoints as PyTorch reads them, for comparison with the golden tables.

torch_digest.py PATH... prints a line a tensor, as ckpt-sum --tsv does: for a directory (of rank files, plain or
xser) with the rank file first. Several paths: each line begins with the path. Everything that may be loaded
with weights_only=True is.
"""

import hashlib
import inspect
import os
import sys
import types

import torch


class TensorReference:
    """What torch_xla.utils.serialization pickles in place of a tensor."""

    def __init__(self, tid):
        self.tid = tid


def stand_in_for_torch_xla():
    for name in ["torch_xla", "torch_xla.utils", "torch_xla.utils.serialization"]:
        sys.modules[name] = types.ModuleType(name)
    TensorReference.__module__ = "torch_xla.utils.serialization"
    sys.modules["torch_xla.utils.serialization"].TensorReference = TensorReference


def load(path):
    """The object, loaded in all ways that this PyTorch knows, which must agree."""
    safe, plain = torch.load(path, weights_only=True), torch.load(path)
    check_same(path, safe, plain)
    if "mmap" in inspect.signature(torch.load).parameters:
        check_same(path, safe, torch.load(path, mmap=True, weights_only=True))
    return safe


def check_same(path, a, b):
    a, b = (x if isinstance(x, dict) else {"tensor": x} for x in (a, b))
    assert list(a) == list(b), f"{path}: other names"
    for name in a:
        assert bits(a[name]) == bits(b[name]), f"{path}: {name} differs"


def bits(tensor):
    same_size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    if tensor.dtype != torch.bool:
        tensor = tensor.contiguous().view(same_size[tensor.element_size()])
    return tensor.numpy().tobytes()


def line(name, tensor):
    shape = "[" + ",".join(str(n) for n in tensor.shape) + "]"
    return "\t".join([name, str(tensor.dtype).replace("torch.", ""), shape,
                      hashlib.sha256(bits(tensor)).hexdigest()])


def xser_tensors(path):
    """Of R.pt: the tensors in R.pt.tensors/, after checking them against R.pt.info.pt."""
    references = torch.load(path)
    info = torch.load(path + ".info.pt")
    assert [r.tid for r in references.values()] == list(range(len(references))), f"{path}: tids do not count up"
    assert list(info) == list(range(len(references))), f"{path}.info.pt: tids do not count up"
    files = sorted(os.listdir(path + ".tensors"))
    assert files == sorted(f"tensor_{tid}.pt" for tid in info), f"{path}.tensors: other files"
    for name, reference in references.items():
        tensor = load(f"{path}.tensors/tensor_{reference.tid}.pt")
        assert info[reference.tid] == {"dtype": tensor.dtype, "shape": tensor.shape,
                                       "expert_model_parallel": False}, f"{path}.info.pt: {name}"
        assert type(info[reference.tid]["shape"]) is torch.Size
        yield name, tensor


def rank_file(path):
    if os.path.isdir(path + ".tensors"):
        yield from xser_tensors(path)
    else:
        yield from load(path).items()


def digest(path, prefix):
    if os.path.isfile(path):
        for name, tensor in load(path).items():
            print(prefix + line(name, tensor))
        return
    model = os.path.join(path, "model")
    for entry in sorted(os.listdir(model)):
        if entry.endswith(".pt") and not entry.endswith(".info.pt"):
            for name, tensor in rank_file(os.path.join(model, entry)):
                print(prefix + entry + "\t" + line(name, tensor))


def main():
    stand_in_for_torch_xla()
    for path in sys.argv[1:]:
        digest(path, path + "\t" if len(sys.argv) > 2 else "")


if __name__ == "__main__":
    main()
