# ckpt-shard and ckpt-merge: sizes, models and mistakes.

load convert_helpers

shard() { # input, output, option…: as NxDT has it
    ckpt-unpack "$1" | ckpt-shard "${@:3}" | ckpt-fuse-qkv | ckpt-pack-pt "$2"
}

merge() { # input, config, option…: the sums of the model
    ckpt-unpack "$1" | ckpt-split-qkv --config "$2" | ckpt-merge "${@:3}" | ckpt-sum --tsv | LC_ALL=C sort
}

there_and_back() { # model, option…: by reference and inline, with q, k, v fused and not
    local mode fuse
    sums "$1" >there
    for mode in --by-reference --inline; do
        for fuse in "" --fuse-qkv; do
            [[ -z $fuse || " ${*:2} " == *" --qkv-linear "* ]] || continue
            ckpt-unpack $mode "$1" | ckpt-shard "${@:2}" | ckpt-fuse-qkv $fuse | ckpt-split-qkv | ckpt-merge |
                ckpt-sum --tsv | LC_ALL=C sort | same there -
        done
    done
}

names_on() { # directory, tp rank, pp rank: the names in a rank file, of an output of ckpt-pack-pt
    ckpt-unpack "$1" | ckpt-ls --json | jq -r ".[] | select(.rank.tp == $2 and .rank.pp == $3) | .name"
}

layers_by_stage() { # directory, pipeline ranks: the layers of each
    local pp
    for ((pp = 0; pp < $2; pp++)); do
        names_on "$1" 0 $pp | sed -n 's/.*layers\.\([0-9]*\)\.input.*/\1/p' | xargs
    done | paste -sd '|'
}

# ---- sizes that do not fit ----

@test "a dimension that does not divide is an error that names the tensor, the size and tp" {
    model m --heads 4 --kv 4 --intermediate 66
    fails_with_one_line 1 'mlp.gate_proj.weight: .*66 .*4 tensor ranks' "ckpt-unpack m | ckpt-shard --tp-size 4 | ckpt-pack-pt out"
    nothing_at out
    model v --heads 4 --kv 4 --vocab 50
    fails_with_one_line 1 'model.embed_tokens.weight: .*50 .*4 tensor ranks' "ckpt-unpack v | ckpt-shard --tp-size 4 | ckpt-pack-pt out"
    nothing_at out
}

@test "heads that do not divide are an error that says which option would help" {
    model m --heads 8 --kv 2 --hidden 64
    fails_with_one_line 1 '2 KV heads cannot be divided among 4 .*--qkv-linear' "ckpt-unpack m | ckpt-shard -t 4 | ckpt-ls"
    fails_with_one_line 1 '2 KV heads x kv_size_multiplier 1 = 2 .*4 tensor ranks' "ckpt-unpack m | ckpt-shard -t 4 --qkv-linear | ckpt-ls"
    fails_with_one_line 1 'kv_size_multiplier 3 does not divide .*4' "ckpt-unpack m | ckpt-shard -t 4 --qkv-linear -m 3 --hw-backend trn1 | ckpt-ls"
    fails_with_one_line 1 'kv_size_multiplier of 2 .*--qkv-linear' "ckpt-unpack m | ckpt-shard -t 4 -m 2 --hw-backend trn1 | ckpt-ls"
    fails_with_one_line 1 'say which with --hw-backend' "ckpt-unpack m | ckpt-shard -t 4 --qkv-linear -m 2 | ckpt-ls"
    model odd --heads 6 --kv 2 --hidden 48
    fails_with_one_line 1 '3 query heads .*2 replicas.*--pad-attn-heads' "ckpt-unpack odd | ckpt-shard -t 4 --qkv-linear -m 2 --hw-backend trn1 | ckpt-ls"
    fails_with_one_line 1 '12 attention heads padded to 16 .*3 KV heads|padded' \
        "ckpt-unpack m | ckpt-shard -t 16 --qkv-linear -m 16 --hw-backend trn1 --pad-attn-heads --config <(echo '{\"num_attention_heads\":12,\"num_key_value_heads\":3,\"hidden_size\":96}') | ckpt-ls"
}

