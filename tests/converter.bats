# checkpoint_converter.sh: its options and messages, and the conversions that are its own.

load convert_helpers
load hub/prelude

teardown() {
    stop_hub
}

setup_file() {
    export MODEL=$BATS_FILE_TMPDIR/model
    model "$MODEL" --layers 4 --hidden 32 --heads 4 --kv 2
}

convert() { # option...: with what every conversion needs
    checkpoint_converter.sh --hw_backend trn1 "$@"
}

to_nxdt() { # output, option...
    convert --convert_from_full_state --input_dir "$MODEL" --output_dir "$@"
}

usage() { # pattern, option...: wrong usage: status 2 and one line
    fails_with_one_line 2 "^checkpoint_converter.sh: $1.*--help" "checkpoint_converter.sh $2"
}

@test "booleans are True or False in any case, 1/0, yes/no, or nothing" {
    for value in True true TRUE 1 yes ''; do
        to_nxdt "out-$value" --save_xser $value
        [[ -d out-$value/model/dp_rank_00_tp_rank_00_pp_rank_00.pt.tensors ]]
    done
    for value in False fAlse 0 no; do
        to_nxdt "out-$value" --save_xser $value
        [[ ! -d out-$value/model/dp_rank_00_tp_rank_00_pp_rank_00.pt.tensors ]]
    done
    usage "--save_xser takes True or False, not 'maybe'" "--save_xser maybe"
}

@test "options are --name value or --name=value, with _ or -, and the last one counts" {
    to_nxdt a --tp_size 2 --pp_size 2
    to_nxdt b --tp_size=1 --tp-size=2 --pp-size 2
    diff -r a b
}

@test "a conversion given twice is given once, and two kinds exclude each other" {
    to_nxdt a --convert_from_full_state True
    usage '--convert_from_full_state and --convert_to_full_state exclude each other' \
        "--hw_backend trn1 --convert_to_full_state --convert_from_full_state --input_dir a --output_dir b"
}

@test "wrong usage is one line that says what is missing" {
    usage 'which conversion is missing' "--hw_backend trn1 --input_dir $MODEL --output_dir o"
    usage '--hw_backend is missing: trn1 or trn2' "--convert_from_full_state --input_dir $MODEL --output_dir o"
    usage "--hw_backend takes one of trn1, trn2, not 'trn3'" "--hw_backend trn3"
    usage '--output_dir is missing' "--hw_backend trn1 --convert_from_full_state --input_dir $MODEL"
    usage '--input_dir is missing' "--hw_backend trn1 --convert_from_full_state --output_dir o"
    usage 'unknown option --frobnicate' "--frobnicate 1"
    usage "unexpected argument 'model'" "model"
    usage '--tp_size needs a value' "--tp_size"
    usage "--tp_size takes a whole number, not 'two'" "--tp_size two"
    usage '--save_format safetensors is for whole models' \
        "--hw_backend trn1 --convert_from_full_state --input_dir $MODEL --output_dir o --save_format safetensors"
    [[ ! -e o ]]
}

@test "a missing input, a missing config and sizes that do not fit are one line each, and leave nothing" {
    local run='checkpoint_converter.sh --hw_backend trn1 --convert_from_full_state --output_dir out'
    fails_with_one_line 1 '^checkpoint_converter.sh: nowhere: no such file or directory' "$run --input_dir nowhere"
    mkdir bare && cp "$MODEL/model.safetensors" bare
    fails_with_one_line 1 "^checkpoint_converter.sh: bare/config.json: not there; give the model's config.json with --config" "$run --input_dir bare"
    fails_with_one_line 1 '^checkpoint_converter.sh: missing.json: cannot read it' "$run --input_dir bare --config missing.json"
    fails_with_one_line 1 '^ckpt-shard: --n-layers 5 is wrong: the checkpoint has 4 layers' "$run --input_dir $MODEL --n_layers 5"
    fails_with_one_line 1 '^ckpt-shard: 2 KV heads cannot be divided among 4 tensor ranks' "$run --input_dir $MODEL --tp_size 4"
    fails_with_one_line 1 '^ckpt-shard: 4 layers are fewer than the 5 pipeline stages' "$run --input_dir $MODEL --pp_size 5"
    fails_with_one_line 1 'ep_size above 1 .expert parallelism. is not available yet' "$run --input_dir $MODEL --ep_size 2"
    nothing_at out
}

