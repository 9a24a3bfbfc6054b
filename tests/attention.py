#!/usr/bin/env python3
"""Whether a sharded checkpoint computes what its model computes.

A layout can equal a table and still be wrong. This makes a small random model, converts it with the filters
(which must be on PATH), and computes attention twice: of the whole model, and rank by rank as NxDT's model
does it from the files that were written. The two must agree to 1e-5. Converting back must give the model's own
bytes.

  attention.py SPEC...            SPEC: q=8,kv=2,tp=8,m=4,backend=trn2,fuse=1 (see DEFAULTS)
  attention.py --sweep N --seed S random legal configurations
  --expect-different              succeeds only if no SPEC agrees
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch

from torch_digest import stand_in_for_torch_xla

DEFAULTS = {
    "q": 8, "kv": 2, "hd": 4, "hidden": 0,   # heads, KV heads, head_dim, hidden size (q * hd)
    "tp": 2, "pp": 1, "m": 1, "layers": 2,
    "backend": "trn1", "style": "hf",
    "linear": 1, "fuse": 0, "pad": 0, "bias": 0, "xser": 0, "inline": 0, "nxd": 0, "f64": 1,
}
TOKENS = 5
TOLERANCE = 1e-5


def parse_spec(text):
    spec = dict(DEFAULTS)
    for item in text.split(","):
        key, value = item.split("=")
        spec[key] = value if key in ("backend", "style") else int(value)
    spec["hidden"] = spec["hidden"] or spec["q"] * spec["hd"]
    return spec


def random_spec(rng):
    """A legal configuration: m divides tp, tp divides kv * m, m divides the query heads of a KV head."""
    while True:
        kv, group = rng.choice([1, 2, 3, 4, 6, 8]), rng.choice([1, 2, 3, 4, 6, 8])
        tp, m = rng.choice([1, 2, 3, 4, 6, 8, 12, 16]), rng.choice([1, 1, 2, 3, 4, 8])
        q, pad = kv * group, rng.random() < 0.3
        padded = -(-q // tp) * tp if pad else q
        if tp % m or kv * m % tp or q > 48 or padded % kv or padded // kv % m:
            continue
        hd = rng.choice([2, 4, 6])
        linear = 1 if m > 1 or pad or kv % tp else rng.randrange(2)
        return {"q": q, "kv": kv, "hd": hd, "hidden": rng.choice([0, 10, 24]) or q * hd, "tp": tp,
                "pp": rng.choice([1, 2, 3]), "m": m, "layers": 3, "backend": rng.choice(["trn1", "trn2"]),
                "style": "hf", "linear": linear, "fuse": rng.randrange(2) if linear or q == kv else 0,
                "pad": int(pad), "bias": rng.randrange(2), "xser": rng.randrange(2), "inline": rng.randrange(2),
                "nxd": 0, "f64": rng.randrange(2)}


def make_model(spec, rng):
    """A state dict with the attention (and what else a layer has) of every layer."""
    q, kv, hd, hidden = spec["q"], spec["kv"], spec["hd"], spec["hidden"]
    dtype = np.float64 if spec["f64"] else np.float32
    state = {}

    def add(name, *shape):
        state[name] = rng.standard_normal(shape).astype(dtype)

    add("model.embed_tokens.weight", 4 * spec["tp"], hidden)
    for layer in range(spec["layers"]):
        at = f"model.layers.{layer}.self_attn."
        for name, out, into in [("q_proj", q * hd, hidden), ("k_proj", kv * hd, hidden),
                                ("v_proj", kv * hd, hidden), ("o_proj", hidden, q * hd)]:
            add(f"{at}{name}.weight", out, into)
            if spec["bias"]:
                add(f"{at}{name}.bias", out)
    add("model.norm.weight", hidden)
    return state


def rotate(x):
    """Rotary position embedding of [tokens, heads, head_dim], so that the order within a head matters."""
    tokens, _, hd = x.shape
    angle = np.arange(tokens)[:, None] / 10 ** (np.arange(hd // 2) / hd)[None, :]
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    a, b = x[..., :hd // 2], x[..., hd // 2:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def attend(x, q, k, v, hd):
    """Causal attention, of projections (weight, bias): query head i uses KV head i div (q heads / KV heads)."""

    def project(weight_and_bias):
        weight, bias = weight_and_bias
        return (x @ weight.T + (0 if bias is None else bias)).reshape(len(x), -1, hd)

    queries, keys, values = rotate(project(q)), rotate(project(k)), project(v)
    heads, kv_heads = queries.shape[1], keys.shape[1]
    assert heads % kv_heads == 0, f"{heads} query heads for {kv_heads} KV heads"
    out = []
    for i in range(heads):
        own = i // (heads // kv_heads)
        score = queries[:, i] @ keys[:, own].T / np.sqrt(hd)
        score[np.triu_indices(len(x), 1)] = -np.inf
        weight = np.exp(score - score.max(axis=1, keepdims=True))
        out.append(weight / weight.sum(axis=1, keepdims=True) @ values[:, own])
    return np.concatenate(out, axis=1)


def whole_attention(spec, state, layer, x):
    at = f"model.layers.{layer}.self_attn."
    q, k, v, o = ((state[f"{at}{n}_proj.weight"], state.get(f"{at}{n}_proj.bias")) for n in "qkvo")
    return attend(x, q, k, v, spec["hd"]) @ o[0].T + (0 if o[1] is None else o[1])


def read_rank(directory, tp, pp):
    path = f"{directory}/model/dp_rank_00_tp_rank_{tp:02}_pp_rank_{pp:02}.pt"
    state = torch.load(path)
    if os.path.isdir(path + ".tensors"):
        state = {n: torch.load(f"{path}.tensors/tensor_{r.tid}.pt") for n, r in state.items()}
    return {name: tensor.numpy() for name, tensor in state.items()}


def heads_of_rank(spec):
    """Query heads and KV heads on a rank."""
    q = -(-spec["q"] // spec["tp"]) * spec["tp"] if spec["pad"] else spec["q"]
    return q // spec["tp"], spec["kv"] * spec["m"] // spec["tp"]


def hf_projections(spec, state, at, kind):
    """A rank's q, k, v as NxDT's Llama (hf style) has them."""
    q, kv = (n * spec["hd"] for n in heads_of_rank(spec))
    if spec["linear"] and not spec["fuse"]:
        return [state.get(f"{at}self_attn.qkv_proj.{kind}_{n}") for n in "qkv"]
    if not spec["linear"] and not spec["fuse"]:
        return [state.get(f"{at}self_attn.{n}_proj.{kind}") for n in "qkv"]
    fused = state.get(f"{at}self_attn.qkv_proj.{kind}" + ("_qkv" if spec["linear"] else ""))
    if fused is None:
        return [None] * 3
    assert fused.shape[0] == q + 2 * kv
    return np.split(fused, [q, q + kv])


def megatron_projections(spec, state, at, kind):
    """A rank's q, k, v as NxDT's Megatron model reads them: query_key_value as [heads, 3, head_dim],
    key_value as [KV heads, 2, head_dim]."""
    q, kv = heads_of_rank(spec)

    def apart(fused, heads, parts):
        if fused is None:
            return [None] * parts
        by_head = fused.reshape((heads, parts, spec["hd"]) + fused.shape[1:])
        return [by_head[:, i].reshape((heads * spec["hd"],) + fused.shape[1:]) for i in range(parts)]

    if not spec["linear"]:
        return apart(state.get(f"{at}self_attention.query_key_value.{kind}"), q, 3)
    return [state.get(f"{at}self_attention.query.{kind}"),
            *apart(state.get(f"{at}self_attention.key_value.{kind}"), kv, 2)]


def sharded_attention(spec, ranks, layer, x):
    """Each rank's heads against its own KV heads, through its columns of o_proj; summed over the ranks. The
    bias of o_proj is added once."""
    total, bias = 0, 0
    for state in ranks:
        if spec["style"] == "megatron":
            at, out = f"language_model.encoder.layers.{layer}.", "self_attention.dense."
            projections = megatron_projections
        else:
            at, out = f"model.layers.{layer}.", "self_attn.o_proj."
            projections = hf_projections
        q, k, v = zip(projections(spec, state, at, "weight"), projections(spec, state, at, "bias"))
        total = total + attend(x, q, k, v, spec["hd"]) @ state[f"{at}{out}weight"].T
        bias = state.get(f"{at}{out}bias", 0)
    return total + bias


def check_kv_places(spec, state, ranks, layer):
    """Which KV heads a rank holds: trn1 repeats the whole sequence of chunks, trn2 each chunk."""
    if spec["style"] != "hf" or spec["nxd"]:
        return
    n, chunks = heads_of_rank(spec)[1], spec["tp"] // spec["m"]
    rows = n * spec["hd"]
    for rank, held in enumerate(ranks):
        chunk = rank % chunks if spec["backend"] == "trn1" else rank // spec["m"]
        for i, name in [(1, "k"), (2, "v")]:
            seen = hf_projections(spec, held, f"model.layers.{layer}.", "weight")[i]
            whole = state[f"model.layers.{layer}.self_attn.{name}_proj.weight"]
            assert np.array_equal(seen, whole[chunk * rows:(chunk + 1) * rows]), f"rank {rank} has other {name}"


def run(command):
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{command}\n{done.stderr}")


def convert(spec, source, target, back):
    on = {name: " --" + text for name, text in
          [("linear", "qkv-linear"), ("pad", "pad-attn-heads"), ("nxd", "compat nxd")] if spec[name]}
    flags = "".join(on.values())
    config = f"--config {source}/config.json"
    if spec["style"] == "megatron":
        common = (f"--model_style megatron --hw_backend {spec['backend']} --tp_size {spec['tp']} --pp_size {spec['pp']} "
                  f"--qkv_linear {bool(spec['linear'])} {config} --quiet"
                  + (" --compat nxd" if spec["nxd"] else ""))
        run(f"checkpoint_converter.sh --convert_from_full_state {common} --save_xser {bool(spec['xser'])} "
            f"--input_dir {source}/pytorch_model.bin --output_dir {target}")
        run(f"checkpoint_converter.sh --convert_to_full_state {common} --input_dir {target}/model --output_dir {back}")
        return
    run(f"ckpt-unpack {'--inline' if spec['inline'] else ''} {source} | "
        f"ckpt-shard --tp-size {spec['tp']} --pp-size {spec['pp']} --kv-size-multiplier {spec['m']} "
        f"--hw-backend {spec['backend']}{flags} | ckpt-fuse-qkv {'--fuse-qkv' if spec['fuse'] else ''} | "
        f"ckpt-pack-{'xser' if spec['xser'] else 'pt'} {target}")
    back_flags = "".join(text for name, text in on.items() if name != "linear")
    run(f"ckpt-unpack {target} | ckpt-split-qkv {config}{back_flags} | "
        f"ckpt-merge {config} --hw-backend {spec['backend']} --kv-size-multiplier {spec['m']}{back_flags} | "
        f"ckpt-pack-pt {back}/")


def check_identity(state, path):
    back = torch.load(path)
    assert set(back) == set(state), f"other names: {set(back) ^ set(state)}"
    for name, value in state.items():
        assert back[name].numpy().tobytes() == value.tobytes(), f"{name} came back different"


def relative_error(spec, seed):
    """The largest over the layers; checks the way back as well."""
    rng = np.random.default_rng(seed)
    state = make_model(spec, rng)
    with tempfile.TemporaryDirectory() as at:
        source, target, back = f"{at}/hf", f"{at}/nxdt", f"{at}/back"
        os.mkdir(source)
        torch.save({name: torch.from_numpy(value) for name, value in state.items()}, f"{source}/pytorch_model.bin")
        with open(f"{source}/config.json", "w") as file:
            file.write(f'{{"num_attention_heads": {spec["q"]}, "num_key_value_heads": {spec["kv"]}, '
                       f'"hidden_size": {spec["hidden"]}, "head_dim": {spec["hd"]}}}')
        convert(spec, source, target, back)
        check_identity(state, f"{back}/checkpoint.pt")
        stages = [[read_rank(target, tp, pp) for tp in range(spec["tp"])] for pp in range(spec["pp"])]
    worst = 0
    for layer in range(spec["layers"]):
        x = rng.standard_normal((TOKENS, spec["hidden"]))
        whole = whole_attention(spec, state, layer, x)
        ranks = next(stage for stage in stages
                     if any(f".layers.{layer}." in name for name in stage[0]))
        sharded = sharded_attention(spec, ranks, layer, x)
        check_kv_places(spec, state, ranks, layer)
        worst = max(worst, np.abs(sharded - whole).max() / np.abs(whole).max())
    return worst


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("spec", nargs="*")
    parser.add_argument("--sweep", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--expect-different", action="store_true")
    args = parser.parse_args()
    stand_in_for_torch_xla()
    torch.set_num_threads(1)
    rng = random.Random(args.seed)
    specs = [parse_spec(text) for text in args.spec] + [random_spec(rng) for _ in range(args.sweep)]
    wrong = 0
    for number, spec in enumerate(specs):
        text = " ".join(f"{k}={v}" for k, v in spec.items())
        try:
            error = relative_error(spec, args.seed + number)
        except (AssertionError, SystemExit) as problem:
            print(f"FAILED {text}: {problem}")
            wrong += 1
            continue
        agrees = error < TOLERANCE
        wrong += agrees == args.expect_different
        print(f"{'agrees' if agrees else 'DIFFERS'} {error:.1e} {text}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
