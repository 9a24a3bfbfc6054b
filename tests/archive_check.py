#!/usr/bin/env python3
"""Checks torch archives (all .pt files below the paths) for what torch.load(mmap=True) and zip tools need:
stored entries, right checksums, payloads inside the file at multiples of 64 bytes, one top folder."""

import os
import struct
import sys
import zipfile


def check(path):
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        assert archive.testzip() is None, f"{path}: wrong checksum"
        entries = archive.infolist()
        top = entries[0].filename.split("/")[0]
        names = {e.filename for e in entries}
        assert len(names) == len(entries), f"{path}: a name is there twice"
        assert {f"{top}/data.pkl", f"{top}/version", f"{top}/byteorder"} <= names, f"{path}: {names}"
        for entry in entries:
            assert entry.filename.startswith(top + "/"), f"{path}: {entry.filename} is elsewhere"
            assert entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
            file.seek(entry.header_offset)
            header = file.read(30)
            assert header[:4] == b"PK\3\4", f"{path}: {entry.filename}: no local header"
            name, extra = struct.unpack("<HH", header[26:30])
            payload = entry.header_offset + 30 + name + extra
            assert payload % 64 == 0, f"{path}: {entry.filename}: payload at {payload}"
            assert payload + entry.file_size <= size
    return len(entries)


def main():
    for path in sys.argv[1:]:
        files = [path]
        if os.path.isdir(path):
            files = [os.path.join(d, f) for d, _, names in os.walk(path) for f in names if f.endswith(".pt")]
            assert files, f"{path}: no archives"
        for file in files:
            check(file)


main()
