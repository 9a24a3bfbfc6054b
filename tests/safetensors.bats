# ckpt-pack-safetensors: whole models for Hugging Face's tools.

load convert_helpers

check() { # directory: prints the files
    python3 "$TESTS/check_safetensors.py" "$1"
}

@test "a model that fits one file is model.safetensors, without an index" {
    ckpt-unpack "$golden/models/llama-gqa" | ckpt-pack-safetensors out
    [[ $(check out) == "model.safetensors 39 "* ]]
    [[ $(ls -A out) == model.safetensors ]]
    same <(sums out) <(sorted "$golden/models/llama-gqa/tensors.tsv")
}

@test "a larger one is cut into shards that are no larger than asked for, with an index" {
    ckpt-unpack "$golden/models/llama-gqa" | ckpt-pack-safetensors --max-shard-size 100KB out
    check out >files
    [[ $(wc -l <files) == 4 && $(head -1 files) == "model-00001-of-00004.safetensors "* ]]
    awk '$3 > 100000 { exit 1 }' files
    same <(sums out) <(sorted "$golden/models/llama-gqa/tensors.tsv")
}

@test "a tensor larger than a shard gets a file of its own" {
    ckpt-unpack "$golden/models/llama-gqa" | ckpt-pack-safetensors --max-shard-size 1 out
    [[ $(check out | awk '$2 == 1' | wc -l) == 39 ]]
    same <(sums out) <(sorted "$golden/models/llama-gqa/tensors.tsv")
}

@test "an inline stream gives the same tensors, written as they come" {
    ckpt-unpack --inline "$golden/models/llama-gqa" | ckpt-pack-safetensors --max-shard-size 200KB out
    check out
    same <(sums out) <(sorted "$golden/models/llama-gqa/tensors.tsv")
}

@test "inline tensors of mixed types are aligned all the same" {
    model mixed --layers 1 --extra odd:I8:3 --extra wide:F64:5 --extra flag:BOOL:1 --extra last:I64:2
    for how in --inline --by-reference; do
        ckpt-unpack $how mixed | ckpt-pack-safetensors "out$how"
        check "out$how"
        same <(sums "out$how") <(sums mixed)
    done
}

@test "an inline stream with more names than a reserved header holds takes more files" {
    model wide --layers 1500
    ckpt-unpack --inline wide | ckpt-pack-safetensors out
    (($(check out | wc -l) > 1))
    same <(sums out) <(sums wide)
}

@test "tied embeddings are written once, and an lm_head that has become another stays, with a warning" {
    model tied --tied --keep-lm-head
    ckpt-unpack tied | ckpt-shard --tp-size 2 | ckpt-merge | ckpt-pack-safetensors --quiet other
    sums other | grep -q lm_head.weight # model.py gives it bytes of its own
    model plain --tied
    for how in --inline --by-reference; do
        ckpt-unpack $how plain | ckpt-shard --tp-size 2 | tee >(ckpt-ls >"ls$how") | ckpt-merge | ckpt-pack-safetensors "out$how"
        grep -q lm_head.weight "ls$how"
        same <(sums "out$how") <(sums plain)
    done
}

@test "a tied lm_head that comes before the embedding is known for its copy all the same" {
    local how
    "$torch_python" -c 'import torch, os, json
w = torch.arange(2048.).view(64, 32)
for name, head in ("tied", w), ("other", w + 1):
    os.mkdir(name)
    torch.save({"lm_head.weight": head, "model.norm.weight": w[0], "model.embed_tokens.weight": w}, name + "/pytorch_model.bin")
    json.dump({"hidden_size": 32, "num_attention_heads": 4, "tie_word_embeddings": True}, open(name + "/config.json", "w"))
torch.save({"lm_head.weight": w}, "other/head.pt")'
    for how in --inline --by-reference; do
        ckpt-unpack $how tied | ckpt-pack-safetensors "out$how" 2>err
        [[ ! -s err ]]
        same <(sums "out$how") <(sums tied | grep -v lm_head)
        ckpt-unpack $how other | ckpt-pack-safetensors "other$how" 2>err
        grep -q 'lm_head.weight: the config ties it to the embedding, but it differs; it is written' err
        same <(sums "other$how") <(sums other)
        ckpt-unpack $how other/head.pt | ckpt-pack-safetensors "head$how" 2>err # and there is no embedding
        [[ ! -s err ]]
        same <(sums "head$how") <(sums other/head.pt)
    done
}

@test "a sharded stream, a wrong size and a type that safetensors lacks are refused" {
    local model=$golden/models/llama-gqa
    fails_with_one_line 1 '^ckpt-pack-safetensors: the stream is sharded; put ckpt-split-qkv and ckpt-merge before' \
        "ckpt-unpack $model | ckpt-shard --tp-size 2 | ckpt-pack-safetensors out"
    fails_with_one_line 2 "^ckpt-pack-safetensors: --max-shard-size takes a size such as 5GB or 500MiB, not '5 apples'" \
        "ckpt-unpack $model | ckpt-pack-safetensors --max-shard-size '5 apples' out"
    "$torch_python" -c 'import torch; torch.save({"z": torch.zeros(2, dtype=torch.complex128)}, "complex.pt")'
    fails_with_one_line 1 '^ckpt-pack-safetensors: z: safetensors has no complex128; use ckpt-pack-pt' \
        'ckpt-unpack complex.pt | ckpt-pack-safetensors out'
    nothing_at out
}

@test "a directory that is not empty is refused; --force replaces all weights and nothing else" {
    local model=$golden/models/llama-gqa
    ckpt-unpack "$model" | ckpt-pack-safetensors --max-shard-size 100KB out
    echo keep >out/README.md
    fails_with_one_line 1 '^ckpt-pack-safetensors: out: is there and is not empty' "ckpt-unpack $model | ckpt-pack-safetensors out"
    ckpt-unpack "$model" | ckpt-pack-safetensors --force out
    [[ $(ls -A out | xargs) == "README.md model.safetensors" ]]
    ckpt-unpack "$model" | ckpt-pack-safetensors --force --max-shard-size 200KB out
    [[ $(ls -A out | xargs) == "README.md model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json" ]]
    same <(sums out) <(sorted "$model/tensors.tsv")
}
