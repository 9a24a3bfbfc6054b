#!/usr/bin/env bats
# Reading checkpoints from disk.

load helpers

setup_file() {
    mkdir "$BATS_FILE_TMPDIR/hostile"
    PYTHONDONTWRITEBYTECODE=1 python3 "$BATS_TEST_DIRNAME/make_hostile.py" "$BATS_FILE_TMPDIR/hostile" \
        >"$BATS_FILE_TMPDIR/hostile.tsv"
}

# --- files of torch.save ---

@test "every tensor of files that other people's PyTorch wrote has the bytes that PyTorch reads" {
    for expected in "$TESTS"/foreign/*.tsv; do
        tsv "${expected%.tsv}" --quiet >actual
        same "$expected" actual
    done
}

@test "a whole model has the tensors that its PyTorch has" {
    for model in "$TESTS"/golden/models/*; do
        tsv "$model" >actual
        same "$model/tensors.tsv" actual
        tsv "$model/pytorch_model.bin" >actual
        same "$model/tensors.tsv" actual
    done
}

@test "an inline stream has the same tensors as one by reference" {
    for file in fortran_tensor_3d.pth legacy_shared_storage.pt complex_nested.pt; do
        ckpt-unpack --inline "$TESTS/foreign/$file" >stream
        ckpt-sum --tsv <stream >actual
        same "$TESTS/foreign/$file.tsv" actual
    done
}

@test "a file is known by its content and not by its name" {
    cp "$TESTS/foreign/multi_layer.safetensors" a.pt
    cp "$TESTS/foreign/scalar.pt" b.safetensors
    cp "$TESTS/foreign/simple_legacy.pt" c
    [ "$(tsv a.pt | wc -l)" -eq 9 ]
    [ "$(tsv b.safetensors | wc -l)" -eq 1 ]
    [ "$(tsv c | wc -l)" -eq 3 ]
}

@test "all protocols of pickle, in zip and legacy files, give the same tensors" {
    python '
tensors = {"a": floats("0", 1, 2, 3), "b": [floats("1", 4), (floats("2", 5),)], 7: {"x": floats("3", 6)}}
for protocol in range(1, 6):
    save("zip%d.pt" % protocol, tensors, protocol)
    save_legacy("legacy%d.pt" % protocol, tensors, protocol)'
    tsv zip2.pt >expected
    cut -f 1 expected | tr '\n' ' ' >names
    [ "$(cat names)" = "a b.0 b.1.0 7.x " ]
    for file in zip?.pt legacy?.pt; do
        tsv "$file" >actual
        same expected actual
    done
}

@test "Parameter, its state, and subclasses of Tensor are seen through" {
    python '
utils, rebuild = "torch._utils", foreign("torch._utils", "_rebuild_tensor_v2")
t = floats("0", 1, 2)
save("a.pt", {"plain": t,
    "parameter": Call(foreign(utils, "_rebuild_parameter"), t, True, {}),
    "state": Call(foreign(utils, "_rebuild_parameter_with_state"), t, True, {}, {"a": 1}),
    "class": Call(foreign("torch.nn.parameter", "Parameter"), t, True),
    "subclass": Call(foreign("torch._tensor", "_rebuild_from_type_v2"), rebuild, foreign("m", "MyTensor"), t.__reduce__()[1], {}),
    "both": Call(foreign("torch._tensor", "_rebuild_from_type_v2"), foreign(utils, "_rebuild_parameter"),
                 foreign("m", "MyTensor"), (t, True, {}), {})})'
    tsv a.pt >actual
    [ "$(wc -l <actual)" -eq 6 ]
    [ "$(cut -f 2- actual | sort -u | wc -l)" -eq 1 ]
}

@test "types that PyTorch keeps in untyped storages are read" {
    python '
untyped = Storage("0", bytes(range(64)), "UntypedStorage", module="torch.storage")
v3 = lambda dtype, shape, offset=0: Tensor(untyped, shape, offset=offset, more=[foreign("torch", dtype)], function="_rebuild_tensor_v3")
save("a.pt", {"u64": v3("uint64", [8]), "u16": v3("uint16", [3], 2), "f8": v3("float8_e4m3fn", [2, 2], 5), "bytes": Tensor(untyped, [4])})'
    tsv a.pt | cut -f 1-3 >actual
    printf '%s\t%s\t%s\n' u64 uint64 '[8]' u16 uint16 '[3]' f8 float8_e4m3fn '[2,2]' bytes uint8 '[4]' >expected
    same expected actual
}

@test "tensors without elements, and of no dimension, are tensors" {
    python '
s = Storage("0", bytes(8))
save("a.pt", {"none": Tensor(Storage("1", b""), [0]), "some": Tensor(s, [3, 0, 2]), "end": Tensor(s, [0], offset=2), "one": Tensor(s, [], offset=1)})'
    tsv a.pt | cut -f 3 | tr '\n' ' ' >actual
    [ "$(cat actual)" = "[0] [3,0,2] [0] [] " ]
}

@test "an OrderedDict is a dictionary in each of the ways it is pickled" {
    python '
class State(collections.OrderedDict): pass
State.__module__, State.__qualname__ = "m", "State"
foreign("m", "x"); setattr(sys.modules["m"], "State", State)
ordered = collections.OrderedDict(a=floats("0", 1)); ordered._metadata = {"version": 1}
default = collections.defaultdict(list, b=floats("1", 2))
pairs = Call(collections.OrderedDict, [("c", floats("2", 3)), ["d", floats("3", 4)]])
save("a.pt", {"o": ordered, "d": default, "p": pairs, "s": State(e=floats("4", 5))})'
    [ "$(tsv a.pt | cut -f 1 | tr '\n' ' ')" = "o.a d.b p.c p.d s.e " ]
}

@test "a module that was saved as a whole gives what its state_dict() gives" {
    python '
def module(parameters={}, buffers={}, modules={}, transient=()):
    return Call(foreign("m", "Module"), state={"training": True, "_parameters": collections.OrderedDict(parameters), "_buffers": buffers,
        "_non_persistent_buffers_set": set(transient), "_modules": modules, "parent": None, "cache": floats("9", 9)})
inner = module({"weight": floats("0", 1), "bias": None}, {"mean": floats("1", 2), "scratch": floats("2", 3)}, transient=["scratch"])
for protocol in (2, 4):
    save("m%d.pt" % protocol, module({"p": floats("3", 4)}, {}, {"layers": module(modules={"0": inner})}), protocol)
save("in.pt", {"model": inner})'
    for protocol in 2 4; do
        [ "$(tsv m$protocol.pt | cut -f 1 | tr '\n' ' ')" = "p layers.0.weight layers.0.mean " ]
    done
    [ "$(tsv in.pt | cut -f 1 | tr '\n' ' ')" = "model.weight model.mean " ]
}

@test "names of any characters but NUL are names" {
    python 'save("a.pt", {"模型.w": floats("0", 1), "a \"b\"\\\n\t": floats("1", 2)}, prefix="模型/")'
    ckpt-unpack a.pt | ckpt-sum >actual
    [ "$(wc -l <actual)" -ge 2 ]
    grep -q 模型.w actual
}

@test "values that are not tensors are left out with one warning" {
    ckpt-unpack "$TESTS/foreign/checkpoint.pt" 2>err | ckpt-sum >/dev/null
    [ "$(cat err)" = "ckpt-unpack: warning: 2 values are not tensors and are left out: epoch, loss" ]
    ckpt-unpack --quiet "$TESTS/foreign/checkpoint.pt" 2>err | ckpt-sum >/dev/null
    [ ! -s err ]
}

@test "--key takes one part of the file, also where keys have dots in them" {
    python '
save("a.pt", {"model": {"w": floats("0", 1)}, "state_dict.model": {"inner": {"w": floats("1", 2)}, "inner.x": {"v": floats("2", 3)}},
    "list": [floats("3", 4), {"z": floats("4", 5)}], "broken": Call(foreign("torch._utils", "_rebuild_qtensor"))})'
    [ "$(tsv a.pt --key model | cut -f 1)" = w ]
    [ "$(tsv a.pt -k state_dict.model.inner | cut -f 1)" = w ]
    [ "$(tsv a.pt --key=state_dict.model.inner.x | cut -f 1)" = v ]
    [ "$(tsv a.pt -k list.1 | cut -f 1)" = z ]
    [ "$(tsv a.pt -k model.w | cut -f 1)" = tensor ]
    refuses "_rebuild_qtensor" ckpt-unpack a.pt
    refuses "no key 'modl' in it; its keys are: model, state_dict.model, list, broken" ckpt-unpack -k modl a.pt
    refuses "no key 'model.w.x'" ckpt-unpack -k model.w.x a.pt
    refuses "no key 'list.2'" ckpt-unpack -k list.2 a.pt
}

@test "a zip archive of more than 65535 entries is read" {
    python '
save("a.pt", {"t%d" % i: floats(str(i), i) for i in range(66000)})'
    [ "$(ckpt-unpack a.pt | ckpt-ls | grep -c float32)" -eq 66000 ]
}

@test "a storage of more than 4 GiB is found" {
    python '
t = Tensor(Storage("0", b"", elements=(5 << 30) // 4), [2, 3], offset=(5 << 30) // 4 - 6)
pickled, _ = dump({"a": t, "b": floats("1", 1)})
with zipfile.ZipFile("a.pt", "w") as z:
    z.writestr("x/data.pkl", pickled)
    with z.open("x/data/0", "w", force_zip64=True) as f:
        pass
    z.writestr("x/data/1", struct.pack("<f", 1))
    # a hole of 5 GiB in the place of the first storage
    info, hole = z.getinfo("x/data/0"), 5 << 30
    at = info.header_offset + 30 + len(info.filename) + 20
raw = open("a.pt", "rb").read()
after = raw[at:]
with open("a.pt", "wb") as f:
    f.write(raw[:at]); f.truncate(at + hole); f.seek(at + hole)
    second = after[:after.index(b"PK\1\2")]
    f.write(second)
    directory = f.tell()
    def central(name, size, offset):
        extra = struct.pack("<HHQQQ", 1, 24, size, size, offset)
        f.write(struct.pack("<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 0, 0, 33, 0, 0xffffffff, 0xffffffff, len(name), len(extra), 0, 0, 0, 0, 0xffffffff) + name + extra)
    central(b"x/data.pkl", len(pickled), 0)
    central(b"x/data/0", hole, info.header_offset)
    central(b"x/data/1", 4, at + hole)
    end = f.tell()
    f.write(struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, end - directory, directory))
    f.write(struct.pack("<4sLQL", b"PK\6\7", 0, end, 1))
    f.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, 0xffffffff, 0xffffffff, 0))
    f.seek(at)
    # the local header says the same as the directory
    f.seek(info.header_offset + 30 + len(info.filename)); f.write(struct.pack("<HHQQ", 1, 16, hole, hole))
    f.seek(at + hole - 24); f.write(struct.pack("<6f", 1, 2, 3, 4, 5, 6))
'
    python 'save("b.pt", {"a": Tensor(Storage("0", struct.pack("<6f", 1, 2, 3, 4, 5, 6)), [2, 3]), "b": floats("1", 1)})'
    tsv a.pt >actual
    tsv b.pt >expected
    same expected actual
}

# --- safetensors ---

@test "a safetensors file of 10 GB is opened without reading it" {
    python '
n, size = 2000, 5 << 20
save_safetensors("a.safetensors", {"t%d" % i: entry("BF16", [size // 2], i * size, (i + 1) * size) for i in range(n)})
os.truncate("a.safetensors", os.path.getsize("a.safetensors") + n * size)'
    timeout 5 ckpt-unpack a.safetensors | ckpt-ls >actual
    [ "$(grep -c bfloat16 actual)" -eq 2000 ]
}

@test "every type of safetensors is read" {
    python '
types = [("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2), ("I64", 8), ("I32", 4), ("I16", 2), ("I8", 1), ("U64", 8), ("U32", 4),
         ("U16", 2), ("U8", 1), ("BOOL", 1), ("F8_E4M3", 1), ("F8_E5M2", 1)]
header, at = {"__metadata__": {"format": "pt"}}, 0
for name, size in types:
    header[name] = entry(name, [2, 1], at, at + 2 * size)
    at += 2 * size
header["empty"], header["scalar"] = entry("F32", [0, 7], at, at), entry("U8", [], at, at + 1)
save_safetensors("a.safetensors", json.dumps(header).encode() + b"   ", bytes(at + 1))'
    [ "$(tsv a.safetensors | wc -l)" -eq 17 ]
}

# --- Hugging Face directories ---

@test "a directory of shards gives the tensors of all of them, in the order of the shards" {
    python '
for kind, name in (("safetensors", "model"), ("bin", "pytorch_model")):
    os.mkdir(kind)
    for i in (1, 2, 10):
        if kind == "bin": save("bin/%s-%d.bin" % (name, i), {"w%d" % i: floats("0", i), "v%d" % i: floats("1", i)})
        else: save_safetensors("safetensors/%s-%d.safetensors" % (name, i), {"w%d" % i: entry("F32", [1], 0, 4), "v%d" % i: entry("F32", [1], 4, 8)}, struct.pack("<2f", i, i))
    json.dump({"metadata": {"total_size": 24}, "weight_map": {"%s%d" % (v, i): "%s-%d.%s" % (name, i, kind) for i in (10, 2, 1) for v in "vw"}},
        open("%s/%s.%s.index.json" % (kind, name, kind), "w"))'
    tsv safetensors >a
    tsv bin >b
    same a b
    [ "$(cut -f 1 a | tr '\n' ' ')" = "w1 v1 w2 v2 w10 v10 " ]
    tsv bin/pytorch_model.bin.index.json >c
    same a c
}

@test "safetensors are preferred where a directory has both" {
    cp "$TESTS/foreign/multi_layer.safetensors" model.safetensors
    cp "$TESTS/foreign/scalar.pt" pytorch_model.bin
    [ "$(tsv . | wc -l)" -eq 9 ]
}

@test "a tensor that the index does not name is taken with a warning, one that it places elsewhere only from there" {
    python '
save("a.bin", {"w": floats("0", 1), "inv_freq": floats("1", 2), "tied": floats("2", 3)})
save("b.bin", {"v": floats("0", 4), "tied": floats("1", 5)})
json.dump({"weight_map": {"w": "a.bin", "v": "b.bin", "tied": "b.bin"}}, open("pytorch_model.bin.index.json", "w"))'
    ckpt-unpack . 2>err | ckpt-sum --tsv | cut -f 1 | tr '\n' ' ' >actual
    [ "$(cat actual)" = "w inv_freq v tied " ]
    [ "$(wc -l <err)" -eq 1 ]
    grep -q "does not name 1 of the tensors in its files, which are taken all the same: 'inv_freq'" err
}

@test "the stream carries the config, the layers and the size" {
    ckpt-unpack "$TESTS/golden/models/llama-gqa" >stream
    head -c 1000 stream | tr '\0' ' ' >head
    grep -qa '"num_attention_heads":' head
    grep -qa '"layers":4' head
    grep -qa '"lm_head":true' head
    grep -qa '"bytes":' head
}

@test "a config.json that cannot be used is a warning, and that of another kind of model is not" {
    hf=$TESTS/golden/models/llama-gqa
    mkdir bad
    ln -s "$hf/pytorch_model.bin" bad
    unusable() { # text, what the warning says
        printf %s "$1" >bad/config.json
        ckpt-unpack bad 2>err | ckpt-sum --tsv >actual
        same "$hf/tensors.tsv" actual
        [ "$(wc -l <err)" -eq 1 ]
        grep -q "^ckpt-unpack: warning: bad/config.json: .*$2.*; it is not used" err
    }
    unusable '{"num_attention_heads": 8,' ''
    unusable '' ''
    unusable '[]' 'not a JSON object'
    unusable '{"num_attention_heads": "8", "hidden_size": 64}' 'num_attention_heads must be a whole number'
    unusable '{"num_attention_heads": 8, "hidden_size": 63}' 'hidden_size 63 is not a multiple'
    for other in '{}' '{"num_attention_heads": null}' '{"text_config": {"num_attention_heads": 8}}'; do
        echo "$other" >bad/config.json
        ckpt-unpack bad 2>err | ckpt-sum --tsv >actual
        same "$hf/tensors.tsv" actual
        [ ! -s err ]
    done
}

@test "what a trainer keeps beside a model without a prefix is left out with --model" {
    /usr/bin/python3 -c 'import torch' 2>/dev/null || skip "there is no PyTorch for /usr/bin/python3"
    /usr/bin/python3 -c 'import torch
t = torch.ones(3)
torch.save({"model.layers.0.input_layernorm.weight": t, "lm_head.weight": t, "optimizer": {"state": {0: {"exp_avg": t}}},
            "rng_state": t}, "training.pt")'
    tsv training.pt --model 2>err >actual
    [ "$(cut -f 1 actual | xargs)" = "model.layers.0.input_layernorm.weight lm_head.weight" ]
    grep -q "2 values are not tensors of the model and are left out: optimizer.state.0.exp_avg, rng_state" err
    [ "$(tsv training.pt | wc -l)" -eq 4 ]
}

# --- directories of rank files ---

@test "the config of a sharded checkpoint stands in OUT or OUT/model and never above" {
    hf=$TESTS/golden/models/llama-gqa
    ckpt-unpack "$hf" | ckpt-shard -t 2 | ckpt-pack-xser out
    has_config() {
        ckpt-unpack "$@" 2>err | tr '\0' ' ' | grep -ca '"num_attention_heads":'
    }
    cp "$hf/config.json" .
    run has_config out
    [ "$status" -ne 0 ]
    mv out/model out/ranks # not what NxDT calls it: out is anyone's directory then
    cp "$hf/config.json" out
    run has_config out/ranks
    [ "$status" -ne 0 ]
    mv out/ranks out/model
    has_config out
    has_config out/model
    (cd out/model && has_config .)
    mv out/config.json out/model
    has_config out/
    has_config out/model/
    echo '{' >out/config.json # the first that is there decides
    run has_config out
    [ "$status" -ne 0 ]
    grep -q '^ckpt-unpack: warning: out/config.json: ' err
}

@test "a trainer's directory is read from above and from within, tensor by tensor" {
    tsv "$TESTS/golden/xser-example" >above
    tsv "$TESTS/golden/xser-example/model" >within
    same above within
    [ "$(wc -l <above)" -eq 54 ]
    [ "$(head -1 above | cut -f 1-3)" = "$(printf 'dp_rank_00_tp_rank_00_pp_rank_00.pt\tmodel.embed_tokens.weight\tbfloat16')" ]
    cut -f 2 above | uniq | sort | uniq -d >torn
    [ ! -s torn ]
    cut -f 2 above | grep -o 'layers\.[0-9]*' | uniq >layers
    [ "$(tr '\n' ' ' <layers)" = "layers.0 layers.1 layers.2 layers.3 " ]
    [ "$(tail -1 above | cut -f 2)" = lm_head.weight ]
    cut -f 1,2 above | grep -A1 -F tp_rank_00 | grep -c tp_rank_01 | grep -qx 27
}

@test "one rank file with its tensors beside it can be read alone" {
    tsv "$TESTS/golden/xser-example/model/dp_rank_00_tp_rank_01_pp_rank_01.pt" >actual
    tsv "$TESTS/golden/xser-example" | sed -n 's/^dp_rank_00_tp_rank_01_pp_rank_01.pt\t//p' | sort >expected
    sort actual >sorted
    same expected sorted
}

# ranks NAME_FORMAT: four xser rank files of that name, of tp 2, pp 2.
ranks() {
    python '
for tp in 0, 1:
    for pp in 0, 1:
        path = sys.argv[1] % {"tp": tp, "pp": pp} if "%" in sys.argv[1] else None
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        save_xser(path, [("model.layers.%d.w" % pp, floats("0", tp, pp)), ("norm", floats("0", 7))], info=len(sys.argv) < 3)' "$@"
}

@test "rank files are found under each of the three names" {
    for name in 'a/tp_rank_%(tp)02d_pp_rank_%(pp)02d' 'b/tp_rank_%(tp)02d_pp_rank_%(pp)02d/checkpoint.pt' \
        'c/dp_rank_00_tp_rank_%(tp)02d_pp_rank_%(pp)02d.pt' 'd/dp_rank_00_ep_rank_00_tp_rank_%(tp)02d_pp_rank_%(pp)02d.pt' \
        'e/model/dp_rank_00_tp_rank_%(tp)03d_pp_rank_%(pp)02d.pt'; do
        ranks "$name"
    done
    for directory in a b c d e; do
        tsv $directory >$directory.tsv
        same a.tsv $directory.tsv
    done
    [ "$(cut -f 2 a.tsv | uniq | tr '\n' ' ')" = "model.layers.0.w model.layers.1.w norm " ]
}

@test "references of any module, with and without .info.pt, lead to the tensors" {
    python 'save_xser("tp_rank_00_pp_rank_00", [("w", floats("0", 1))], references="neuronx_distributed.utils.serialization", info=False)'
    [ "$(tsv . | cut -f 2)" = w ]
}

@test "of several data-parallel ranks the first one is read" {
    ranks 'dp_rank_00_tp_rank_%(tp)02d_pp_rank_%(pp)02d.pt'
    ranks 'dp_rank_01_tp_rank_%(tp)02d_pp_rank_%(pp)02d.pt'
    [ "$(tsv . | wc -l)" -eq 8 ]
    rm -r dp_rank_00*
    refuses "data-parallel rank 0" ckpt-unpack .
}

@test "expert-parallel ranks are pieces too" {
    python '
for ep in 0, 1:
    for tp in 0, 1:
        save("dp_rank_00_ep_rank_%02d_tp_rank_%02d_pp_rank_00.pt" % (ep, tp), {"e": floats("0", ep, tp)})'
    [ "$(tsv . | cut -f 1 | tr '\n' ' ')" = "$(for ep in 0 1; do for tp in 0 1; do echo -n "dp_rank_00_ep_rank_0${ep}_tp_rank_0${tp}_pp_rank_00.pt "; done; done)" ]
    rm dp_rank_00_ep_rank_01_tp_rank_00_pp_rank_00.pt
    refuses "the files of 1 ranks are missing: tp 0 pp 0 ep 1" ckpt-unpack .
}

@test "rank files that hold their tensors themselves are read, with an empty .tensors beside them or not" {
    python '
for tp in 0, 1:
    name = "model/dp_rank_00_tp_rank_%02d_pp_rank_00.pt" % tp
    os.makedirs("model", exist_ok=True); save(name, {"model": {"w": floats("0", tp)}, "epoch": 1})
os.mkdir(name + ".tensors")'
    ckpt-unpack --key model . 2>err | ckpt-sum --tsv >actual
    [ "$(cut -f 2 actual | tr '\n' ' ')" = "w w " ]
    [ ! -s err ]
}

@test "missing ranks are named, the first of many" {
    ranks 'dp_rank_00_tp_rank_%(tp)02d_pp_rank_%(pp)02d.pt'
    mv dp_rank_00_tp_rank_01_pp_rank_01.pt dp_rank_00_tp_rank_31_pp_rank_99.pt
    refuses "the files of 3196 ranks are missing: tp 2 pp 0, tp 3 pp 0, tp 4 pp 0, …" ckpt-unpack .
    mv dp_rank_00_tp_rank_31_pp_rank_99.pt dp_rank_00_tp_rank_4000000000_pp_rank_4000000000.pt
    refuses "ranks are missing" timeout 10 ckpt-unpack .
}

@test "two files of one rank are an error" {
    ranks 'dp_rank_00_tp_rank_%(tp)02d_pp_rank_%(pp)02d.pt'
    cp dp_rank_00_tp_rank_00_pp_rank_00.pt tp_rank_00_pp_rank_00
    refuses "two files are of the same rank" ckpt-unpack .
}

@test "a tensor file that is missing, or is not what .info.pt says, ends the stream with an error" {
    ranks 'dp_rank_00_tp_rank_%(tp)02d_pp_rank_%(pp)02d.pt'
    file=dp_rank_00_tp_rank_01_pp_rank_01.pt.tensors/tensor_1.pt
    cp dp_rank_00_tp_rank_01_pp_rank_01.pt.tensors/tensor_0.pt $file
    refuses "tensor 'norm' is float32 [2], but should be float32 [1]" ckpt-unpack .
    cp "$TESTS/foreign/complex_nested.pt" $file
    refuses "should be one tensor" ckpt-unpack .
    echo hello >$file
    refuses "neither a torch.save file" ckpt-unpack .
    rm $file
    refuses "tensor 'norm' of ./dp_rank_00_tp_rank_01_pp_rank_01.pt should be in it" ckpt-unpack .
}

@test "thousands of tensor files are read with few of them open, and in little memory" {
    python '
os.mkdir("model")
for tp in range(64):
    save_xser("model/dp_rank_00_tp_rank_%02d_pp_rank_00.pt" % tp, [("model.layers.%d.w" % i, floats("0", tp, i)) for i in range(30)])'
    (ulimit -n 24 && ckpt-unpack . >stream)
    [ "$(ckpt-ls <stream | grep -c float32)" -eq 1920 ]
}

# --- what must not go wrong ---

# each_hostile PREFIX: tries the hostile files whose name begins so.
each_hostile() {
    local name message
    grep "^$1" "$BATS_FILE_TMPDIR/hostile.tsv" >wanted
    while IFS=$'\t' read -r name message; do
        refuses "$message" timeout 20 ckpt-unpack "$BATS_FILE_TMPDIR/hostile/$name"
    done <wanted
}

@test "a pickle is never run" {
    each_hostile pickle
    [ ! -e PWNED ] && [ ! -e "$BATS_FILE_TMPDIR/hostile/PWNED" ]
}

@test "a tensor that is not plain bytes inside of its storage is an error" {
    each_hostile tensor
}

@test "tensors without a usable name are an error" {
    each_hostile name
}

@test "a damaged zip archive is an error" {
    each_hostile zip
}

@test "a damaged legacy file is an error" {
    each_hostile legacy
}

@test "a safetensors header that does not describe its file exactly is an error" {
    each_hostile safetensors
}

@test "a file of another kind is called by its name" {
    each_hostile other
}

@test "an index that does not go with its directory is an error" {
    each_hostile index
}

@test "hostile files do not take much memory" {
    if grep -q __asan_init "$(command -v ckpt-unpack)"; then
        skip "the address sanitizer reserves memory of its own"
    fi
    ulimit -v 600000
    each_hostile pickle
    each_hostile safetensors
}

@test "a file that is not there, not readable as one, or cut while the stream is read, is an error" {
    refuses "No such file" ckpt-unpack nowhere.pt
    mkfifo pipe
    refuses "not a regular file" ckpt-unpack pipe
    ckpt-unpack --inline "$TESTS/golden/models/llama-gqa" >saved.strm
    refuses "saved.strm: this is a tensor stream and not a checkpoint" ckpt-unpack saved.strm
    cp "$TESTS/golden/models/llama-gqa/pytorch_model.bin" model.bin
    ckpt-unpack --by-reference model.bin >stream
    truncate -s 1000 model.bin
    ! ckpt-sum <stream >/dev/null 2>err
    [ "$(wc -l <err)" -eq 1 ]
}

@test "wrong usage is told from wrong data" {
    run ckpt-unpack
    [ "$status" -eq 2 ]
    run ckpt-unpack a b
    [ "$status" -eq 2 ]
    run ckpt-unpack --nonsense a
    [ "$status" -eq 2 ]
    run ckpt-unpack --help
    [ "$status" -eq 0 ]
    [[ $output == *"ckpt-unpack hf/ | ckpt-ls"* ]]
}

@test "wrong usage names the word that is wrong" {
    blames() { # message, argument...
        status=0
        ckpt-unpack "${@:2}" >/dev/null 2>err || status=$?
        [ "$status" -eq 2 ]
        [[ $(<err) == "ckpt-unpack: $1 (see "* ]]
    }
    blames "unknown option -n" --model -nx
    blames "unknown option -x" -qx
    blames "unknown option -n" --model -n
    blames "-k needs a value" --model -qk
    blames "--key needs a value" -q --key
    blames "--help=1 does not take a value" --help=1
    blames "unknown or ambiguous option --mod3l" -q --mod3l
}

@test "help and version that cannot be written are an error of one line" {
    [ -e /dev/full ] || skip "there is no /dev/full"
    for option in --help --version; do
        status=0
        ckpt-unpack $option >/dev/full 2>err || status=$?
        [ "$status" -eq 1 ]
        grep -q '^ckpt-unpack: cannot write to standard output: ' err
        [ "$(wc -l <err)" -eq 1 ]
    done
}

# --- with PyTorch itself ---

@test "what PyTorch writes in all its ways has the bytes that PyTorch reads" {
    /usr/bin/python3 -c 'import torch' 2>/dev/null || skip "there is no PyTorch for /usr/bin/python3"
    mkdir files
    /usr/bin/python3 "$TESTS/make_torch.py" files 2>/dev/null
    [ "$(ls files/*.tsv | wc -l)" -gt 100 ]
    for expected in files/*.tsv; do
        tsv "${expected%.tsv}" --quiet >actual
        same "$expected" actual
    done
}
