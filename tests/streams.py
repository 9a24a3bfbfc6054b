#!/usr/bin/env python3
"""Tensor streams made by hand, frame by frame, to see what readers do with those that no filter writes.

streams.py broken DIR FILE    writes DIR/NAME.stream, each with one thing wrong; references are to FILE
streams.py good DIR FILE      unusual ones that are right
streams.py without TEXT       passes an inline stream on, without the tensors whose name has the text
streams.py twice NAME         passes an inline stream on, with a tensor twice
streams.py forget KEY         passes a stream on, without a key of its header
"""

import json
import os
import struct
import sys


def frame(tag, content, data=b"", data_length=None):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    length = len(data) if data_length is None else data_length
    return tag.encode() + struct.pack("<IQ", len(text), length) + text + data


def boot_id():
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def head(**more):
    return frame("HEAD", {"boot": boot_id(), **more})


def end(tensors, size):
    return frame("END ", {"tensors": tensors, "bytes": size})


def file_frame(path, number=1, **more):
    st = os.stat(path)
    return frame("FILE", {"file": number, "path": path, "device": st.st_dev, "inode": st.st_ino,
                          "size": st.st_size, "mtime": st.st_mtime_ns, **more})


def inline(name="a", shape=(2,), data=None, dtype="uint8", **more):
    size = 1
    for n in shape:
        size *= n
    return frame("TENS", {"name": name, "dtype": dtype, "shape": list(shape), **more},
                 bytes(size) if data is None else data)


def reference(expression, shape=(2,), name="a", dtype="uint8", **more):
    return frame("TENS", {"name": name, "dtype": dtype, "shape": list(shape), "data": expression, **more})


def view(offset=0, shape=(2,), strides=(1,), file=1):
    return {"file": file, "offset": offset, "shape": list(shape), "strides": list(strides)}


def zeros(*shape):
    return {"zeros": list(shape)}


def whole(*frames, begin=b"CKPTSTRM" + struct.pack("<I", 1)):
    return begin + b"".join(frames)


def nested(depth):
    """A concatenation in a concatenation in …"""
    data = '{"concat":0,"parts":[' * depth + '{"zeros":[2]}' + "]}" * depth
    return frame("TENS", ('{"name":"a","dtype":"uint8","shape":[2],"data":' + data + "}").encode())


