#!/usr/bin/env python3
"""Writes a small (or large) Llama-shaped model as a Hugging Face directory: config.json and safetensors.

The bytes are pseudo-random and depend on a tensor's name only. Standard library only.
"""

import argparse
import json
import os
import random
import struct
import zlib

SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "I64": 8, "BOOL": 1}
POOL = random.Random(1).randbytes(8 << 20)


def parse():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("directory")
    for name, default in [("layers", 2), ("hidden", 32), ("heads", 4), ("kv", 2), ("head-dim", 0),
                          ("intermediate", 64), ("vocab", 64), ("shards", 1)]:
        p.add_argument("--" + name, type=int, default=default)
    p.add_argument("--dtype", default="BF16", choices=SIZES)
    p.add_argument("--bias", action="store_true", help="biases of q, k, v (Qwen2)")
    p.add_argument("--all-biases", action="store_true", help="biases of every projection")
    p.add_argument("--qk-norm", action="store_true", help="q_norm, k_norm (Qwen3)")
    p.add_argument("--inv-freq", choices=["layers", "model"], help="rotary buffers, as old models have them")
    p.add_argument("--tied", action="store_true", help="tie_word_embeddings, and no lm_head.weight")
    p.add_argument("--keep-lm-head", action="store_true", help="with --tied, write lm_head.weight all the same")
    p.add_argument("--extra", action="append", default=[], metavar="NAME:DTYPE:4,8", help="one more tensor")
    p.add_argument("--without", action="append", default=[], metavar="TEXT", help="leave out tensors with it")
    p.add_argument("--no-config-layers", action="store_true", help="config.json without num_hidden_layers")
    p.add_argument("--sparse", action="store_true", help="holes for data")
    p.add_argument("--last-first", action="store_true", help="tensors in reverse order in the file")
    return p.parse_args()


def tensors(a):
    """Name, dtype and shape of every tensor."""
    hd = a.head_dim or a.hidden // a.heads
    q, kv = a.heads * hd, a.kv * hd
    yield "model.embed_tokens.weight", a.dtype, [a.vocab, a.hidden]
    for layer in range(a.layers):
        at = f"model.layers.{layer}."
        for name, out, into, bias in [("self_attn.q_proj", q, a.hidden, a.bias or a.all_biases),
                                      ("self_attn.k_proj", kv, a.hidden, a.bias or a.all_biases),
                                      ("self_attn.v_proj", kv, a.hidden, a.bias or a.all_biases),
                                      ("self_attn.o_proj", a.hidden, q, a.all_biases),
                                      ("mlp.gate_proj", a.intermediate, a.hidden, a.all_biases),
                                      ("mlp.up_proj", a.intermediate, a.hidden, a.all_biases),
                                      ("mlp.down_proj", a.hidden, a.intermediate, a.all_biases)]:
            yield f"{at}{name}.weight", a.dtype, [out, into]
            if bias:
                yield f"{at}{name}.bias", a.dtype, [out]
        if a.qk_norm:
            yield at + "self_attn.q_norm.weight", a.dtype, [hd]
            yield at + "self_attn.k_norm.weight", a.dtype, [hd]
        if a.inv_freq == "layers":
            yield at + "self_attn.rotary_emb.inv_freq", "F32", [hd // 2]
        yield at + "input_layernorm.weight", a.dtype, [a.hidden]
        yield at + "post_attention_layernorm.weight", a.dtype, [a.hidden]
    if a.inv_freq == "model":
        yield "model.rotary_emb.inv_freq", "F32", [hd // 2]
    yield "model.norm.weight", a.dtype, [a.hidden]
    if not a.tied or a.keep_lm_head:
        yield "lm_head.weight", a.dtype, [a.vocab, a.hidden]
    for text in a.extra:
        name, dtype, shape = text.split(":")
        yield name, dtype, [int(n) for n in shape.split(",") if n]


def size_of(dtype, shape):
    n = SIZES[dtype]
    for dim in shape:
        n *= dim
    return n


def write_data(file, name, size, sparse):
    if sparse:
        file.seek(size, os.SEEK_CUR)
        return
    at = zlib.crc32(name.encode()) % len(POOL)
    while size:
        block = POOL[at:at + size]
        file.write(block)
        size -= len(block)
        at = 0


def write_file(path, items, sparse):
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape in items:
        size = size_of(dtype, shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, dtype, shape in items:
            write_data(file, name, size_of(dtype, shape), sparse)
        file.truncate(8 + len(text) + end)


def write_config(path, a):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": a.hidden,
              "intermediate_size": a.intermediate, "num_hidden_layers": a.layers,
              "num_attention_heads": a.heads, "num_key_value_heads": a.kv, "vocab_size": a.vocab,
              "tie_word_embeddings": a.tied}
    if a.head_dim:
        config["head_dim"] = a.head_dim
    if a.no_config_layers:
        del config["num_hidden_layers"]
    with open(path, "w") as file:
        json.dump(config, file, indent=2)


def write_shards(a, items):
    """As many files of about the same size, and the index."""
    total = sum(size_of(dtype, shape) for _, dtype, shape in items)
    files, done = [[] for _ in range(a.shards)], 0
    for item in items:
        files[min(a.shards - 1, done * a.shards // max(total, 1))].append(item)
        done += size_of(*item[1:])
    weight_map = {}
    for i, part in enumerate(files):
        name = f"model-{i + 1:05}-of-{a.shards:05}.safetensors"
        write_file(os.path.join(a.directory, name), part, a.sparse)
        weight_map.update({item[0]: name for item in part})
    with open(os.path.join(a.directory, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, file)


def main():
    a = parse()
    os.makedirs(a.directory, exist_ok=True)
    items = [item for item in tensors(a) if not any(text in item[0] for text in a.without)]
    if a.last_first:
        items.reverse()
    if a.shards > 1:
        write_shards(a, items)
    else:
        write_file(os.path.join(a.directory, "model.safetensors"), items, a.sparse)
    write_config(os.path.join(a.directory, "config.json"), a)


main()