@test "tp and pp that are too large are errors" {
    model m
    fails_with_one_line 1 'KV heads.*64 tensor ranks' "ckpt-unpack m | ckpt-shard --tp-size 64 | ckpt-ls"
    fails_with_one_line 1 'cannot be divided|impossibly large' "ckpt-unpack m | ckpt-shard --tp-size 4294967295 --qkv-linear | ckpt-ls"
    fails_with_one_line 2 'below 2\^32' "ckpt-unpack m | ckpt-shard --tp-size 4294967296 2>&1 >/dev/null | tee err >&2; grep -q . err && exit 2"
    fails_with_one_line 1 '2 layers are fewer than the 3 pipeline stages' "ckpt-unpack m | ckpt-shard --tp-size 1 --pp-size 3 | ckpt-ls"
    fails_with_one_line 1 'fewer than the 4 pipeline stages' "ckpt-unpack m | ckpt-shard --tp-size 1 --pp-size 2 --virtual-pp-size 2 | ckpt-ls"
    fails_with_one_line 1 'fewer' "ckpt-unpack m | ckpt-shard --tp-size 1 --pp-size 4294967295 --virtual-pp-size 4294967295 | ckpt-ls"
    fails_with_one_line 1 '' "ckpt-unpack m | ckpt-shard --tp-size 0 | ckpt-ls"
    fails_with_one_line 1 '' "ckpt-unpack m | ckpt-shard --tp-size -1 | ckpt-ls"
    fails_with_one_line 1 '' "ckpt-unpack m | ckpt-shard --tp-size two | ckpt-ls"
}

# ---- the config ----

@test "a config of another model is an error that says what does not fit" {
    model m --heads 4 --kv 2 --hidden 32
    model other --heads 8 --kv 2 --hidden 64
    fails_with_one_line 1 'q_proj.weight: .*32.* 8 heads of 8 = 64' "ckpt-unpack m | ckpt-shard -t 2 --config other/config.json | ckpt-ls"
    fails_with_one_line 1 'not-there.json: cannot open' "ckpt-unpack m | ckpt-shard -t 2 --config not-there.json | ckpt-ls"
    fails_with_one_line 1 'm: cannot read: Is a directory|m: ' "ckpt-unpack m | ckpt-shard -t 2 --config m | ckpt-ls"
}

@test "a config without heads, or with heads that make no sense, is an error" {
    local text
    model m
    rm m/config.json
    fails_with_one_line 1 'the number of attention heads is not known; give .*--config' "ckpt-unpack m | ckpt-shard -t 2 | ckpt-ls"
    for text in '{}' '{"hidden_size": 32}' '[]' '7' '{"num_attention_heads": 4}' \
        '{"num_attention_heads": 0, "hidden_size": 32}' '{"num_attention_heads": -4, "hidden_size": 32}' \
        '{"num_attention_heads": 4.5, "hidden_size": 32}' '{"num_attention_heads": "4", "hidden_size": 32}' \
        '{"num_attention_heads": 4, "num_key_value_heads": 3, "hidden_size": 32}' \
        '{"num_attention_heads": 5, "hidden_size": 32}' \
        '{"num_attention_heads": 18446744073709551616, "hidden_size": 32}' \
        '{"num_attention_heads": 4294967295, "num_key_value_heads": 4294967295, "head_dim": 4294967295}' \
        '{"num_attention_heads": 4, "hidden_size": 32' 'not json' ''; do
        echo "$text" >config.json
        fails_with_one_line 1 'config.json: |q_proj.weight: ' "ckpt-unpack m | ckpt-shard -t 1 --config config.json | ckpt-ls"
    done
}

@test "a config may come through a pipe" {
    model m
    sums m >there
    ckpt-unpack m/model.safetensors | ckpt-shard -t 2 --config <(jq . m/config.json) | ckpt-merge | ckpt-sum --tsv |
        LC_ALL=C sort | same there -
}

@test "the config beside the checkpoint is found, and its null values are as if not there" {
    model m
    jq '.head_dim = null | .num_key_value_heads = 2' m/config.json >c && mv c m/config.json
    there_and_back m --tp-size 2
}

# ---- layers ----

