# Every command of the old manual works with checkpoint_converter.sh in place of "python3 checkpoint_converter.py". The
# paths lead into a small world of the test's own; the models there have the layers and proportions that the commands ask
# for (32 layers, 8 KV heads for tp 8) and small dimensions.

load convert_helpers
load hub/prelude

setup_file() {
    export WORLD=$BATS_FILE_TMPDIR
    model "$WORLD/gqa" --layers 32 --hidden 64 --heads 16 --kv 8
    model "$WORLD/hub/meta-llama/Llama-2-7b-hf" --layers 32 --hidden 32 --heads 8 --kv 8
    ckpt-unpack "$WORLD/gqa" | ckpt-pack-pt "$WORLD/gqa.bin"
    # what a trainer has left, in both styles
    for style in hf megatron; do
        checkpoint_converter.sh --model_style $style --hw_backend trn1 --input_dir "$WORLD/gqa" --output_dir "$WORLD/$style" \
            --save_xser True --tp_size 8 --pp_size 4 --qkv_linear True --convert_from_full_state
    done
}

teardown() {
    stop_hub
}

put() { # file or directory, where it is in the world
    mkdir -p "$(dirname "$world$2")"
    cp -r "$1" "$world$2"
}

old_command() { # which: runs the n-th command of the list in a world of its own
    world=$BATS_TEST_TMPDIR
    local line
    line=$(grep -v '^#' "$TESTS/old_commands.txt" | sed -n "$1p")
    [[ -n $line ]]
    line=$(sed -E "s#^python3 checkpoint_converter.py#checkpoint_converter.sh#; s#~/#/home/me/#g; s# /# $world/#g" <<<"$line")
    eval "$line"
}

@test "HF to NxDT, hf style" {
    world=$BATS_TEST_TMPDIR
    put "$WORLD/gqa.bin" /home/ubuntu/pretrained_llama_3_8B_hf/pytorch_model.bin
    put "$WORLD/gqa/config.json" /home/ubuntu/pretrained_llama_3_8B_hf/config.json
    old_command 1
    same <(sums "$world/home/ubuntu/converted_hf_style_hf_to_nxdt_tp8pp4") <(sums "$WORLD/hf")
    [[ -e $world/home/ubuntu/converted_hf_style_hf_to_nxdt_tp8pp4/model/dp_rank_00_tp_rank_07_pp_rank_03.pt.tensors ]]
}

@test "NxDT to HF, hf style" {
    world=$BATS_TEST_TMPDIR
    put "$WORLD/hf/model" "/home/me/examples/nemo_experiments/hf_llama3_8B_SFT/2024-07-19_23-07-40/checkpoints/hf_llama3_8B--step=5-consumed_samples=160.0.ckpt/model"
    put "$WORLD/gqa/config.json" /home/me/config.json
    old_command 2
    same <(sums "$world/home/me/converted_hf_style_nxdt_to_hf_tp8pp4/checkpoint.pt") <(sums "$WORLD/gqa")
}

@test "HF to NxDT, Megatron style" {
    world=$BATS_TEST_TMPDIR
    put "$WORLD/gqa.bin" /home/me/megatron-tp8pp4-nxdt-to-hf4/checkpoint.pt
    put "$WORLD/gqa/config.json" /home/me/llama_gqa/config.json
    old_command 3
    same <(sums "$world/home/me/meg_nxdt_hf3_nxdt3") <(sums "$WORLD/megatron")
    sums "$WORLD/megatron" | grep -q 'language_model.encoder.layers.31.self_attention.key_value.weight'
}

@test "NxDT to HF, Megatron style" {
    world=$BATS_TEST_TMPDIR
    put "$WORLD/megatron/model" "/home/me/examples/nemo_experiments/megatron_llama/2024-07-23_21-07-30/checkpoints/megatron_llama--step=5-consumed_samples=5120.0.ckpt/model"
    put "$WORLD/gqa/config.json" /home/me/llama_gqa/config.json
    old_command 4
    same <(sums "$world/home/me/megatron-tp8pp4-nxdt-to-hf4/checkpoint.pt") <(sums "$WORLD/gqa")
}

@test "the manual's example, with the conversion given twice" {
    world=$BATS_TEST_TMPDIR
    put "$WORLD/gqa.bin" /hf/checkpoint/pytorch_model.bin
    put "$WORLD/gqa/config.json" /path/to/config.json
    old_command 5
    same <(sums "$world/nxdt/checkpoint") <(sums "$WORLD/hf")
}

@test "a model by its name on the Hub gives the same bytes as from a directory" {
    world=$BATS_TEST_TMPDIR
    export HF_HOME=$world/cache HF_HUB_CACHE=$world/cache/hub
    put "$WORLD/hub/meta-llama/Llama-2-7b-hf/config.json" /path/to/config.json
    MODELS=$WORLD/hub start_hub
    old_command 6
    checkpoint_converter.sh --hw_backend trn1 --input_dir "$WORLD/hub/meta-llama/Llama-2-7b-hf" --output_dir "$world/direct" \
        --save_xser True --tp_size 8 --pp_size 4 --qkv_linear False --convert_from_full_state
    diff -r "$world/path/to/output" "$world/direct"
}