def broken(path):
    ref = file_frame(path)
    two, big = end(1, 2), 1 << 64

    def one(*frames):
        return whole(head(), *frames, two)

    def shape_of(text):
        return frame("TENS", b'{"name":"a","dtype":"uint8","shape":' + text + b'}')

    def expression(value, shape=(2,)):
        return one(ref, reference(value, shape))

    yield "empty", b""
    yield "magic", whole(head(), inline(), two, begin=b"CKPTSTRX" + struct.pack("<I", 1))
    yield "magic-short", b"CKPT"
    yield "text", b"this is not a stream at all, but a text\n"
    yield "version-2", whole(head(), inline(), two, begin=b"CKPTSTRM" + struct.pack("<I", 2))
    yield "version-0", whole(head(), inline(), two, begin=b"CKPTSTRM" + struct.pack("<I", 0))
    yield "no-head", whole(inline(), two)
    yield "head-twice", one(head(), inline())
    yield "head-is-list", whole(frame("HEAD", []), end(0, 0))
    yield "no-end", whole(head(), inline())
    yield "end-tensors", whole(head(), inline(), end(2, 2))
    yield "end-bytes", whole(head(), inline(), end(1, 3))
    yield "end-empty", whole(head(), inline(), frame("END ", {}))
    yield "end-negative", whole(head(), inline(), frame("END ", {"tensors": -1, "bytes": 2}))
    yield "end-text", whole(head(), inline(), frame("END ", {"tensors": "1", "bytes": 2}))
    yield "trailing-byte", one(inline()) + b"\0"
    yield "trailing-stream", one(inline()) + one(inline())
    yield "fail", whole(head(), inline(), frame("FAIL", {}))
    yield "fail-first", whole(frame("FAIL", {}))
    yield "unknown-frame", one(frame("WHAT", {}), inline())
    yield "frame-json-4g", whole(head(), b"TENS" + struct.pack("<IQ", 0xffffffff, 0))
    yield "frame-json-cut", whole(head(), b"TENS" + struct.pack("<IQ", 1000, 0) + b"{}")
    yield "json-invalid", one(frame("TENS", b"{oops"))
    yield "json-empty", one(frame("TENS", b""))
    yield "json-trailing", one(frame("TENS", b'{"name":"a","dtype":"uint8","shape":[2]} x', bytes(2)))
    yield "json-key-twice", one(frame("TENS", b'{"name":"a","name":"b","dtype":"uint8","shape":[2]}', bytes(2)))
    yield "json-not-utf8", one(frame("TENS", b'{"name":"\xff","dtype":"uint8","shape":[2]}', bytes(2)))
    yield "json-deep", one(frame("TENS", b"[" * 5000 + b"]" * 5000))
    yield "json-very-deep", one(frame("TENS", b'{"a":' * 1000000 + b"1" + b"}" * 1000000))
    yield "data-on-end", whole(head(), inline(), frame("END ", {"tensors": 1, "bytes": 2}, b"xx"))
    yield "data-on-file", whole(head(), frame("FILE", {"file": 1, "path": path}, b"x"), two)
    yield "data-on-reference", one(ref, frame("TENS", {"name": "a", "dtype": "uint8", "shape": [2],
                                                       "data": view()}, b"xx"))
    yield "data-short", one(inline(data=b"x"))
    yield "data-long", one(inline(data=b"xxx"))
    yield "data-none", one(frame("TENS", {"name": "a", "dtype": "uint8", "shape": [2]}))
    yield "data-1-tib", whole(head(), frame("TENS", {"name": "a", "dtype": "uint8", "shape": [1 << 40]},
                                            b"x", data_length=1 << 40))
    yield "data-8-eib", whole(head(), frame("TENS", {"name": "a", "dtype": "uint8", "shape": [(1 << 63) - 1]},
                                            b"x", data_length=(1 << 63) - 1))
    yield "data-all-64-bits", whole(head(), frame("TENS", {"name": "a", "dtype": "uint8", "shape": [big - 1]},
                                                  b"x", data_length=big - 1))
    yield "name-missing", one(frame("TENS", {"dtype": "uint8", "shape": [2]}, b"xx"))
    yield "name-empty", one(inline(name=""))
    yield "name-number", one(inline(name=3))
    yield "name-with-nul", one(inline(name="a\0b"))
    yield "dtype-missing", one(frame("TENS", {"name": "a", "shape": [2]}, b"xx"))
    yield "dtype-unknown", one(inline(dtype="float5"))
    yield "dtype-number", one(inline(dtype=8))
    yield "shape-missing", one(frame("TENS", {"name": "a", "dtype": "uint8"}, b"xx"))
    yield "shape-number", one(shape_of(b"2"))
    yield "shape-negative", one(shape_of(b"[-2]"))
    yield "shape-fraction", one(shape_of(b"[2.5]"))
    yield "shape-exponent", one(shape_of(b"[2e0]"))
    yield "shape-text", one(shape_of(b'["2"]'))
    yield "shape-null", one(shape_of(b"[null]"))
    yield "shape-2-to-64", one(shape_of(b"[18446744073709551616]"))
    yield "shape-long-number", one(shape_of(b"[" + b"9" * 100000 + b"]"))
    yield "shape-overflow", one(reference(zeros(1 << 40, 1 << 40), (1 << 40, 1 << 40)))
    yield "shape-overflow-to-0", one(reference(zeros(1 << 32, 1 << 32), (1 << 32, 1 << 32)))
    yield "shape-overflow-by-dtype", one(reference(zeros(1 << 61), (1 << 61,), dtype="float64"))
    yield "shape-65-dimensions", one(inline(shape=(1,) * 65))
    yield "shape-other", expression(view(shape=(3,)))
    yield "shape-other-dimensions", expression(view(shape=(2, 1), strides=(1, 1)))
    yield "rank-without-sharding", one(inline(rank={"tp": 0, "pp": 0}))
    sharded = head(sharded={"tp": 2, "pp": 1})
    yield "rank-missing", whole(sharded, inline(), two)
    yield "rank-4g", whole(sharded, inline(rank={"tp": 1 << 32, "pp": 0}), two)
    yield "rank-negative", whole(sharded, inline(rank={"tp": -1, "pp": 0}), two)
    yield "sharded-tp-0", whole(head(sharded={"tp": 0, "pp": 1}), end(0, 0))
    yield "sharded-tp-negative", whole(head(sharded={"tp": -2, "pp": 1}), end(0, 0))
    yield "sharded-tp-4g", whole(head(sharded={"tp": 1 << 32, "pp": 1}), end(0, 0))
    yield "layers-2-to-63", whole(head(layers=1 << 63), inline(), two)
    yield "layers-2-to-64-less-1", whole(head(sharded={"tp": 1, "pp": 1}, layers=big - 1),
                                         inline("model.layers.999999999.x", rank={"tp": 0, "pp": 0}), two)
    yield "config-text", whole(head(config="x"), inline(), two)
    yield "config-heads-0", whole(head(config={"num_attention_heads": 0}), inline(), two)
    yield "config-heads-text", whole(head(config={"num_attention_heads": "8"}), inline(), two)
    yield "config-heads-uneven", whole(head(config={"num_attention_heads": 8, "num_key_value_heads": 3,
                                                    "hidden_size": 8}), inline(), two)
    yield "file-0", expression(view(file=0))
    yield "file-2-of-1", expression(view(file=2))
    yield "file-negative", expression(view(file=-1))
    yield "file-2-to-63", expression(view(file=1 << 63))
    yield "file-missing", expression({"offset": 0, "shape": [2], "strides": [1]})
    yield "file-before-frame", one(reference(view()), ref)
    yield "file-frame-out-of-order", one(file_frame(path, 2), inline())
    yield "file-frame-twice", one(ref, ref, inline())
    yield "file-frame-relative", one(frame("FILE", {"file": 1, "path": "x"}), inline())
    yield "file-frame-without-path", one(frame("FILE", {"file": 1}), inline())
    yield "file-frame-size-negative", one(file_frame(path, size=-1), reference(view()))
    yield "offset-at-end", expression(view(offset=os.path.getsize(path) - 1))
    yield "offset-2-to-64-less-1", expression(view(offset=big - 1))
    yield "offset-negative", expression(view(offset=-1))
    yield "strides-beyond-file", expression(view(strides=(1 << 30,)))
    yield "strides-overflow", expression(view(strides=(big - 1,)))
    yield "strides-overflow-to-0", expression(view(shape=(3,), strides=(1 << 63,)), (3,))
    yield "strides-negative", expression(view(strides=(-1,)))
    yield "strides-too-few", expression(view(strides=()))
    yield "strides-too-many", expression(view(strides=(1, 1)))
    yield "strides-missing", expression({"file": 1, "offset": 0, "shape": [2]})
    yield "data-text", one(reference("x"))
    yield "data-empty", one(reference({}))
    yield "concat-no-parts", expression({"concat": 0, "parts": []})
    yield "concat-parts-text", expression({"concat": 0, "parts": "x"})
    yield "concat-part-null", expression({"concat": 0, "parts": [None]})
    yield "concat-no-dimension", expression({"parts": [zeros(1), zeros(1)]})
    yield "concat-dimension-1", expression({"concat": 1, "parts": [zeros(1), zeros(1)]})
    yield "concat-dimension-2-to-32", expression({"concat": 1 << 32, "parts": [zeros(1), zeros(1)]})
    yield "concat-shapes", one(reference({"concat": 0, "parts": [zeros(1, 2), zeros(1, 3)]}, (2, 2)))
    yield "concat-dimensions", one(reference({"concat": 0, "parts": [zeros(1), zeros(1, 1)]}, (2,)))
    yield "concat-overflow", one(reference({"concat": 0, "parts": [zeros(1 << 63, 0), zeros(1 << 63, 0)]}, (0, 0)))
    yield "concat-too-large", one(reference({"concat": 0, "parts": [zeros(1 << 62), zeros(1 << 62)]}, (1 << 63,)))
    yield "concat-scalars", one(reference({"concat": 0, "parts": [zeros(), zeros()]}, ()))
    yield "concat-nested-1000", one(nested(1000))