@test "a layer that is missing is an error" {
    model m --layers 4 --without layers.2.
    fails_with_one_line 1 'layer 2 of 4 is missing' "ckpt-unpack m | ckpt-shard -t 1 | ckpt-pack-pt out"
    nothing_at out
}

@test "--n-layers that is wrong is an error for shard and merge" {
    model m --layers 3
    fails_with_one_line 1 '--n-layers 4 is wrong: the checkpoint has 3 layers' "ckpt-unpack m | ckpt-shard -t 1 --n-layers 4 | ckpt-ls"
    ckpt-unpack m | ckpt-shard -t 1 --n-layers 3 | ckpt-fuse-qkv | ckpt-pack-pt out
    fails_with_one_line 1 '--n-layers 4 contradicts .* 3' "ckpt-unpack out | ckpt-split-qkv | ckpt-merge --config m/config.json --n-layers 4 | ckpt-ls"
}

@test "the number of layers is counted in the checkpoint, whatever the config says" {
    model m --layers 5
    jq '.num_hidden_layers = 9' m/config.json >c && mv c m/config.json
    shard m out --tp-size 1 --pp-size 2
    [[ $(names_on out 0 1 | grep -c input_layernorm) == 3 ]]
    model none --without layers. --no-config-layers
    fails_with_one_line 1 'number of layers is not known.*--n-layers' "ckpt-unpack none | ckpt-shard -t 1 | ckpt-ls"
}

@test "layers that do not divide evenly go one each to the last stages" {
    model m --layers 7
    shard m out --tp-size 1 --pp-size 3
    [[ $(layers_by_stage out 3) == "0 1|2 3|4 5 6" ]]
    shard m more --tp-size 1 --pp-size 4
    [[ $(layers_by_stage more 4) == "0|1 2|3 4|5 6" ]]
    there_and_back m --tp-size 2 --pp-size 3
    there_and_back m --tp-size 1 --pp-size 7
}

@test "virtual stages go round the pipeline ranks, and the remainder to the last stages" {
    model m --layers 7
    shard m out --tp-size 1 --pp-size 2 --virtual-pp-size 2
    # stages 0 | 1 2 | 3 4 | 5 6, on ranks 0 1 0 1
    [[ $(layers_by_stage out 2) == "0 3 4|1 2 5 6" ]]
    same <(merge out m/config.json) <(sums m)
    there_and_back m --tp-size 2 --pp-size 2 --virtual-pp-size 3
}

@test "the embedding is on the first pipeline rank, norm and lm_head on the last" {
    model m --layers 3
    shard m out --tp-size 2 --pp-size 3
    same <(names_on out 1 0 | grep -v layers) <(echo model.embed_tokens.weight)
    same <(names_on out 1 1 | grep -v layers) /dev/null
    same <(names_on out 1 2 | grep -v layers) <(printf '%s\n' model.norm.weight lm_head.weight)
}

@test "pipeline cuts make stages of any size" {
    model m --layers 6
    shard m out --tp-size 1 --pp-size 3 --pipeline-cuts model.layers.0,model.layers.3
    [[ $(layers_by_stage out 3) == "0|1 2 3|4 5" ]]
    there_and_back m --tp-size 1 --pp-size 3 --pipeline-cuts 1,2
    there_and_back m --tp-size 1 --pp-size 2 --virtual-pp-size 2 --pipeline-cuts model.layers.0,model.layers.2,model.layers.4
}

@test "pipeline cuts that make no sense are errors" {
    model m --layers 6
    try() { # cuts, pattern
        fails_with_one_line 1 "$2" "ckpt-unpack m | ckpt-shard -t 1 -p 3 --pipeline-cuts '$1' | ckpt-ls"
    }
    try model.layers.2 'make 2 stages, but there are 3'
    try model.layers.0,model.layers.1,model.layers.2 'more than 3 stages'
    try model.layers.3,model.layers.1 'cuts must rise'
    try model.layers.3,model.layers.3 'cuts must rise'
    try model.layers.3,model.layers.5 'before the last of 6 layers'
    try model.layers.3,model.layers.99 'before the last of 6 layers'
    try model.layers.3,model.layers.18446744073709551615 'before the last of 6 layers'
    try model.layers.3,model.layers.18446744073709551616 "does not name a layer"
    try model.layers.3, "'' does not name a layer"
    try ,model.layers.3 "'' does not name a layer"
    try '' "'' does not name a layer"
    try layers.x,layers.y "'layers.x' does not name a layer"
    try -1,2 "does not name a layer"
}

