# Megatron style: the golden cases, and the attention that its model computes from them.

load convert_helpers

model_of() { # case
    echo "$golden/models/${1%%-megatron-*}"
}

check_case() { # case
    local model xser
    model=$(model_of "$1")
    read -ra args <"$golden/cases/$1.args"
    for xser in True False; do
        checkpoint_converter.sh --convert_from_full_state "${args[@]}" --save_xser $xser \
            --input_dir "$model/pytorch_model.bin" --output_dir "$xser"
        same <(sums "$xser") <(sorted "$golden/cases/$1.tsv")
        checkpoint_converter.sh --convert_to_full_state "${args[@]}" --load_xser $xser \
            --config "$model/config.json" --input_dir "$xser/model" --output_dir "$xser-back"
        same <(sums "$xser-back/checkpoint.pt") <(sorted "$model/tensors.tsv")
    done
}

@test "Megatron GQA: query and key_value" {
    check_case llama-gqa-megatron-trn1-tp2-pp2-qkvlinear
}

@test "Megatron GQA with two KV heads a rank: key_value has its rows per head" {
    check_case llama-gqa16-megatron-trn1-tp2-pp1-qkvlinear
}

@test "Megatron GQA with --compat nxd: key_value has all k rows, then all v rows" {
    check_case llama-gqa16-megatron-trn1-tp2-pp1-qkvlinear-compat
}

@test "Megatron MHA: query_key_value has its rows per head" {
    check_case llama-mha-megatron-trn1-tp2-pp3
}

@test "Megatron MHA with --compat nxd: query_key_value has all q, all k, all v rows" {
    check_case llama-mha-megatron-trn1-tp2-pp3-compat
}

@test "PyTorch reads every Megatron output as the golden tables say, also with weights_only" {
    local file name outputs=()
    for file in "$golden"/cases/*-megatron-*.args; do
        name=$(basename "$file" .args)
        read -ra args <"$file"
        checkpoint_converter.sh --convert_from_full_state "${args[@]}" --save_xser True \
            --input_dir "$(model_of "$name")/pytorch_model.bin" --output_dir "$name"
        outputs+=("$name")
        sed "s/^/$name\t/" "$golden/cases/$name.tsv"
    done >expected
    ((${#outputs[@]} == 5))
    "$torch_python" "$TESTS/torch_digest.py" "${outputs[@]}" >seen
    same <(sorted seen) <(sorted expected)
}

attention() {
    "$torch_python" "$TESTS/attention.py" "$@"
}

@test "Megatron ranks, read as [heads, 3, head_dim] and [KV heads, 2, head_dim], compute the model's attention" {
    attention style=megatron,q=8,kv=8,linear=0,tp=2 style=megatron,q=8,kv=8,linear=0,tp=8,pp=2,bias=1 \
        style=megatron,q=8,kv=2,tp=2,xser=1 style=megatron,q=16,kv=4,tp=2,bias=1 style=megatron,q=16,kv=8,tp=1 \
        style=megatron,q=8,kv=4,hd=6,hidden=20,tp=2,backend=trn2
}

@test "Megatron ranks in the NxD script's own layout do not, with more than one head a rank" {
    attention --expect-different style=megatron,nxd=1,q=8,kv=8,linear=0,tp=2 style=megatron,nxd=1,q=16,kv=4,tp=2
}

@test "Megatron has no replicated KV heads, and its GQA needs qkv_linear" {
    local common="checkpoint_converter.sh --convert_from_full_state --model_style megatron --hw_backend trn1"
    common+=" --input_dir $golden/models/llama-gqa/pytorch_model.bin --output_dir out"
    fails_with_one_line 1 'kv.size.multiplier' "$common --tp_size 8 --kv_size_multiplier 4 --qkv_linear True"
    fails_with_one_line 1 'qkv.linear' "$common --tp_size 2 --qkv_linear False"
    nothing_at out
}
