# The conversions of tests/golden, tensor by tensor, and back.

load convert_helpers

model_of() { # case
    echo "$golden/models/${1%%-hf-*}"
}

arguments() { # case
    read -ra args <"$golden/cases/$1.args"
}

hf_cases() {
    local file
    for file in "$golden"/cases/*-hf-*.args; do
        basename "$file" .args
    done
}

forward() { # case, whether as xser, output
    arguments "$1"
    checkpoint_converter.sh --convert_from_full_state "${args[@]}" --save_xser "$2" \
        --input_dir "$(model_of "$1")/pytorch_model.bin" --output_dir "$3"
}

backward() { # case, whether from xser, input, output
    arguments "$1"
    checkpoint_converter.sh --convert_to_full_state "${args[@]}" --load_xser "$2" \
        --config "$(model_of "$1")/config.json" --input_dir "$3" --output_dir "$4"
}

check_case() { # case
    local model xser
    model=$(model_of "$1")
    for xser in True False; do
        forward "$1" $xser "$xser"
        same <(sums "$xser") <(sorted "$golden/cases/$1.tsv")
        backward "$1" $xser "$xser/model" "$xser-back"
        same <(sums "$xser-back/checkpoint.pt") <(sorted "$model/tensors.tsv")
    done
}

@test "GQA, tp 2, without qkv_linear: q, k, v are cut contiguously and stay separate" {
    check_case llama-gqa-hf-trn1-tp2-pp1
}

@test "GQA, tp 2, pp 2, qkv_linear: weight_q, weight_k, weight_v" {
    check_case llama-gqa-hf-trn1-tp2-pp2-qkvlinear
}

@test "GQA, tp 8, kv_size_multiplier 4 on trn1: near ranks hold different KV heads, fused" {
    check_case llama-gqa-hf-trn1-tp8-pp2-kv4-qkvlinear-fused
}

@test "GQA, tp 8, pp 4, kv_size_multiplier 4 on trn1, not fused" {
    check_case llama-gqa-hf-trn1-tp8-pp4-kv4-qkvlinear
}

@test "GQA, tp 8, kv_size_multiplier 4 on trn2: a KV head is on adjacent ranks" {
    check_case llama-gqa-hf-trn2-tp8-pp1-kv4-qkvlinear
}

@test "--compat nxd on trn2 gives the NxD script's own layout" {
    check_case llama-gqa-hf-trn2-tp8-pp1-kv4-qkvlinear-compat
}

@test "two KV heads a rank, tp 2" {
    check_case llama-gqa16-hf-trn1-tp2-pp1-qkvlinear
}

@test "virtual pipeline stages go round the pipeline ranks" {
    check_case llama-gqa16-hf-trn1-tp4-pp2-qkvlinear-vpp2
}

@test "kv_size_multiplier 2 at tp 8 and pp 2" {
    check_case llama-gqa16-hf-trn1-tp8-pp2-kv2-qkvlinear
}

@test "tp 16 on trn2, fused, with kv_size_multiplier 4" {
    check_case llama-gqa16-hf-trn2-tp16-pp2-kv4-qkvlinear-fused
}

@test "MHA with fuse_qkv alone: qkv_proj.weight" {
    check_case llama-mha-hf-trn1-tp2-pp1-fused
}

@test "five layers on three pipeline ranks: the last ones hold one more" {
    check_case llama-mha-hf-trn1-tp4-pp3
}

@test "pipeline cuts name the last layer of each stage" {
    check_case llama-mha-hf-trn2-tp4-pp3-cuts
}

@test "PyTorch reads every output as the golden tables say, also with weights_only" {
    local name xser outputs=()
    for name in $(hf_cases); do
        for xser in True False; do
            forward "$name" $xser "$name-$xser"
            outputs+=("$name-$xser")
            sed "s/^/$name-$xser\t/" "$golden/cases/$name.tsv"
        done
    done >expected
    ((${#outputs[@]} == 26))
    "$torch_python" "$TESTS/torch_digest.py" "${outputs[@]}" >seen
    same <(sorted seen) <(sorted expected)
    "$torch_python" "$TESTS/archive_check.py" "${outputs[@]}"
}

@test "PyTorch reads checkpoint.pt as the model that was converted, also with weights_only" {
    local name outputs=()
    for name in $(hf_cases); do
        forward "$name" True "$name"
        backward "$name" True "$name" "$name-back"
        outputs+=("$name-back/checkpoint.pt")
        sed "s|^|$name-back/checkpoint.pt\t|" "$(model_of "$name")/tensors.tsv"
    done >expected
    ((${#outputs[@]} == 13))
    "$torch_python" "$TESTS/torch_digest.py" "${outputs[@]}" >seen
    same <(sorted seen) <(sorted expected)
    "$torch_python" "$TESTS/archive_check.py" "${outputs[@]}"
}

@test "an output has the marker files, the rank files of every rank and nothing else" {
    forward llama-gqa-hf-trn1-tp2-pp2-qkvlinear True xser
    forward llama-gqa-hf-trn1-tp2-pp2-qkvlinear False plain
    [[ $(<xser/checkpoint)$(<xser/done)$(<plain/checkpoint)$(<plain/done) == 1111 ]]
    same <(find plain | LC_ALL=C sort) - <<'END'
plain
plain/checkpoint
plain/done
plain/model
plain/model/dp_rank_00_tp_rank_00_pp_rank_00.pt
plain/model/dp_rank_00_tp_rank_00_pp_rank_01.pt
plain/model/dp_rank_00_tp_rank_01_pp_rank_00.pt
plain/model/dp_rank_00_tp_rank_01_pp_rank_01.pt
END
    same <(find xser -not -name 'tensor_*.pt' | LC_ALL=C sort) - <<'END'
xser
xser/checkpoint
xser/done
xser/model
xser/model/dp_rank_00_tp_rank_00_pp_rank_00.pt
xser/model/dp_rank_00_tp_rank_00_pp_rank_00.pt.info.pt
xser/model/dp_rank_00_tp_rank_00_pp_rank_00.pt.tensors
xser/model/dp_rank_00_tp_rank_00_pp_rank_01.pt
xser/model/dp_rank_00_tp_rank_00_pp_rank_01.pt.info.pt
xser/model/dp_rank_00_tp_rank_00_pp_rank_01.pt.tensors
xser/model/dp_rank_00_tp_rank_01_pp_rank_00.pt
xser/model/dp_rank_00_tp_rank_01_pp_rank_00.pt.info.pt
xser/model/dp_rank_00_tp_rank_01_pp_rank_00.pt.tensors
xser/model/dp_rank_00_tp_rank_01_pp_rank_01.pt
xser/model/dp_rank_00_tp_rank_01_pp_rank_01.pt.info.pt
xser/model/dp_rank_00_tp_rank_01_pp_rank_01.pt.tensors
END
}

@test "what a trainer left on disk converts back to the model" {
    checkpoint_converter.sh --convert_to_full_state --hw_backend trn1 --tp_size 2 --pp_size 2 --qkv_linear True \
        --fuse_qkv True --load_xser True --config "$golden/models/llama-gqa/config.json" \
        --input_dir "$golden/xser-example/model" --output_dir back
    same <(sums back) <(sorted "$golden/models/llama-gqa/tensors.tsv")
}

@test "what a trainer left on disk converts back when the output is the directory above it, too" {
    checkpoint_converter.sh --convert_to_full_state --hw_backend trn1 \
        --config "$golden/models/llama-gqa/config.json" \
        --input_dir "$golden/xser-example" --output_dir back
    same <(sums back) <(sorted "$golden/models/llama-gqa/tensors.tsv")
}

@test "xser converts to plain rank files and back to xser without a change" {
    forward llama-gqa-hf-trn1-tp8-pp4-kv4-qkvlinear True a
    checkpoint_converter.sh --convert_from_xser --hw_backend trn1 --input_dir a --output_dir b \
        --config "$golden/models/llama-gqa/config.json"
    checkpoint_converter.sh --convert_to_xser --hw_backend trn1 --input_dir b --output_dir c \
        --config "$golden/models/llama-gqa/config.json"
    same <(sums b) <(sums a)
    diff -r a c
}

# The filter options of a case, for pipelines made by hand.
filter_options() { # case
    arguments "$1"
    shard=() fuse=()
    local i option value
    for ((i = 0; i < ${#args[@]}; i += 2)); do
        option=${args[i]//_/-} value=${args[i + 1]}
        case $option in
        --model-style) ;;
        --fuse-qkv | --coalesce-qkv) fuse+=("$option=$value") ;;
        --qkv-linear | --pad-attn-heads) shard+=("$option=$value") ;;
        *) shard+=("$option" "$value") ;;
        esac
    done
}

there_and_back() { # case, --inline or --by-reference
    filter_options "$1"
    ckpt-unpack "$2" "$(model_of "$1")" | ckpt-shard "${shard[@]}" | ckpt-fuse-qkv "${fuse[@]}" |
        ckpt-split-qkv | ckpt-merge | ckpt-sum --tsv
}

@test "shard, fuse, split, merge is the identity for every case, by reference" {
    local name
    for name in $(hf_cases); do
        same <(there_and_back "$name" --by-reference | LC_ALL=C sort) <(sorted "$(model_of "$name")/tensors.tsv")
    done
}

@test "shard, fuse, split, merge is the identity for every case, inline" {
    local name
    for name in $(hf_cases); do
        same <(there_and_back "$name" --inline | LC_ALL=C sort) <(sorted "$(model_of "$name")/tensors.tsv")
    done
}

@test "the identity keeps the order of the tensors" {
    local name
    for name in $(hf_cases); do
        filter_options "$name"
        ckpt-unpack "$(model_of "$name")" | ckpt-ls --json >before
        ckpt-unpack "$(model_of "$name")" | ckpt-shard "${shard[@]}" | ckpt-fuse-qkv "${fuse[@]}" |
            ckpt-split-qkv | ckpt-merge | ckpt-ls --json | same - before
    done
}

@test "an inline pipeline writes the same files as one by reference" {
    local name
    for name in llama-gqa-hf-trn1-tp8-pp2-kv4-qkvlinear-fused llama-mha-hf-trn1-tp4-pp3; do
        filter_options "$name"
        for mode in --inline --by-reference; do
            ckpt-unpack $mode "$(model_of "$name")" | ckpt-shard "${shard[@]}" | ckpt-fuse-qkv "${fuse[@]}" |
                ckpt-pack-xser "$name$mode"
        done
        diff -r "$name--inline" "$name--by-reference"
    done
}