# ---- models ----

@test "biases of attention (Qwen2) are cut with their heads" {
    model m --bias --heads 8 --kv 4 --hidden 32
    shard m out --tp-size 4 --qkv-linear
    names_on out 3 0 | grep -q 'layers.1.self_attn.qkv_proj.bias_v'
    there_and_back m --tp-size 4 --qkv-linear
    there_and_back m --tp-size 8 --qkv-linear --kv-size-multiplier 2 --hw-backend trn2
}

@test "biases of every projection: q, k, v, gate and up are cut, those of o and down are whole" {
    model m --all-biases --heads 4 --kv 2
    shard m out --tp-size 2 --qkv-linear
    ckpt-unpack out | ckpt-ls --json |
        jq -r '.[] | select(.rank.tp == 1 and (.name | test("layers.0.*bias"))) | "\(.name) \(.shape)"' >seen
    same seen - <<'END'
model.layers.0.self_attn.qkv_proj.bias_q [16]
model.layers.0.self_attn.qkv_proj.bias_k [8]
model.layers.0.self_attn.qkv_proj.bias_v [8]
model.layers.0.self_attn.o_proj.bias [32]
model.layers.0.mlp.gate_up_proj.bias [64]
model.layers.0.mlp.down_proj.bias [32]
END
    there_and_back m --tp-size 2 --qkv-linear
    there_and_back m --tp-size 2
}

@test "head_dim need not be hidden size / heads" {
    model m --heads 4 --kv 2 --hidden 20 --head-dim 16 --intermediate 40
    there_and_back m --tp-size 2
    there_and_back m --tp-size 4 --qkv-linear --kv-size-multiplier 2 --hw-backend trn1
}

@test "padded attention heads are there and gone again" {
    model m --heads 6 --kv 2 --hidden 24 --bias
    there_and_back m --tp-size 4 --qkv-linear --kv-size-multiplier 2 --hw-backend trn1 --pad-attn-heads
    there_and_back m --tp-size 8 --qkv-linear --kv-size-multiplier 4 --hw-backend trn2 --pad-attn-heads
    shard m out --tp-size 8 --qkv-linear --kv-size-multiplier 4 --hw-backend trn2 --pad-attn-heads
    same <(merge out m/config.json --hw-backend trn2 --pad-attn-heads) <(sums m)
    fails_with_one_line 1 'ckpt-merge: .*--pad-attn-heads' \
        "ckpt-unpack out | ckpt-split-qkv --config m/config.json | ckpt-merge --hw-backend trn2 | ckpt-ls"
}

@test "several KV heads a rank, with and without replicas" {
    model m --heads 16 --kv 8 --hidden 32
    there_and_back m --tp-size 2 --qkv-linear
    there_and_back m --tp-size 2
    there_and_back m --tp-size 4 --qkv-linear --kv-size-multiplier 2 --hw-backend trn1
    there_and_back m --tp-size 4 --qkv-linear --kv-size-multiplier 2 --hw-backend trn2
    there_and_back m --tp-size 2 --qkv-linear --kv-size-multiplier 2 --hw-backend trn2
}

@test "the norms of q and k (Qwen3) are whole on every rank" {
    model m --qk-norm --heads 8 --kv 4
    shard m out --tp-size 4
    [[ $(ckpt-unpack out | ckpt-sum | grep -c 'layers.0.self_attn.q_norm.weight') == 4 ]]
    [[ $(ckpt-unpack out | ckpt-sum --tsv | grep 'layers.0.self_attn.q_norm.weight' | cut -f 5 | sort -u | wc -l) == 1 ]]
    there_and_back m --tp-size 4 --pp-size 2
}

