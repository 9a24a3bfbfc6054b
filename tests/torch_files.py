"""Writes files as PyTorch does, without PyTorch: for tests that need one that is unusual or broken.

A Tensor pickles as torch._utils._rebuild_tensor_v2 does it; other classes and functions of modules that are not here are
made with foreign(). Everything is of the standard library."""

import collections
import io
import json
import os
import pickle
import struct
import sys
import types
import zipfile

SIZES = {"FloatStorage": 4, "BFloat16Storage": 2, "HalfStorage": 2, "LongStorage": 8, "UntypedStorage": 1, "ByteStorage": 1,
         "ComplexFloatStorage": 8, "DoubleStorage": 8, "BoolStorage": 1}


def foreign(module, name, kind=None):
    """A stand-in for module.name, which pickle finds where it looks for it."""
    parts = module.split(".")
    for i in range(len(parts)):
        sys.modules.setdefault(".".join(parts[: i + 1]), types.ModuleType(".".join(parts[: i + 1])))
    where = sys.modules[module]
    if not hasattr(where, name):
        value = type(name, (kind or object,), {"__module__": module})
        setattr(where, name, value)
    return getattr(where, name)


class Call:
    """Pickles as function(*arguments), with a state set afterwards if one is given."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


class Storage:
    def __init__(self, key, data, kind="FloatStorage", elements=None, module="torch"):
        self.key, self.data, self.kind = key, data, foreign(module, kind)
        self.elements = len(data) // SIZES.get(kind, 1) if elements is None else elements


class Tensor:
    function = "_rebuild_tensor_v2"

    def __init__(self, storage, shape, strides=None, offset=0, more=(), function=None):
        self.storage, self.shape, self.offset, self.more = storage, tuple(shape), offset, tuple(more)
        self.strides = tuple(strides) if strides is not None else contiguous(shape)
        self.function = function or self.function

    def __reduce__(self):
        return foreign("torch._utils", self.function), (
            self.storage, self.offset, self.shape, self.strides, False, collections.OrderedDict(), *self.more)


def contiguous(shape):
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= size
    return tuple(strides)


def floats(key, *numbers):
    """A tensor of one dimension with a storage of its own."""
    return Tensor(Storage(key, struct.pack("<%df" % len(numbers), *numbers)), [len(numbers)])


def dump(obj, protocol=2, legacy=False):
    """The pickle, and the storages that it names."""
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            storages[value.key] = value
            more = (None,) if legacy else ()
            return ("storage", value.kind, value.key, "cpu", value.elements) + more

    out = io.BytesIO()
    Pickler(out, protocol).dump(obj)
    return out.getvalue(), storages


def write_archive(path, pickled, storages=(), prefix="archive/", method=zipfile.ZIP_STORED, entries=()):
    with zipfile.ZipFile(path, "w", method) as z:
        z.writestr(prefix + "data.pkl", pickled)
        for key, data in dict(storages).items():
            z.writestr(prefix + "data/" + key, data.data if isinstance(data, Storage) else data)
        z.writestr(prefix + "version", "3\n")
        for name, data in entries:
            z.writestr(prefix + name, data)


def save(path, obj, protocol=2, **options):
    write_archive(path, *dump(obj, protocol), **options)


def save_legacy(path, obj, protocol=2, magic=0x1950A86A20F9469CFC6C, version=1001, little=True, keys=None):
    pickled, storages = dump(obj, protocol, legacy=True)
    with open(path, "wb") as f:
        pickle.dump(magic, f, protocol)
        pickle.dump(version, f, protocol)
        pickle.dump({"little_endian": little, "protocol_version": version}, f, protocol)
        f.write(pickled)
        pickle.dump(sorted(storages) if keys is None else keys, f, protocol)
        for key in sorted(storages):
            f.write(struct.pack("<q", storages[key].elements) + storages[key].data)


def save_safetensors(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text) if length is None else length) + text + data)


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def save_xser(path, tensors, info=True, references="torch_xla.utils.serialization"):
    """A rank file of NxDT with the tensors in files of their own: a list of (name, Tensor)."""
    class_ = foreign(references, "TensorReference")
    names, facts = {}, {}
    os.makedirs(path + ".tensors")
    for tid, (name, tensor) in enumerate(tensors):
        names[name] = class_.__new__(class_)
        names[name].tid = tid
        dtype = {4: "float32", 2: "bfloat16"}[SIZES[tensor.storage.kind.__name__]]
        facts[tid] = {"dtype": foreign("torch", dtype), "shape": Call(foreign("torch", "Size"), tensor.shape),
                      "expert_model_parallel": False}
        save("%s.tensors/tensor_%d.pt" % (path, tid), tensor)
    save(path, names)
    if info:
        save(path + ".info.pt", facts)