@test "--input_dir wins over --hf_model_name, with a warning" {
    run --separate-stderr to_nxdt out --hf_model_name acme/other
    [[ $status == 0 && $stderr == *'warning: --hf_model_name is ignored'* ]]
    [[ -e out/done ]]
}

@test "--load_xser that contradicts the files is a warning, and the files count" {
    to_nxdt xser --save_xser
    to_nxdt plain
    for input in xser:False plain:True; do
        run --separate-stderr convert --convert_to_full_state --input_dir "${input%:*}" --load_xser "${input#*:}" \
            --config "$MODEL/config.json" --output_dir "back-${input%:*}"
        [[ $status == 0 && $stderr == *'warning: --load_xser is '* ]]
        same <(sums "back-${input%:*}/checkpoint.pt") <(sums "$MODEL")
    done
}

@test "sizes on the way back are checked against the files" {
    to_nxdt out --tp_size 2 --pp_size 2
    local run="checkpoint_converter.sh --hw_backend trn1 --convert_to_full_state --input_dir out --config $MODEL/config.json --output_dir back"
    fails_with_one_line 1 '^ckpt-merge: --tp-size 4 contradicts the stream, where it is 2' "$run --tp_size 4"
    fails_with_one_line 1 '^ckpt-merge: --pp-size 1 contradicts the stream, where it is 2' "$run --pp_size 1"
    nothing_at back
    $run --tp_size 2 --pp_size 2
}

@test "--dry-run shows the pipeline, which does the same when it is pasted" {
    to_nxdt "with space" --tp_size 2 --qkv_linear --fuse_qkv --save_xser --dry-run >pipeline
    [[ ! -e "with space" ]]
    bash -e pipeline
    to_nxdt direct --tp_size 2 --qkv_linear --fuse_qkv --save_xser
    diff -r "with space" direct
}

@test "--verify converts back and compares, and finds a difference" {
    run --separate-stderr to_nxdt out --tp_size 2 --qkv_linear --verify
    [[ $status == 0 && $stderr == *'out: verified, 39 tensors are the same' ]]
    run --separate-stderr convert --convert_to_full_state --input_dir out --config "$MODEL/config.json" --output_dir back --verify
    [[ $status == 0 && $stderr == *'verified, 39 tensors are the same' ]]
    # a packer that damages what it writes
    local programs
    programs=$(dirname "$(command -v ckpt-ls)")
    mkdir bin
    for program in "$programs"/ckpt-*; do ln -s "$program" bin; done
    cp "$programs/checkpoint_converter.sh" bin
    rm bin/ckpt-pack-pt
    printf '#!/bin/sh\n%s "$@" && printf X | dd of=damaged/model/dp_rank_00_tp_rank_01_pp_rank_00.pt bs=1 seek=4096 conv=notrunc status=none\n' \
        "$programs/ckpt-pack-pt" >bin/ckpt-pack-pt
    chmod +x bin/ckpt-pack-pt
    run --separate-stderr bin/checkpoint_converter.sh --hw_backend trn1 --convert_from_full_state --input_dir "$MODEL" \
        --output_dir damaged --tp_size 2 --verify
    [[ $status == 1 && $stderr == *'damaged: verification failed'* ]]
}