@test "rotary buffers in the layers go with their layer" {
    model m --inv-freq layers
    shard m out --tp-size 2 --pp-size 2
    [[ $(ckpt-unpack out | ckpt-sum | grep -c inv_freq) == 4 ]]
    there_and_back m --tp-size 2 --pp-size 2
}

@test "a rotary buffer outside the layers is on every rank, and comes back once" {
    model m --inv-freq model
    shard m out --tp-size 2 --pp-size 2
    [[ $(ckpt-unpack out | ckpt-sum | grep -c model.rotary_emb.inv_freq) == 4 ]]
    same <(merge out m/config.json) <(sums m)
    there_and_back m --tp-size 2 --pp-size 2
}

@test "tied embeddings: lm_head is made from the embedding where there is none" {
    local mode
    model m --tied
    for mode in --by-reference --inline; do
        ckpt-unpack $mode m | ckpt-shard -t 2 -p 2 | ckpt-fuse-qkv | ckpt-pack-pt "out$mode"
        [[ $(ckpt-unpack "out$mode" | ckpt-sum | grep -c lm_head.weight) == 2 ]]
        [[ $(ckpt-unpack "out$mode" | ckpt-sum --tsv | grep -E 'lm_head|embed' | cut -f 5 | sort | uniq -c | awk '{ print $1 }' | xargs) == "2 2" ]]
    done
    diff -r out--inline out--by-reference
    # On the way back it is there as a tensor of its own.
    same <(merge out--inline m/config.json | grep -v lm_head) <(sums m)
    merge out--inline m/config.json | grep -q lm_head
}

@test "tied embeddings: an lm_head that is there is taken, whether it comes before or after the embedding" {
    model m --tied --keep-lm-head
    there_and_back m --tp-size 2 --pp-size 2
    model r --tied --keep-lm-head --last-first
    there_and_back r --tp-size 2 --pp-size 2
    shard m out --tp-size 2
    [[ $(ckpt-unpack out | ckpt-sum | grep -c lm_head.weight) == 2 ]]
}

@test "tied embeddings in a stream that does not say whether an lm_head comes" {
    local head
    for head in "" --keep-lm-head; do
        rm -rf m out
        model m --tied $head
        ckpt-unpack --inline m | python3 "$TESTS/streams.py" forget lm_head | ckpt-shard -t 2 | ckpt-fuse-qkv |
            ckpt-pack-pt out
        [[ $(ckpt-unpack out | ckpt-sum | grep -c lm_head.weight) == 2 ]]
    done
}

@test "without tied embeddings a missing lm_head stays missing" {
    model m --without lm_head
    there_and_back m --tp-size 2
}

@test "a matrix that is not known is whole on every rank, with one warning for all layers" {
    model m --extra model.layers.0.mlp.router.weight:BF16:4,8 --extra model.layers.1.mlp.router.weight:BF16:4,8 \
        --extra model.layers.1.mlp.scale:F32:4 --extra visual.proj:F32:3,5
    ckpt-unpack m | ckpt-shard -t 2 2>err | ckpt-fuse-qkv | ckpt-pack-pt out
    (($(wc -l <err) == 2))
    grep -q 'warning: model.layers.0.mlp.router.weight: .*every tensor rank gets all of it' err
    grep -q 'warning: visual.proj: ' err
    ckpt-unpack m | ckpt-shard -t 2 --quiet 2>err | ckpt-ls >/dev/null
    [[ ! -s err ]]
    same <(merge out m/config.json) <(sums m)
}

@test "dtypes are kept: every tensor of a model of mixed dtypes" {
    model m --dtype F8_E4M3 --extra model.layers.0.input_scale:F32: --extra model.layers.0.steps:I64:3 \
        --extra model.layers.1.mask:BOOL:4 --extra model.layers.1.h:F16:4 --extra model.layers.1.e5:F8_E5M2:4 \
        --extra model.layers.1.d:F64:4 --extra model.layers.1.i:I8:4
    there_and_back m --tp-size 2
    ckpt-unpack m | ckpt-shard -t 2 | ckpt-fuse-qkv | ckpt-pack-xser out
    same <(merge out m/config.json) <(sums m)
    [[ $(merge out m/config.json | cut -f 2 | sort -u | xargs) == "bool float16 float32 float64 float8_e4m3fn float8_e5m2 int64 int8" ]]
}

