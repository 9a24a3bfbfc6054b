#!/usr/bin/env python3
"""Writes a safetensors file with given numbers: make_numbers.py FILE [NAME DTYPE SHAPE VALUES]..., SHAPE as in "2,3"."""

import json
import struct
import sys

FORMATS = {"F64": "d", "F32": "f", "F16": "e", "I64": "q", "I32": "i", "I16": "h", "I8": "b", "U64": "Q", "U32": "I",
           "U16": "H", "U8": "B", "BOOL": "?"}


def pack(dtype, text):
    if dtype == "C64":
        value = complex(text)
        return struct.pack("<ff", value.real, value.imag)
    if dtype == "BF16":
        return struct.pack("<f", float(text))[2:]
    return struct.pack("<" + FORMATS[dtype], float(text) if FORMATS[dtype] in "def" else int(text))


header, data = {}, b""
for name, dtype, shape, values in zip(*[iter(sys.argv[2:])] * 4):
    begin = len(data)
    data += b"".join(pack(dtype, value) for value in values.split())
    header[name] = {"dtype": dtype, "shape": [int(n) for n in shape.split(",") if n], "data_offsets": [begin, len(data)]}
text = json.dumps(header).encode()
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + data)