@test "--convert_from_xser and --convert_to_xser change the serialization only, of every kind of rank file" {
    to_nxdt xser --tp_size 2 --pp_size 2 --save_xser
    to_nxdt plain --tp_size 2 --pp_size 2
    convert --convert_from_xser --input_dir xser --output_dir from
    convert --convert_to_xser --input_dir plain/model --output_dir to
    diff -r from plain
    diff -r to xser
    # older names: tp_rank_TT_pp_rank_PP (xser), and a directory of that name
    mkdir -p old older
    for file in xser/model/dp_rank_00_*; do
        name=${file##*/dp_rank_00_}
        cp -r "$file" "old/${name/.pt/}"
    done
    for file in plain/model/dp_rank_00_*.pt; do
        name=${file##*/dp_rank_00_}
        mkdir "older/${name%.pt}" && cp "$file" "older/${name%.pt}/checkpoint.pt"
    done
    convert --convert_from_xser --input_dir old --output_dir from-old
    convert --convert_to_xser --input_dir older --output_dir to-older
    diff -r from-old plain
    diff -r to-older xser
}

@test "--convert_sharded goes from one layout to another: sizes, hardware, style, serialization" {
    to_nxdt one --tp_size 4 --pp_size 2 --kv_size_multiplier 2 --qkv_linear --save_xser
    checkpoint_converter.sh --hw_backend trn2 --convert_sharded --from_hw_backend trn1 --input_dir one --output_dir two \
        --config "$MODEL/config.json" --tp_size 4 --pp_size 4 --kv_size_multiplier 4 --qkv_linear --fuse_qkv --verify --quiet 2>err ||
        true
    # g = 2 query heads cannot be divided among 4 replicas
    grep -q 'cannot be divided among its 4 replicas' err
    checkpoint_converter.sh --hw_backend trn2 --convert_sharded --from_hw_backend trn1 --input_dir one --output_dir two \
        --config "$MODEL/config.json" --tp_size 4 --pp_size 4 --kv_size_multiplier 2 --qkv_linear --fuse_qkv
    checkpoint_converter.sh --hw_backend trn2 --convert_from_full_state --input_dir "$MODEL" --output_dir direct \
        --tp_size 4 --pp_size 4 --kv_size_multiplier 2 --qkv_linear --fuse_qkv
    diff -r two direct
    checkpoint_converter.sh --hw_backend trn1 --convert_sharded --from_hw_backend trn2 --model_style megatron --input_dir two \
        --output_dir three --config "$MODEL/config.json" --tp_size 2 --qkv_linear --save_xser
    to_nxdt megatron --model_style megatron --tp_size 2 --qkv_linear --save_xser
    diff -r three megatron
    checkpoint_converter.sh --hw_backend trn1 --convert_sharded --input_dir three --output_dir four \
        --config "$MODEL/config.json" --tp_size 4 --pp_size 2 --kv_size_multiplier 2 --qkv_linear --save_xser
    diff -r four one
}

@test "re-sharding from the wrong hardware is found out" {
    to_nxdt one --tp_size 4 --kv_size_multiplier 2 --qkv_linear
    fails_with_one_line 1 'should hold the same and do not; probably --hw-backend' \
        "checkpoint_converter.sh --hw_backend trn1 --convert_sharded --from_hw_backend trn2 --input_dir one --output_dir two --config $MODEL/config.json --tp_size 2"
    nothing_at two
}

@test "an NxDT training configuration gives what flags leave open, and a flag that contradicts it is a warning" {
    cat >train.yaml <<'EOF'
name: hf_llama
trainer:
  max_steps: ${multiply:2,3}
distributed_strategy:
  tensor_model_parallel_size: 4
  pipeline_model_parallel_size: 3
  virtual_pipeline_model_parallel_size: 1
  kv_replicator: 2
  pipeline_cuts: ['model.layers.0', 'model.layers.2']
model:
  encoder_seq_length: ${data.seq_length}
  num_layers: 4
  hidden_size: 32
  num_attention_heads: 4
  num_kv_heads: 2
  qkv_linear: True
  fuse_qkv: True
EOF
    convert --convert_from_full_state --input_dir "$MODEL" --nxdt_yaml_config train.yaml --output_dir yaml --save_xser
    to_nxdt flags --save_xser --tp_size 4 --pp_size 3 --kv_size_multiplier 2 --pipeline_cuts model.layers.0,model.layers.2 \
        --qkv_linear --fuse_qkv
    diff -r yaml flags
    run --separate-stderr convert --convert_from_full_state --input_dir "$MODEL" --nxdt_yaml_config train.yaml --output_dir other \
        --pp_size 2 --pipeline_cuts model.layers.1
    [[ $status == 0 && $stderr == *'warning: --pp_size 2 contradicts train.yaml, which says 3'* ]]
    [[ ! -e other/model/dp_rank_00_tp_rank_00_pp_rank_02.pt ]]
    sed 's/num_attention_heads: 4/num_attention_heads: ${heads}/' train.yaml >expression.yaml
    fails_with_one_line 1 "^ckpt-config: expression.yaml: model.num_attention_heads is the expression '..heads.'" \
        "checkpoint_converter.sh --hw_backend trn1 --convert_from_full_state --input_dir $MODEL --nxdt_yaml_config expression.yaml --output_dir no"
    printf 'a: [1\n' >broken.yaml
    fails_with_one_line 1 '^ckpt-config: broken.yaml: not valid YAML' \
        "checkpoint_converter.sh --hw_backend trn1 --convert_from_full_state --input_dir $MODEL --nxdt_yaml_config broken.yaml --output_dir no"
}

@test "the model in a training checkpoint is found, and prefixes that trainers add are stripped" {
    ckpt-unpack "$MODEL" | ckpt-pack-pt model.pt
    "$torch_python" - <<'EOF'
import torch
sd = torch.load("model.pt")
torch.save({"state_dict": {"model." + k: v for k, v in sd.items()}, "epoch": 3, "optimizer_states":
            [{"model.layers.0.input_layernorm.weight": {"exp_avg": torch.zeros(32)}}]}, "lightning.ckpt")
torch.save({"module." + k: v for k, v in sd.items()}, "ddp.pt")
torch.save({"model": sd, "ema": sd}, "two.pt")
EOF
    for file in lightning.ckpt ddp.pt; do
        convert --convert_from_full_state --input_dir $file --config "$MODEL/config.json" --output_dir "out-$file" --quiet --verify
        same <(sums "out-$file") <(to_nxdt direct --force && sums direct)
    done
    fails_with_one_line 1 "two.pt: there are 2 models in it, with names that begin 'model.', 'ema.'; say which one with --key" \
        "ckpt-unpack --model two.pt | ckpt-ls"
    convert --convert_from_full_state --input_dir two.pt --model_key ema --config "$MODEL/config.json" --output_dir out-two
    same <(sums out-two) <(sums direct)
    fails_with_one_line 1 'emma' "ckpt-unpack --key emma two.pt | ckpt-ls"
}

@test "--save_format safetensors gives a directory that Hugging Face's tools open, with config and tokenizer" {
    cp -r "$MODEL" source
    echo '{"tok":1}' >source/tokenizer.json
    convert --convert_from_full_state --input_dir source --output_dir nxdt --save_xser
    cp source/tokenizer.json nxdt/model
    convert --convert_to_full_state --input_dir nxdt/model --config source/config.json --output_dir hf --save_format safetensors
    same <(sums hf) <(sums source)
    cmp hf/config.json source/config.json
    cmp hf/tokenizer.json source/tokenizer.json
}

@test "tied embeddings come back once in safetensors and twice in checkpoint.pt" {
    model tied --layers 2 --tied
    convert --convert_from_full_state --input_dir tied --output_dir nxdt --tp_size 2 --verify --quiet
    sums nxdt | grep -q 'lm_head.weight'
    convert --convert_to_full_state --input_dir nxdt --config tied/config.json --output_dir st --save_format safetensors --verify --quiet
    same <(sums st) <(sums tied)
    convert --convert_to_full_state --input_dir nxdt --config tied/config.json --output_dir pt
    ckpt-unpack pt/checkpoint.pt | ckpt-sum | awk '/embed_tokens|lm_head/ { print $1 }' | uniq -d | grep -q .
}

@test "an NxDT training configuration does not replace the config.json beside the input, but a missing one" {
    model tied --tied
    cat >train.yaml <<'END'
distributed_strategy:
  tensor_model_parallel_size: 2
model:
  num_layers: 2
  hidden_size: 32
  num_attention_heads: 4
  num_kv_heads: 2
END
    convert --convert_from_full_state --input_dir tied --nxdt_yaml_config train.yaml --output_dir yaml
    convert --convert_from_full_state --input_dir tied/model.safetensors --nxdt_yaml_config train.yaml --output_dir file
    convert --convert_from_full_state --input_dir tied --tp_size 2 --output_dir flags
    diff -r yaml flags
    diff -r file flags
    ckpt-unpack yaml | ckpt-ls | grep -q lm_head
    model bare && cp -r bare full && rm bare/config.json
    convert --convert_from_full_state --input_dir bare --nxdt_yaml_config train.yaml --output_dir from-bare
    convert --convert_from_full_state --input_dir full --tp_size 2 --output_dir from-full
    diff -r from-bare from-full
}

@test "what is not said of the input of --convert_sharded is as in the output" {
    model mha --heads 4 --kv 4
    local options="--model_style megatron --config mha/config.json"
    convert $options --compat nxd --convert_from_full_state --input_dir mha --output_dir nxd --tp_size 2
    convert $options --compat nxd --convert_sharded --input_dir nxd --output_dir nxd1 --tp_size 1 --verify
    convert $options --compat nxd --convert_to_full_state --input_dir nxd1 --output_dir back
    same <(sums back) <(sums mha)
    # and --from_compat none is another layout than the output's
    convert $options --convert_from_full_state --input_dir mha --output_dir plain --tp_size 2
    convert $options --compat nxd --from_compat none --convert_sharded --input_dir plain --output_dir nxd2 --tp_size 1
    diff -r nxd2 nxd1
    # 6 heads on 4 ranks were padded to 8
    model six --hidden 48 --heads 6 --kv 2
    options="--pad_attn_heads --qkv_linear"
    convert $options --convert_from_full_state --input_dir six --output_dir padded --tp_size 4 --kv_size_multiplier 2
    convert $options --convert_sharded --input_dir padded --output_dir padded2 --config six/config.json --tp_size 2 --verify
    convert $options --convert_from_full_state --input_dir six --output_dir direct --tp_size 2
    diff -r padded2 direct
}

@test "--verify knows the input although the output replaces it, and reads what was written beside it" {
    cp -r "$MODEL" place
    convert --convert_from_full_state --input_dir place --output_dir place --force --tp_size 2 --verify
    to_nxdt nxdt --tp_size 2
    convert --convert_sharded --input_dir nxdt --output_dir nxdt --force --config "$MODEL/config.json" --tp_size 1 --verify
    same <(sums nxdt) <(to_nxdt one && sums one)
    convert --convert_to_xser --input_dir nxdt --output_dir nxdt --force --verify
    # a packer that writes something else
    model other
    local programs
    programs=$(dirname "$(command -v ckpt-ls)")
    mkdir bin
    cp "$programs"/{ckpt-*,checkpoint_converter.sh} bin
    printf '#!/bin/sh\ncat >/dev/null\nckpt-unpack nxdt2 | %s "$@"\n' "$programs/ckpt-pack-xser" >bin/ckpt-pack-xser
    convert --convert_from_full_state --input_dir other --output_dir nxdt2
    for input in place nxdt; do
        local conversion=--convert_sharded
        [[ $input == nxdt ]] || conversion=--convert_from_full_state
        run --separate-stderr bin/checkpoint_converter.sh --hw_backend trn1 $conversion --input_dir $input --output_dir $input \
            --config "$MODEL/config.json" --save_xser --force --verify
        [[ $status == 1 && $stderr == *"$input: verification failed"* ]]
    done
}

@test "--convert_from_xser refuses a whole model" {
    fails_with_one_line 1 '^ckpt-pack-pt: the stream is a whole model and not sharded' \
        "checkpoint_converter.sh --hw_backend trn1 --convert_from_xser --input_dir $MODEL --output_dir out"
    nothing_at out
    to_nxdt nxdt
    ckpt-unpack nxdt | ckpt-pack-pt --sharded again
    diff -r again nxdt
}

@test "a whole model does not go into a directory that is not empty, and never into the checkpoint it comes from" {
    to_nxdt nxdt
    mkdir full && touch full/there
    local run="checkpoint_converter.sh --hw_backend trn1 --convert_to_full_state --config $MODEL/config.json"
    fails_with_one_line 1 '^checkpoint_converter.sh: full: is there and is not empty; remove it, or replace .* --force$' \
        "$run --input_dir nxdt --output_dir full"
    [[ $(ls full) == there ]]
    $run --input_dir nxdt --output_dir full --force
    same <(sums full/checkpoint.pt) <(sums "$MODEL")
    ln -s nxdt link
    for input in nxdt nxdt/model; do
        for output in nxdt nxdt/model/ link; do
            fails_with_one_line 1 ': is the checkpoint that is read; give another --output_dir' \
                "$run --input_dir $input --output_dir $output --force"
        done
    done
    same <(find nxdt -type f | sort) <(printf 'nxdt/%s\n' checkpoint done model/dp_rank_00_tp_rank_00_pp_rank_00.pt)
}

@test "--save_format safetensors goes on when the config is in the output directory already" {
    to_nxdt nxdt
    mkdir hf && cp "$MODEL/config.json" hf
    run --separate-stderr convert --convert_to_full_state --input_dir nxdt --config hf/config.json --output_dir hf \
        --save_format safetensors --force --verify
    [[ $status == 0 && $stderr == *'hf: verified, 39 tensors are the same' ]]
    cmp hf/config.json "$MODEL/config.json"
}

@test "no argument is run as a command" {
    to_nxdt '$(hf-fetch x 2>&1; touch pwned)' 2>&1
    [[ ! -e pwned && -e '$(hf-fetch x 2>&1; touch pwned)/done' ]]
    convert --convert_from_full_state --hf_model_name 'x; touch pwned' --output_dir out --dry-run >pipeline
    run bash pipeline
    [[ ! -e pwned ]]
}

@test "paths may begin with a dash" {
    cp -r "$MODEL" ./-model
    convert --convert_from_full_state --input_dir=-model --output_dir -f/-g --verify
    convert --convert_to_full_state --input_dir -f/-g --config -model/config.json --output_dir --tp_size --verify
    same <(sums ./--tp_size) <(sums "$MODEL")
}

@test "a signal that ends the script ends the pipeline, which leaves nothing" {
    local programs signal
    programs=$(dirname "$(command -v ckpt-ls)")
    mkdir bin
    cp "$programs"/{ckpt-*,checkpoint_converter.sh} bin
    # a packer that has begun, and takes its time for the rest
    printf '#!/bin/bash\n%s "$@" < <(head -c 100; touch begun; sleep 1; exec cat)\n' "$programs/ckpt-pack-pt" >bin/ckpt-pack-pt
    for signal in TERM:143 HUP:129 INT:130; do
        rm -f begun
        # a shell's background jobs ignore SIGINT, and so would all that they start
        python3 -c 'import signal, subprocess, sys, time, os
process = subprocess.Popen(sys.argv[2:])
while not os.path.exists("begun"): time.sleep(0.01)
process.send_signal(getattr(signal, "SIG" + sys.argv[1]))
sys.exit(process.wait() % 256)' "${signal%:*}" bin/checkpoint_converter.sh --hw_backend trn1 --convert_from_full_state \
            --input_dir "$MODEL" --output_dir out 2>/dev/null || [[ $? == "${signal#*:}" ]]
        nothing_at out
    done
    sleep 1.2
    nothing_at out
    bin/checkpoint_converter.sh --hw_backend trn1 --convert_from_full_state --input_dir "$MODEL" --output_dir out
}

@test "the token for a gated model can be typed on the terminal, and an interrupt there ends the script" {
    mkdir -p hub/acme && cp -r "$MODEL" hub/acme/model
    MODELS=$PWD/hub start_hub --gated acme/model
    export HF_HOME=$PWD/cache HF_HUB_CACHE=$PWD/cache/hub
    local run="checkpoint_converter.sh --hw_backend trn1 --convert_from_full_state --hf_model_name acme/model --output_dir out"
    run "$PYTHON" "$HUB_TESTS/terminal.py" "Token for" $'\003' $run
    [[ $status == 130 ]]
    nothing_at out
    run "$PYTHON" "$HUB_TESTS/terminal.py" "Token for" "$TOKEN" $run
    [[ $status == 0 ]]
    same <(sums out) <(to_nxdt direct && sums direct)
}