@test "scalars and empty tensors travel" {
    model m --extra model.layers.0.scale:F32: --extra model.layers.0.none:F32:0 --extra model.none:BF16:0,7
    there_and_back m --tp-size 2 --pp-size 2
    ckpt-unpack m | ckpt-shard -t 2 | ckpt-fuse-qkv | ckpt-pack-xser out
    same <(merge out m/config.json) <(sums m)
}

# ---- merging ----

# Changes the first element of a float32 tensor in a rank file.
damage() { # file, tensor
    "$torch_python" - "$@" <<'END'
import sys, torch
path, name = sys.argv[1:]
state = torch.load(path)
state[name].view(torch.int32).view(-1)[0] ^= 1
torch.save(state, path)
END
}

@test "replicas that differ are an error that names the tensor and the options" {
    model m --heads 8 --kv 2 --hidden 32 --dtype F32
    shard m out --tp-size 4 --qkv-linear --kv-size-multiplier 2 --hw-backend trn1
    damage out/model/dp_rank_00_tp_rank_03_pp_rank_00.pt model.layers.1.self_attn.qkv_proj.weight_v
    fails_with_one_line 1 'layers.1.self_attn.v_proj.weight: tensor ranks 1 and 3 .*--hw-backend .*--kv-size-multiplier' \
        "ckpt-unpack out | ckpt-split-qkv | ckpt-merge --config m/config.json --hw-backend trn1 | ckpt-pack-pt back.pt"
    nothing_at back.pt
    merge out m/config.json --hw-backend trn1 --allow-replica-drift >back 2>err
    grep -q 'warning: model.layers.1.self_attn.v_proj.weight: tensor ranks 1 and 3 differ; rank 1.s is taken' err
    (($(wc -l <err) == 1))
    same back <(sums m)
}

@test "the same inline, where the replica is not kept" {
    model m --heads 8 --kv 2 --hidden 32 --dtype F32
    shard m out --tp-size 4 --qkv-linear --kv-size-multiplier 2 --hw-backend trn1
    damage out/model/dp_rank_00_tp_rank_03_pp_rank_00.pt model.layers.1.self_attn.qkv_proj.weight_v
    fails_with_one_line 1 'tensor ranks 1 and 3 ' \
        "ckpt-unpack --inline out | ckpt-split-qkv | ckpt-merge --config m/config.json --hw-backend trn1 | ckpt-pack-pt back.pt"
    nothing_at back.pt
}

@test "norms that differ between tensor ranks are noticed" {
    model m --dtype F32
    shard m out --tp-size 2
    damage out/model/dp_rank_00_tp_rank_01_pp_rank_00.pt model.layers.0.input_layernorm.weight
    fails_with_one_line 1 'layers.0.input_layernorm.weight: tensor ranks 0 and 1 ' \
        "ckpt-unpack out | ckpt-split-qkv | ckpt-merge --config m/config.json | ckpt-pack-pt back.pt"
    nothing_at back.pt
    not grep hw-backend failed.err # which matters to KV heads only
}

@test "what every pipeline rank holds must be the same there" {
    local mode
    model m --dtype F32 --inv-freq model
    shard m out --tp-size 1 --pp-size 2
    damage out/model/dp_rank_00_tp_rank_00_pp_rank_01.pt model.rotary_emb.inv_freq
    for mode in --by-reference --inline; do
        fails_with_one_line 1 'model.rotary_emb.inv_freq: pipeline ranks 0 and 1 ' \
            "ckpt-unpack $mode out | ckpt-split-qkv | ckpt-merge --config m/config.json | ckpt-pack-pt back.pt"
        nothing_at back.pt
    done
    ckpt-unpack out | ckpt-split-qkv | ckpt-merge --config m/config.json --allow-replica-drift 2>err | ckpt-sum --tsv |
        LC_ALL=C sort | same <(sums m) -
    (($(wc -l <err) == 1))
}

