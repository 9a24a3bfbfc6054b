"""Makes files of many kinds with PyTorch itself: make_torch.py DIRECTORY. FILE.tsv is what PyTorch has in FILE."""

import collections
import hashlib
import os
import sys

import torch
from torch import nn

os.chdir(sys.argv[1])
torch.manual_seed(1)


def flat(value, prefix=""):
    if isinstance(value, torch.Tensor):
        yield prefix or "tensor", value.detach()
        return
    if isinstance(value, nn.Module):
        value = value.state_dict()
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, inner in pairs:
        yield from flat(inner, "%s%s%s" % (prefix, prefix and ".", key))


def digest(tensor):
    data = tensor.contiguous().clone().flatten()
    return hashlib.sha256(bytes(data.storage().untyped()) if data.numel() else b"").hexdigest()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.layers = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Conv2d(1, 2, 3)])
        self.register_buffer("kept", torch.arange(5))
        self.register_buffer("dropped", torch.arange(6), persistent=False)
        self.register_parameter("none", None)
        self.extra = nn.ParameterDict({"x": nn.Parameter(torch.ones(2))})


def optimizer_state():
    model = Model()
    optimizer = torch.optim.Adam(model.parameters())
    model.linear(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


base = torch.randn(10, 20)
dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
          torch.uint8, torch.bool, torch.complex64, torch.complex128]
objects = {
    "views": {"t": base.t(), "slice": base[2:5, 3:9], "expand": base[:1].expand(4, 20), "step": base[::3, ::7], "all": base},
    "dtypes": {str(d)[6:]: torch.ones(3, 2).to(d) for d in dtypes},
    "zero": {"z": torch.zeros(0), "z2": torch.zeros(3, 0, 2), "end": base[5:5], "scalar": torch.tensor(3.5), "e": base[:0, 3:5]},
    "module": Model(),
    "module-inside": {"model": Model(), "epoch": 3},
    "parameters": collections.OrderedDict(a=nn.Parameter(base), b=nn.Parameter(base.t(), requires_grad=False)),
    "lists": [base, (base[0], [base[1], {"x": base[2], 3: base[3]}]), None, 1.5],
    "defaultdict": collections.defaultdict(list, {"a": base}),
    "state-dict": Model().state_dict(),
    "permuted": {"p": torch.randn(2, 3, 4, 5).permute(3, 1, 0, 2), "offset": torch.arange(100)[37:61].view(4, 6).t()},
    "bare": base,
    "bare-parameter": nn.Parameter(base),
    "names": {"模型.weight": base, 'é"\\': base[0]},
    "many": {"t%d" % i: torch.tensor([i]) for i in range(3000)},
    "optimizer": {"optimizer": optimizer_state()},
}
for name, value in objects.items():
    for is_zip in (True, False):
        for protocol in (2, 3, 4, 5):
            path = "%s-%s-%d.pt" % (name, "zip" if is_zip else "legacy", protocol)
            torch.save(value, path, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
            with open(path + ".tsv", "w", encoding="utf-8") as f:
                for key, tensor in flat(value):
                    shape = ",".join(map(str, tensor.shape))
                    print(key, str(tensor.dtype)[6:], "[%s]" % shape, digest(tensor), sep="\t", file=f)
