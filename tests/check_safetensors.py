#!/usr/bin/env python3
"""Checks a Hugging Face directory of safetensors as a strict reader would, and prints each file's tensors and data sizes."""
import json
import os
import struct
import sys

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
directory = sys.argv[1]
where = {}
total = 0
for name in sorted(n for n in os.listdir(directory) if n.endswith(".safetensors")):
    path = os.path.join(directory, name)
    with open(path, "rb") as f:
        length, = struct.unpack("<Q", f.read(8))
        text = f.read(length)
    assert length % 8 == 0 and text[:1] == b"{", name
    header = json.loads(text)
    assert header.pop("__metadata__") == {"format": "pt"}, name
    at = 0
    for tensor, value in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = value["data_offsets"]
        size = SIZES[value["dtype"]]
        assert begin == at and begin % size == 0, (tensor, begin, at)
        for d in value["shape"]:
            size *= d
        assert end - begin == size, tensor
        at = end
        assert tensor not in where, tensor
        where[tensor] = name
    assert os.path.getsize(path) == 8 + length + at, name
    total += at
    print(name, len(header), at)
index = os.path.join(directory, "model.safetensors.index.json")
if os.path.exists(index):
    said = json.load(open(index))
    assert said["weight_map"] == where
    assert said["metadata"]["total_size"] == total
else:
    assert set(where.values()) == {"model.safetensors"}