@test "merging for the wrong hardware is noticed" {
    local backend other
    model m --heads 8 --kv 2 --hidden 32
    for backend in trn1 trn2; do
        [[ $backend == trn1 ]] && other=trn2 || other=trn1
        ckpt-unpack m | ckpt-shard -t 8 --qkv-linear -m 4 --hw-backend $backend | ckpt-fuse-qkv --fuse-qkv | ckpt-pack-xser $backend
        fails_with_one_line 1 'k_proj.weight: tensor ranks .*--hw-backend' \
            "ckpt-unpack $backend | ckpt-split-qkv --config m/config.json | ckpt-merge --hw-backend $other | ckpt-pack-pt back.pt"
        nothing_at back.pt
        same <(merge $backend m/config.json --hw-backend $backend) <(sums m)
    done
}

@test "a multiplier or size that the checkpoint does not have is noticed" {
    model m --heads 8 --kv 2 --hidden 32
    shard m out --tp-size 8 --qkv-linear --kv-size-multiplier 4 --hw-backend trn1
    fails_with_one_line 1 'kv_size_multiplier 2 = 4 cannot be divided among 8' \
        "ckpt-unpack out | ckpt-split-qkv | ckpt-merge --config m/config.json --hw-backend trn1 -m 2 | ckpt-ls"
    fails_with_one_line 1 '--tp-size 4 contradicts the stream, where it is 8' \
        "ckpt-unpack out | ckpt-split-qkv | ckpt-merge --config m/config.json --hw-backend trn1 --tp-size 4 | ckpt-ls"
    fails_with_one_line 1 '--pp-size 2 contradicts the stream, where it is 1' \
        "ckpt-unpack out | ckpt-split-qkv | ckpt-merge --config m/config.json --hw-backend trn1 --pp-size 2 | ckpt-ls"
    fails_with_one_line 1 'say which with --hw-backend' \
        "ckpt-unpack out | ckpt-split-qkv | ckpt-merge --config m/config.json | ckpt-ls"
    fails_with_one_line 1 'give the model.s config.json' "ckpt-unpack out | ckpt-split-qkv | ckpt-merge --hw-backend trn1 | ckpt-ls"
    same <(merge out m/config.json --hw-backend trn1 --tp-size 8 --pp-size 1 --kv-size-multiplier 4) <(sums m)
}

@test "what the stream knows of its sharding must not be contradicted" {
    local option
    model m --heads 8 --kv 2 --hidden 32
    for option in "--hw-backend trn2" "-m 2" "--qkv-linear=false" --pad-attn-heads "--compat nxd"; do
        fails_with_one_line 1 'contradicts the stream' \
            "ckpt-unpack m | ckpt-shard -t 8 --qkv-linear -m 4 --hw-backend trn1 | ckpt-fuse-qkv | ckpt-split-qkv | ckpt-merge $option | ckpt-ls"
    done
}

@test "a rank file that is missing, and a tensor that a rank does not have, are errors" {
    model m --layers 4
    shard m out --tp-size 2 --pp-size 2
    mv out/model/dp_rank_00_tp_rank_01_pp_rank_00.pt away
    fails_with_one_line 1 'ckpt-unpack: .*missing: tp 1 pp 0' "ckpt-unpack out | ckpt-split-qkv | ckpt-merge --config m/config.json | ckpt-ls"
    mv away out/model/dp_rank_00_tp_rank_01_pp_rank_00.pt
    "$torch_python" -c '
import torch
path = "out/model/dp_rank_00_tp_rank_01_pp_rank_00.pt"
state = torch.load(path)
del state["model.layers.1.mlp.down_proj.weight"]
torch.save(state, path)'
    fails_with_one_line 1 'model.layers.1.mlp.down_proj.weight: tensor rank 1 has none' \
        "ckpt-unpack out | ckpt-split-qkv | ckpt-merge --config m/config.json | ckpt-pack-pt back.pt"
    nothing_at back.pt
}

