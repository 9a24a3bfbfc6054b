"""Makes files that are broken or that mean harm: make_hostile.py DIRECTORY.

Prints for each its name, a tab, and what the message about it must contain."""

import json
import os
import pickle
import struct
import sys
import zipfile

from torch_files import (Call, Storage, Tensor, dump, entry, floats, foreign, save, save_legacy, save_safetensors, write_archive)

os.chdir(sys.argv[1])
GOOD = {"a": floats("0", 1, 2, 3), "b": {"c": floats("1", 4)}}
PROTO = b"\x80\x02"
KEY = b"X\x01\x00\x00\x00k"


def expect(name, message):
    print(name, message, sep="\t")


def hostile_pickle(name, pickled, message):
    write_archive("pickle-%s.pt" % name, pickled, {"0": bytes(64)})
    expect("pickle-%s.pt" % name, message)


def unicode(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


# --- pickles that want to run something -----------------------------------------------------------------------

for name, what in {"system": ("os", "system"), "eval": ("builtins", "eval"), "popen": ("subprocess", "Popen")}.items():
    hostile_pickle(name, PROTO + b"c%s\n%s\n(" % (what[0].encode(), what[1].encode()) + unicode("touch PWNED") + b"tR.",
                   "no tensors")
hostile_pickle("inst", b"(S'touch PWNED'\nios\nsystem\n.", "no tensors")
hostile_pickle("system-as-rebuild", PROTO + b"}" + KEY + b"ctorch._utils\n_rebuild_from_type_v2\n(cos\nsystem\ncos\nsystem\n"
               + unicode("touch PWNED") + b"\x85}tRs.", "no tensors")

# --- pickles that want memory or time -------------------------------------------------------------------------

million = 1000 * 1000
hostile_pickle("nested-lists", PROTO + b"]" * million + b"a" * (million - 1) + b".", "levels deep")
hostile_pickle("nested-tuples", PROTO + b"(" * million + b"t" * million + b".", "levels deep")
hostile_pickle("nested-dicts", PROTO + (b"}" + KEY) * million + b"N" + b"s" * million + b".", "levels deep")
hostile_pickle("nested-parameters", PROTO + b"ctorch._utils\n_rebuild_parameter\nq\x00" + b"h\x00" * million + b"N"
               + b"\x85R" * million + b".", "only plain ones")
hostile_pickle("contains-itself", PROTO + b"}q\x00" + KEY + b"h\x00s.", "contains itself")
hostile_pickle("list-contains-itself", PROTO + b"]q\x00h\x00a.", "contains itself")
hostile_pickle("tuple-contains-itself", PROTO + b"]q\x00h\x00\x85q\x01ah\x01.", "contains itself")
laughs = PROTO + b"}q\x00"
for i in range(40):
    laughs += b"}r" + struct.pack("<I", i + 1) + b"".join(unicode(k) + b"j" + struct.pack("<I", i) + b"s" for k in "ab")
hostile_pickle("billion-laughs", laughs + b".", "share their parts")
tensor, _ = dump({"a": floats("0", 1)})
laughs = tensor[:-1] + b"r" + struct.pack("<I", 1000)
for i in range(60):
    laughs += b"}r" + struct.pack("<I", i + 1001) + b"".join(
        unicode(k) + b"j" + struct.pack("<I", i + 1000) + b"s" for k in "ab")
hostile_pickle("billion-tensors", laughs + b".", "share their parts")
def shared(value, times):
    return PROTO + value + b"q\x01(" + b"h\x01" * times + b"l."


state = b"(" + b"".join(unicode("%d" % i) + b"N" for i in range(200000)) + b"d"
hostile_pickle("shared-state", shared(b"cm\nObject\n)\x81" + state + b"b", million), "no tensors")
hostile_pickle("shared-tensor", shared(tensor[2:-1], 3 * million), "more than 1000000")
hostile_pickle("wide", PROTO + b"(" + b"]" * (20 * million) + b"t.", "memory")
hostile_pickle("marks", PROTO + b"(" * (80 * million) + b".", "memory")
hostile_pickle("memo-index", PROTO + b"}r\xff\xff\xff\xff.", "no tensors")
hostile_pickle("huge-text", b"\x80\x04\x8d" + b"\xff" * 8 + b"k.", "ends too early")
hostile_pickle("huge-bytes", PROTO + b"B\xff\xff\xff\xffk.", "ends too early")
hostile_pickle("huge-long", PROTO + b"\x8b\xff\xff\xff\x7fk.", "ends too early")
hostile_pickle("long-name", PROTO + b"}" + unicode("n" * 5000) + tensor[2:-1] + b"s.", "longer than")

# --- pickles that make no sense -------------------------------------------------------------------------------

for name, pickled, message in [
    ("empty", b"", "ends too early"),
    ("no-stop", PROTO + b"}", "ends too early"),
    ("underflow", PROTO + b".", "off its stack"),
    ("underflow-reduce", PROTO + b"}R.", "off its stack"),
    ("below-mark", PROTO + b"}(s.", "off its stack"),
    ("no-mark", PROTO + b"}u.", "mark"),
    ("unknown-opcode", PROTO + b"\xff.", "unknown opcode"),
    ("new-protocol", b"\x80\x09}.", "protocol"),
    ("extension", PROTO + b"\x82\x01.", "extension"),
    ("buffers", b"\x80\x05\x97.", "buffers"),
    ("memo-missing", PROTO + b"h\x07.", "refers back"),
    ("set-in-number", PROTO + b"K\x01NNs.", "not a dictionary"),
    ("append-to-text", PROTO + KEY + b"Na.", "not a list"),
    ("odd-items", PROTO + b"}(Nu.", "without value"),
    ("arguments", PROTO + b"cos\nsystem\nNR.", "not a tuple"),
    ("state-of-list", PROTO + b"]}b.", "state"),
    ("global-of-number", b"\x80\x04K\x01K\x02\x93.", "not text"),
]:
    hostile_pickle(name, pickled, message)

# --- tensors that reach where they should not -----------------------------------------------------------------


def hostile_tensor(name, value, message):
    save("tensor-%s.pt" % name, {"weight": value})
    expect("tensor-%s.pt" % name, message)


small = Storage("0", bytes(64))
hostile_tensor("shape", Tensor(small, [17]), "outside of its storage")
hostile_tensor("offset", Tensor(small, [4], offset=13), "outside of its storage")
hostile_tensor("stride", Tensor(small, [4], [6]), "outside of its storage")
hostile_tensor("overflow", Tensor(small, [1 << 62, 1 << 62]), "outside of its storage")
hostile_tensor("wrap", Tensor(small, [(1 << 62) + 1], [4]), "outside of its storage")
hostile_tensor("offset-wrap", Tensor(small, [2], offset=(1 << 63) - 1), "outside of its storage")
hostile_tensor("negative", Tensor(small, [-1]), "whole numbers")
hostile_tensor("big-number", Tensor(small, [1 << 70]), "whole numbers")
hostile_tensor("float-shape", Tensor(small, [1.5], [1]), "whole numbers")
hostile_tensor("dimensions", Tensor(small, [1] * 65), "whole numbers")
hostile_tensor("strides-missing", Tensor(small, [1, 1], [1]), "whole numbers")
hostile_tensor("repeated", Tensor(small, [1 << 40], [0]), "not credible")
hostile_tensor("storage-too-long", Tensor(Storage("0", bytes(64), elements=1 << 61), [1 << 60]), "but has 64")
hostile_tensor("storage-wrap", Tensor(Storage("0", bytes(64), elements=(1 << 62) + 1), [4]), "64 bits")
hostile_tensor("storage-unknown", Tensor(Storage("0", bytes(64), "QInt8Storage"), [4]), "QInt8Storage")
hostile_tensor("storage-not-torch", Tensor(Storage("0", bytes(64), "FloatStorage", module="os"), [4]), "not of PyTorch")
hostile_tensor("no-storage", Call(foreign("torch._utils", "_rebuild_tensor_v2"), None, 0, (1,), (1,), False, {}),
               "not in this file")
hostile_tensor("no-arguments", Call(foreign("torch._utils", "_rebuild_tensor_v2")), "not in this file")
hostile_tensor("conjugate", Tensor(Storage("0", bytes(64), "ComplexFloatStorage"), [4], more=[{"conj": True}]), "conjugate")
hostile_tensor("negative-view", Tensor(small, [4], more=[{"neg": True}]), "negative view")
hostile_tensor("sparse", Call(foreign("torch._utils", "_rebuild_sparse_tensor"), 1, ()), "_rebuild_sparse_tensor")
hostile_tensor("quantized", Call(foreign("torch._utils", "_rebuild_qtensor"), 1, ()), "_rebuild_qtensor")
hostile_tensor("v3-dtype", Tensor(Storage("0", bytes(64), "UntypedStorage", module="torch.storage"), [4],
                                  more=[foreign("torch", "float3")], function="_rebuild_tensor_v3"), "float3")
hostile_tensor("v3-reach", Tensor(Storage("0", bytes(64), "UntypedStorage", module="torch.storage"), [9],
                                  more=[foreign("torch", "uint64")], function="_rebuild_tensor_v3"), "outside of its storage")
pickled, _ = dump({"weight": Tensor(small, [4])})
write_archive("tensor-storage-missing.pt", pickled, {"1": bytes(64)})
expect("tensor-storage-missing.pt", "is not in the archive")
write_archive("tensor-storage-short.pt", pickled, {"0": bytes(60)})
expect("tensor-storage-short.pt", "should have 64 bytes, but has 60")

# --- names ----------------------------------------------------------------------------------------------------

for name, obj, message in [
    ("twice", {"a": {"b": floats("0", 1)}, "a.b": floats("1", 2)}, "two tensors"),
    ("nul", {"a\0b": floats("0", 1)}, "NUL"),
    ("surrogate", {"\ud800": floats("0", 1)}, "UTF-8"),
    ("empty", {"": floats("0", 1)}, "empty name"),
    ("tuple-key", {("a", 1): floats("0", 1)}, "neither text nor"),
    ("nothing", {"epoch": 1}, "no tensors"),
]:
    pickled, storages = dump(obj, 4)
    write_archive("name-%s.pt" % name, pickled, storages)
    expect("name-%s.pt" % name, message)

# --- zip archives ---------------------------------------------------------------------------------------------

save("good.pt", GOOD)
good = open("good.pt", "rb").read()
for length in sorted({5, 30, 100, len(good) // 3, len(good) // 2, len(good) - 100, len(good) - 22, len(good) - 1}):
    open("zip-cut-%d.pt" % length, "wb").write(good[:length])
    expect("zip-cut-%d.pt" % length, "zip archive")


def hostile_zip(name, content, message):
    open("zip-%s.pt" % name, "wb").write(content)
    expect("zip-%s.pt" % name, message)


directory = good.index(b"PK\1\2")
header = good.index(b"archive/data/0") - 30
in_directory = good.index(b"archive/data/0", directory) - 46


def patched(at, value):
    return good[:at] + value + good[at + len(value):]


hostile_zip("header-offset", patched(in_directory + 42, struct.pack("<I", 7)), "zip archive")
hostile_zip("header-beyond", patched(in_directory + 42, struct.pack("<I", 0x7fffffff)), "zip archive")
hostile_zip("header-signature", patched(header, b"XXXX"), "zip archive")
hostile_zip("size-beyond", patched(in_directory + 20, struct.pack("<II", 0x7fffffff, 0x7fffffff)), "zip archive")
hostile_zip("directory-garbage", patched(directory, b"\xff" * 20), "zip archive")
hostile_zip("no-pickle", good.replace(b"data.pkl", b"data.pkx"), "without data.pkl")
hostile_zip("encrypted", patched(in_directory + 8, b"\x01")[:header + 6] + b"\x01" + patched(in_directory + 8, b"\x01")[header + 7:],
            "encrypted")
with zipfile.ZipFile("zip-empty.pt", "w"):
    pass
expect("zip-empty.pt", "zip archive")
pickled, storages = dump(GOOD)
write_archive("zip-compressed.pt", pickled, storages, method=zipfile.ZIP_DEFLATED)
expect("zip-compressed.pt", "zip -0")
write_archive("zip-torchscript.pt", pickled, storages, entries=[("constants.pkl", "x"), ("code/__torch__.py", "x")])
expect("zip-torchscript.pt", "TorchScript")
write_archive("zip-big-endian.pt", pickled, storages, entries=[("byteorder", "big")])
expect("zip-big-endian.pt", "big-endian")
hostile_zip("two-entries", good.replace(b"archive/data/1", b"archive/data/0"), "two entries")

# --- legacy files ---------------------------------------------------------------------------------------------

save_legacy("good-legacy.pt", GOOD)
legacy = open("good-legacy.pt", "rb").read()
for length in list(range(20, len(legacy), 37)) + [len(legacy) - 1]:
    open("legacy-cut-%d.pt" % length, "wb").write(legacy[:length])
    expect("legacy-cut-%d.pt" % length, ":")
for name, options, message in [
    ("version", {"version": 1002}, "version"),
    ("big-endian", {"little": False}, "big-endian"),
    ("keys-missing", {"keys": ["0"]}, "list of storages"),
    ("keys-twice", {"keys": ["0", "0"]}, "list of storages"),
    ("keys-other", {"keys": ["0", "2"]}, "list of storages"),
    ("keys-none", {"keys": 5}, "list of storages"),
]:
    save_legacy("legacy-%s.pt" % name, GOOD, **options)
    expect("legacy-%s.pt" % name, message)
open("legacy-count.pt", "wb").write(legacy[:-12] + struct.pack("<q", 1 << 40) + legacy[-4:])
expect("legacy-count.pt", "elements")
open("legacy-endless-text.pt", "wb").write(legacy[:200].split(b"}")[0] + b"\x8d" + b"\xff" * 7 + b"\x7f")
expect("legacy-endless-text.pt", ":")

# --- safetensors ----------------------------------------------------------------------------------------------


def hostile_safetensors(name, header, message, data=bytes(8), length=None):
    save_safetensors("safetensors-%s.safetensors" % name, header, data, length)
    expect("safetensors-%s.safetensors" % name, message)


f32 = entry("F32", [2], 0, 8)
hostile_safetensors("overflow", {"a": entry("F32", [1 << 62, 1 << 62], 0, 8)}, "too large")
hostile_safetensors("wrap", {"a": entry("F32", [(1 << 62) + 2], 0, 8)}, "too large")
hostile_safetensors("beyond", {"a": entry("F32", [4], 0, 16)}, "cut short")
hostile_safetensors("backwards", {"a": entry("F32", [2], 8, 0)}, "do not hold")
hostile_safetensors("size", {"a": entry("F32", [3], 0, 8)}, "do not hold")
hostile_safetensors("hole", {"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 7, 8)}, "begins at byte 7")
hostile_safetensors("hole-first", {"a": entry("U8", [7], 1, 8)}, "begins at byte 1")
hostile_safetensors("overlap", {"a": entry("U8", [6], 0, 6), "b": entry("U8", [4], 4, 8)}, "begins at byte 4")
hostile_safetensors("same", {"a": f32, "b": f32}, "begins at byte 0")
hostile_safetensors("rest", {"a": entry("U8", [7], 0, 7)}, "take only 7")
hostile_safetensors("dtype", {"a": entry("F4", [2], 0, 8)}, "unknown dtype 'F4'")
hostile_safetensors("dtype-number", {"a": {**f32, "dtype": 7}}, "belongs")
hostile_safetensors("negative", {"a": entry("F32", [-2], 0, 8)}, "whole number")
hostile_safetensors("fraction", {"a": entry("F32", [2.0], 0, 8)}, "whole number")
hostile_safetensors("big-number", {"a": entry("F32", [1 << 70], 0, 8)}, "whole number")
hostile_safetensors("offsets-3", {"a": {**f32, "data_offsets": [0, 8, 8]}}, "more than two")
hostile_safetensors("offsets-1", {"a": {**f32, "data_offsets": [0]}}, "fewer than two")
hostile_safetensors("dimensions", {"a": entry("F32", [1] * 65, 0, 8)}, "64 dimensions")
hostile_safetensors("no-shape", {"a": {"dtype": "F32", "data_offsets": [0, 8]}}, "no shape")
hostile_safetensors("more", {"a": {**f32, "more": 1}}, "unknown")
hostile_safetensors("twice", b'{"a":%s,"a":%s}' % ((json.dumps(f32).encode(),) * 2), "two tensors")
hostile_safetensors("list", b"{}[]", "JSON")
hostile_safetensors("cut", b'{"a":{"dtype":"F32"', "JSON")
hostile_safetensors("nul", {"a\0b": f32}, "NUL")
hostile_safetensors("utf8", b'{"\xff":%s}' % json.dumps(f32).encode(), "JSON")
hostile_safetensors("deep", b'{"a":' + b"[" * 1000000, "belongs")
hostile_safetensors("metadata", {"__metadata__": {"a": 1}, "a": f32}, "belongs")
hostile_safetensors("metadata-deep", {"__metadata__": {"a": {}}, "a": f32}, "belongs")
hostile_safetensors("header-long", {"a": f32}, "cut short", length=1000)
hostile_safetensors("header-huge", {"a": f32}, "100 MB", length=1 << 63)
hostile_safetensors("nothing", {}, "no tensors", data=b"")
hostile_safetensors("many-numbers", b'{"a":{"dtype":"F32","shape":[' + b"0," * 20000000, "64 dimensions")

# --- other files ----------------------------------------------------------------------------------------------

for name, content, message in [
    ("empty.bin", b"", "empty"),
    ("lfs.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    ("page.bin", b"<!DOCTYPE html><html>", "HTML"),
    ("page2.bin", b"<html>", "HTML"),
    ("old.tar", b"storages".ljust(257, b"\0") + b"ustar\0" + bytes(300), "before 0.2"),
    ("gzip.bin", b"\x1f\x8b\x08" + bytes(20), "gzip"),
    ("plain.pkl", pickle.dumps({"a": 1}), "torch.save has not made it"),
    ("text.bin", b"hello", "neither"),
    ("one.bin", b"P", "neither"),
    ("model.gguf", b"GGUF" + bytes(20), "GGUF"),
]:
    open("other-" + name, "wb").write(content)
    expect("other-" + name, message)

# --- Hugging Face indexes -------------------------------------------------------------------------------------


def hostile_index(name, weight_map, message, shards=("a.safetensors",)):
    os.mkdir("index-" + name)
    for i, shard in enumerate(shards):
        save_safetensors("index-%s/%s" % (name, shard), {"w%d" % i: f32}, bytes(8))
    with open("index-%s/model.safetensors.index.json" % name, "w") as f:
        json.dump({"metadata": {}, "weight_map": weight_map} if weight_map is not None else {}, f)
    expect("index-" + name, message)


hostile_index("missing", {"w0": "a.safetensors", "w1": "b.safetensors"}, "missing: b.safetensors")
hostile_index("many-missing", {"w%d" % i: "%03d.safetensors" % i for i in range(500)}, "500 of the 500")
hostile_index("elsewhere", {"w0": "b.safetensors", "w1": "b.safetensors"}, "not in b.safetensors", ["a.safetensors", "b.safetensors"])
hostile_index("no-tensor", {"w0": "a.safetensors", "w9": "a.safetensors"}, "'w9' is not in a.safetensors")
hostile_index("slash", {"w0": "../other/a.safetensors"}, "outside of its directory")
hostile_index("absolute", {"w0": "/etc/passwd"}, "outside of its directory")
hostile_index("dots", {"w0": ".."}, "outside of its directory")
hostile_index("number", {"w0": 7}, "not a name")
hostile_index("no-map", None, "no weight_map")
hostile_index("empty-map", {}, "no weight_map")
os.mkdir("index-nothing")
expect("index-nothing", "no checkpoint in this directory")