def good(path):
    size = os.path.getsize(path)
    ref = file_frame(path)
    yield "no-tensors", whole(head(), end(0, 0))
    yield "unknown-keys", whole(head(future=[1, {"x": None}]), inline(future=True), end(1, 2))
    yield "inline-and-reference", whole(head(), inline("a"), ref, reference(view(), name="b"),
                                        inline("c"), end(3, 6))
    yield "other-boot-inline", whole(frame("HEAD", {"boot": "other"}), inline(), end(1, 2))
    yield "scalar", whole(head(), inline(shape=(), data=b"x"), end(1, 1))
    yield "empty-tensor", whole(head(), inline(shape=(0, 1 << 40), data=b""), end(1, 0))
    yield "64-dimensions", whole(head(), inline(shape=(1,) * 64, data=b"x"), end(1, 1))
    yield "stride-0", whole(head(), ref, reference(view(shape=(5,), strides=(0,)), (5,)), end(1, 5))
    yield "last-byte", whole(head(), ref, reference(view(offset=size - 1, shape=(1,)), (1,)), end(1, 1))
    yield "nested", whole(head(), nested(30), end(1, 2))
    yield "odd-name", whole(head(), inline(name="ü\n\x1b[31m\"\\"), end(1, 2))


def frames_of(stream):
    """Tag, JSON and data of each."""
    assert stream.read(12) == b"CKPTSTRM" + struct.pack("<I", 1)
    while header := stream.read(16):
        length, size = struct.unpack("<IQ", header[4:])
        content = json.loads(stream.read(length))
        yield header[:4].decode(), content, stream.read(size)


def edit(stream, kind, what):
    """The frames, edited; the end counts what is left."""
    tensors = size = 0
    for tag, content, data in frames_of(stream):
        times = 1
        if tag == "HEAD" and kind == "forget":
            del content[what]
        if tag == "TENS" and kind == "without" and what in content["name"]:
            times = 0
        if tag == "TENS" and kind == "twice" and what == content["name"]:
            times = 2
        if tag == "TENS":
            tensors += times
            size += times * len(data)
        yield end(tensors, size) if tag == "END " else frame(tag, content, data) * times


def main():
    kind = sys.argv[1]
    if kind in ("without", "twice", "forget"):
        sys.stdout.buffer.write(whole(*edit(sys.stdin.buffer, kind, sys.argv[2])))
        return
    directory, path = sys.argv[2:]
    os.makedirs(directory, exist_ok=True)
    for name, content in {"broken": broken, "good": good}[kind](os.path.realpath(path)):
        with open(os.path.join(directory, name + ".stream"), "wb") as file:
            file.write(content)


if __name__ == "__main__":
    main()