@test "a tensor that is there twice is an error" {
    local name=model.layers.1.mlp.gate_proj.weight
    model m
    twice="python3 $TESTS/streams.py twice"
    fails_with_one_line 1 "$name: .*twice" "ckpt-unpack --inline m | $twice $name | ckpt-pack-pt out.pt"
    fails_with_one_line 1 "gate_proj.weight: .*twice" \
        "ckpt-unpack --inline m | $twice $name | ckpt-shard -t 2 | ckpt-fuse-qkv | ckpt-pack-xser out"
    fails_with_one_line 1 "$name: .*twice" \
        "ckpt-unpack --inline m | $twice $name | ckpt-shard -t 2 | ckpt-merge | ckpt-pack-pt out.pt"
    fails_with_one_line 1 "model.norm.weight: .*twice" \
        "ckpt-unpack --inline m | $twice model.norm.weight | ckpt-shard -t 2 | ckpt-fuse-qkv | ckpt-pack-pt out"
    nothing_at out.pt
    nothing_at out
}

@test "sharding what is sharded, and merging what is not, are errors that say what to do" {
    model m
    fails_with_one_line 1 'sharded already .*ckpt-merge before' "ckpt-unpack m | ckpt-shard -t 2 | ckpt-shard -t 2 | ckpt-ls"
    fails_with_one_line 1 'not sharded' "ckpt-unpack m | ckpt-merge | ckpt-ls"
    fails_with_one_line 1 'is fused; put ckpt-split-qkv before ckpt-merge' "ckpt-unpack m | ckpt-shard -t 2 | ckpt-fuse-qkv | ckpt-merge | ckpt-ls"
    fails_with_one_line 1 'is fused; put ckpt-split-qkv before ckpt-shard' \
        "ckpt-unpack m | ckpt-fuse-qkv | ckpt-shard -t 2 | ckpt-ls"
}

@test "q, k or v that is missing cannot be fused" {
    model m --without layers.1.self_attn.k_proj
    fails_with_one_line 1 'layers.1.self_attn.k_proj.weight: is missing for self_attn.qkv_proj.weight_qkv' \
        "ckpt-unpack m | ckpt-shard -t 1 --qkv-linear | ckpt-fuse-qkv --fuse-qkv | ckpt-pack-pt out"
    nothing_at out
    model g --heads 4 --kv 2
    fails_with_one_line 1 '4 heads and 2 KV heads needs --qkv-linear' "ckpt-unpack g | ckpt-shard -t 1 | ckpt-fuse-qkv --fuse-qkv | ckpt-ls"
}

@test "fewer KV heads than heads are not fused without --qkv-linear, also where no config says so" {
    model m --heads 4 --kv 2 --bias
    ckpt-unpack m | ckpt-shard -t 2 | ckpt-pack-pt out
    fails_with_one_line 1 'layers.0.self_attn.q_proj.weight has 16 rows and .*k_proj.weight has 8: .* needs --qkv-linear' \
        "ckpt-unpack out | ckpt-fuse-qkv --fuse-qkv | ckpt-ls"
}

@test "a config.json above the checkpoint's directory is another model's and not used" {
    model m --heads 8 --kv 2 --hidden 32
    ckpt-unpack m | ckpt-shard -t 8 -m 4 --hw-backend trn1 --qkv-linear | ckpt-fuse-qkv --fuse-qkv | ckpt-pack-xser out
    jq '.num_attention_heads = 16 | .num_key_value_heads = 4' m/config.json >config.json
    fails_with_one_line 1 'give the model.s config.json' \
        "ckpt-unpack out | ckpt-split-qkv | ckpt-merge --hw-backend trn1 | ckpt-pack-pt back.pt"
    nothing_at back.pt
}

@test "one layout converts to another without a whole model in between: tp 8 to tp 2" {
    model m --heads 8 --kv 2 --hidden 32 --layers 4
    ckpt-unpack m | ckpt-shard -t 8 -p 4 --qkv-linear -m 4 --hw-backend trn1 | ckpt-fuse-qkv --fuse-qkv | ckpt-pack-xser eight
    ckpt-unpack eight | ckpt-split-qkv --config m/config.json | ckpt-merge --hw-backend trn1 |
        ckpt-shard -t 2 -p 2 --qkv-linear | ckpt-fuse-qkv | ckpt-pack-xser two
    ckpt-unpack m | ckpt-shard -t 2 -p 2 --qkv-linear | ckpt-fuse-qkv | ckpt-pack-xser direct
    diff -r two direct
}
