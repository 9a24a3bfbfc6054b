#!/usr/bin/env bash
# checkpoint_converter.sh: the command line of NxDT's checkpoint_converter.py, as a pipeline of ckpt-filters.
# It only reads the options and puts the pipeline together; --dry-run shows it.
set -euo pipefail

program=${0##*/}
bin=$(cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd)
PATH=$bin:$PATH

usage_error() {
    printf '%s: %s (see %s --help)\n' "$program" "$1" "$program" >&2
    exit 2
}

data_error() {
    printf '%s: %s\n' "$program" "$1" >&2
    exit 1
}

warn() {
    [[ ${opt[quiet]:-} == true ]] || printf '%s: warning: %s\n' "$program" "$1" >&2
}

show_help() {
    cat <<EOF
Usage: $program --hw_backend trn1|trn2 --output_dir DIR [OPTION]... CONVERSION
Convert checkpoints between Hugging Face and NeuronX Distributed Training (NxDT).

Conversion (one of them):
  --convert_from_full_state     a whole model -> sharded, in OUTPUT_DIR/model/
  --convert_to_full_state       sharded -> a whole model, OUTPUT_DIR/checkpoint.pt
  --convert_from_xser           sharded with xser -> sharded without
  --convert_to_xser             sharded without xser -> with
  --convert_sharded             sharded -> sharded otherwise (tp, pp, hardware, style, xser)

Input and output:
  --input_dir PATH              a checkpoint file or directory, of any format
  --hf_model_name ORG/NAME      a model on the Hugging Face Hub instead
  --output_dir DIR              where the result goes; must be empty or not there yet
  --save_xser BOOL              write xser (torch_xla serialization)
  --load_xser BOOL              read xser; the format is detected anyway
  --save_format pt|safetensors  of a whole model (pt); safetensors come with config.json
                                and the tokenizer's files
  --model_key KEY               the key under which the file holds the model
  --force                       replace a checkpoint in OUTPUT_DIR
  --verify                      convert back and compare every tensor's checksum
  --jobs N                      threads that copy

Model and layout:
  --model_style hf|megatron     (hf)
  --hw_backend trn1|trn2        required
  --config FILE                 config.json (the one beside the input)
  --nxdt_yaml_config FILE       an NxDT training configuration instead
  --tp_size N --pp_size N       tensor and pipeline parallel size (1)
  --ep_size N                   expert parallel size (1)
  --virtual_pp_size N           stages a pipeline rank holds (1)
  --pipeline_cuts LAYER,...     the last layer of every stage but the last
  --n_layers N                  the number of layers, checked
  --kv_size_multiplier N        how many times each KV head is there (1)
  --qkv_linear BOOL             NxDT's GQA layout
  --fuse_qkv BOOL               one tensor for q, k and v
  --coalesce_qkv BOOL           the same, by its older name
  --pad_attn_heads BOOL         pad query heads to a multiple of tp_size
  --i_tp_round_factor N         rounding of an expert's intermediate size
  --from_hw_backend trn1|trn2, --from_kv_size_multiplier N, --from_pad_attn_heads BOOL,
  --from_compat nxd             the same of the input of --convert_sharded (as for the output)
  --compat nxd                  the layouts of the NxD script where its model reads others
  --allow_replica_drift         merge although replicas differ

Other:
  --dry-run                     show the pipeline and do nothing
  --progress, --quiet           always or never show progress
  -h, --help, --version

A BOOL is True/False in any case, 1/0, yes/no, or left out (true). Options are written
--option VALUE or --option=VALUE, with _ or - between words.

Full manual: man checkpoint_converter.sh
EOF
}

# ---- options ----

declare -A kind=(
    [convert_from_full_state]=bool [convert_to_full_state]=bool [convert_from_xser]=bool [convert_to_xser]=bool
    [input_dir]=text [hf_model_name]=text [output_dir]=text [save_xser]=bool [load_xser]=bool
    [save_format]='pt|safetensors' [model_key]=text [force]=bool [verify]=bool [jobs]=number
    [model_style]='hf|megatron' [hw_backend]='trn1|trn2' [config]=text [nxdt_yaml_config]=text
    [tp_size]=number [pp_size]=number [ep_size]=number [virtual_pp_size]=number [pipeline_cuts]=text
    [n_layers]=number [kv_size_multiplier]=number [qkv_linear]=bool [fuse_qkv]=bool [coalesce_qkv]=bool
    [pad_attn_heads]=bool [i_tp_round_factor]=number [compat]=nxd [allow_replica_drift]=bool
    [convert_sharded]=bool [from_hw_backend]='trn1|trn2' [from_kv_size_multiplier]=number
    [from_pad_attn_heads]=bool [from_compat]=nxd [dry_run]=bool [progress]=bool [quiet]=bool
)
declare -A opt=()

as_bool() { # prints true or false, or fails
    case ${1,,} in
    true | 1 | yes | on) echo true ;;
    false | 0 | no | off) echo false ;;
    *) return 1 ;;
    esac
}

set_option() { # name, value
    local name=$1 value=$2
    case ${kind[$name]} in
    bool)
        value=$(as_bool "$value") || usage_error "--$name takes True or False, not '$2'"
        ;;
    number)
        [[ $value =~ ^[0-9]{1,9}$ ]] || usage_error "--$name takes a whole number, not '$value'"
        value=$((10#$value))
        ;;
    text)
        [[ -n $value ]] || usage_error "--$name needs a value"
        ;;
    *)
        [[ "|${kind[$name]}|" == *"|$value|"* ]] || usage_error "--$name takes one of ${kind[$name]//|/, }, not '$value'"
        ;;
    esac
    opt[$name]=$value
}

read_options() {
    local word name
    while (($# > 0)); do
        word=$1
        shift
        case $word in
        -h | --help) show_help; exit 0 ;;
        --version) ckpt-ls --version | sed "s/^ckpt-ls/$program/"; exit ;;
        --?*) ;;
        *) usage_error "unexpected argument '$word'" ;;
        esac
        name=${word#--}
        name=${name%%=*}
        name=${name//-/_}
        [[ -n ${kind[$name]:-} ]] || usage_error "unknown option --$name"
        if [[ $word == *=* ]]; then
            set_option "$name" "${word#*=}"
        elif [[ ${kind[$name]} == bool && (${1:---} == --* || -z ${1:-}) ]]; then
            set_option "$name" true
        else
            (($# > 0)) || usage_error "--$name needs a value"
            set_option "$name" "$1"
            shift
        fi
    done
}

is() { # whether a boolean option is true
    [[ ${opt[$1]:-false} == true ]]
}

# ---- what the options ask for ----

choose_conversion() {
    local name
    conversion=
    for name in convert_from_full_state convert_to_full_state convert_from_xser convert_to_xser convert_sharded; do
        is "$name" || continue
        [[ -z $conversion ]] || usage_error "--$conversion and --$name exclude each other"
        conversion=$name
    done
    [[ -n $conversion ]] || usage_error "which conversion is missing: --convert_from_full_state or --convert_to_full_state"
    [[ -n ${opt[hw_backend]:-} ]] || usage_error "--hw_backend is missing: trn1 or trn2, the hardware of the sharded checkpoint"
    [[ -n ${opt[output_dir]:-} ]] || usage_error "--output_dir is missing"
    if [[ -n ${opt[input_dir]:-} && -n ${opt[hf_model_name]:-} ]]; then
        warn "--hf_model_name is ignored, because --input_dir is given"
    elif [[ -z ${opt[input_dir]:-}${opt[hf_model_name]:-} ]]; then
        usage_error "--input_dir is missing (or --hf_model_name)"
    fi
}

not_available() {
    data_error "$1 is not available yet"
}

# What an NxDT training configuration says counts where no flag does; a flag that says otherwise is a warning.
read_yaml() {
    local yaml=${opt[nxdt_yaml_config]:-} lines name value
    [[ -n $yaml ]] || return 0
    lines=$(ckpt-config "$yaml") || exit 1
    while IFS='=' read -r name value; do
        [[ $name != num_attention_heads || -n ${opt[config]:-} ]] || config=$yaml
        [[ -n ${kind[$name]:-} ]] || continue
        if [[ -z ${opt[$name]:-} ]]; then
            opt[$name]=$value
        elif [[ ${opt[$name]} != "$value" ]]; then
            warn "--$name ${opt[$name]} contradicts $yaml, which says $value"
        fi
    done <<<"$lines"
}

fetch_input() {
    local model=${opt[hf_model_name]} status=0
    filter_options progress quiet
    if is dry_run; then
        input="\$(hf-fetch $model)"
        return
    fi
    input=$(hf-fetch "${words[@]}" -- "$model") || status=$?
    ((status == 0)) || exit "$status"
}

choose_config() {
    [[ $conversion != convert_*_xser ]] || return 0
    if [[ -n ${opt[config]:-} ]]; then
        config=${opt[config]}
        [[ -f $config && -r $config ]] || data_error "$config: cannot read it; check --config"
    elif [[ -z $config ]]; then
        local beside=$input
        [[ ! -f $input ]] || beside=$(dirname -- "$input")
        config=$beside/config.json
        [[ $input == "\$("* || -r $config ]] || data_error "$config: not there; give the model's config.json with --config"
    fi
}

choose_input() {
    config=
    read_yaml
    ((${opt[ep_size]:-1} <= 1)) || not_available "--ep_size above 1 (expert parallelism)"
    ((${opt[i_tp_round_factor]:-0} <= 1)) || not_available "--i_tp_round_factor above 1"
    if [[ ${opt[save_format]:-pt} != pt && $conversion != convert_to_full_state ]]; then
        usage_error "--save_format safetensors is for whole models (--convert_to_full_state)"
    fi
    if [[ -n ${opt[input_dir]:-} ]]; then
        input=${opt[input_dir]}
        [[ -e $input ]] || data_error "$input: no such file or directory; check --input_dir"
    else
        fetch_input
    fi
    choose_config
}

is_xser() { # whether a sharded checkpoint has tensor files
    local directory=$1 file
    [[ ! -d $directory/model ]] || directory=$directory/model
    for file in "$directory"/*.tensors/tensor_0.pt; do
        [[ -e $file ]] && return 0
    done
    return 1
}

check_load_xser() {
    [[ -n ${opt[load_xser]:-} && -d $input ]] || return 0
    if is load_xser && ! is_xser "$input"; then
        warn "--load_xser is true, but $input has no tensor files; reading it as it is"
    elif ! is load_xser && is_xser "$input"; then
        warn "--load_xser is false, but $input has tensor files (xser); reading it as it is"
    fi
}

# ---- the pipeline: stages of words, joined when they are run ----

stages=()
stage() {
    local quoted='' word
    for word in "$@"; do
        if [[ $word == "\$(hf-fetch "* ]]; then # a model that a dry run did not fetch
            word="\"$word\""
        elif [[ ! $word =~ ^[A-Za-z0-9_./,:=@%+-]+$ ]]; then
            printf -v word '%q' "$word"
        fi
        quoted+="$word "
    done
    stages+=("${quoted% }")
}

# The options of a filter, by their names here; those that were not given are left out. "from_X" becomes --X.
filter_options() {
    local name flag
    words=()
    for name in "$@"; do
        flag=${name#from_}
        flag=--${flag//_/-}
        case ${kind[$name]}:${opt[$name]:-} in
        *:) ;;
        bool:true) words+=("$flag") ;;
        bool:false) ;;
        number:0) ;;
        *) words+=("$flag" "${opt[$name]}") ;;
        esac
    done
}

add_unpack() { # path
    filter_options progress quiet
    [[ $1 != "$input" || -z ${opt[model_key]:-} ]] || words+=(--key "${opt[model_key]}")
    [[ $conversion == convert_*_xser ]] || words+=(--model)
    stage ckpt-unpack "${words[@]}" "$1"
}

add_shard() {
    filter_options pp_size virtual_pp_size pipeline_cuts n_layers hw_backend kv_size_multiplier qkv_linear \
        pad_attn_heads compat quiet
    stage ckpt-shard --tp-size "${opt[tp_size]:-1}" "${words[@]}" --config "$config"
    filter_options fuse_qkv coalesce_qkv
    [[ ${opt[model_style]:-hf} == hf ]] || words+=(--model-style megatron)
    stage ckpt-fuse-qkv "${words[@]}"
    [[ ${opt[model_style]:-hf} == hf ]] || stage ckpt-rename --to megatron
}

add_merge() { # input or output: whose layout
    local from='' sizes=()
    if [[ $1 == input && $conversion == convert_sharded ]]; then
        from=from_
        [[ -n ${opt[from_hw_backend]:-} ]] || opt[from_hw_backend]=${opt[hw_backend]}
    else
        sizes=(tp_size pp_size n_layers)
    fi
    if [[ ${opt[model_style]:-hf} == megatron || $conversion == convert_sharded ]]; then
        stage ckpt-rename --to hf
    fi
    filter_options ${from}kv_size_multiplier ${from}pad_attn_heads ${from}compat
    stage ckpt-split-qkv "${words[@]}" --config "$config"
    filter_options "${sizes[@]}" ${from}hw_backend ${from}kv_size_multiplier ${from}pad_attn_heads ${from}compat \
        allow_replica_drift quiet
    stage ckpt-merge "${words[@]}" --config "$config"
}

add_pack() { # xser, pt or safetensors, target
    filter_options force jobs progress quiet
    stage "ckpt-pack-$1" "${words[@]}" "$2"
}

pipeline() { # the stages as one command line; $1 stands between them
    local text=${stages[0]} i
    for ((i = 1; i < ${#stages[@]}; i++)); do
        text+=" |$1${stages[i]}"
    done
    printf '%s' "$text"
}

run() {
    if is dry_run; then
        pipeline $'\n    '
        echo
        return
    fi
    set +e
    eval "$(pipeline ' ')"
    local status=("${PIPESTATUS[@]}") one
    set -e
    for one in "${status[@]}"; do
        ((one == 0)) || exit "$((one > 2 ? 1 : one))"
    done
}

build() {
    local serialization=pt
    is save_xser && serialization=xser
    add_unpack "$input"
    case $conversion in
    convert_from_full_state)
        add_shard
        add_pack $serialization "$output"
        ;;
    convert_to_full_state)
        add_merge input
        if [[ ${opt[save_format]:-pt} == safetensors ]]; then
            add_pack safetensors "$output"
        else
            output+=/checkpoint.pt
            add_pack pt "$output"
        fi
        ;;
    convert_from_xser) add_pack pt "$output" ;;
    convert_to_xser) add_pack xser "$output" ;;
    convert_sharded)
        add_merge input
        add_shard
        add_pack $serialization "$output"
        ;;
    esac
}

# What Hugging Face's tools need beside the weights.
carry_along() {
    local place name
    [[ ${opt[save_format]:-pt} == safetensors ]] || return 0
    for place in "$(dirname -- "$config")" "$input" "$input/.." "$input/model"; do
        for name in config.json generation_config.json tokenizer.json tokenizer.model tokenizer_config.json \
            special_tokens_map.json added_tokens.json vocab.json merges.txt chat_template.jinja chat_template.json; do
            if [[ -f $place/$name && ! -e $output/$name ]]; then
                cp -- "$place/$name" "$output/$name"
            fi
        done
    done
    if [[ $config == *.json ]]; then
        cp -- "$config" "$output/config.json"
    fi
    [[ -e $output/config.json ]] || warn "$output: there was no config.json to put beside the weights"
}

# One line a tensor of the whole model that a checkpoint is, to compare with another. A layout conversion that only changes
# the serialization is compared rank by rank.
sums() { # path, input or output
    stages=()
    add_unpack "$1"
    case $conversion:$2 in
    convert_*_xser:* | convert_from_full_state:input | convert_to_full_state:output) ;;
    *) add_merge "$2" ;;
    esac
    stage ckpt-sum --quiet
    eval "$(pipeline ' ')" | LC_ALL=C sort
}

# Converts the output back and compares it with the input, tensor by tensor.
verify() {
    local before after
    before=$(sums "$input" input) || exit 1
    after=$(sums "$output" output) || exit 1
    # tied embeddings: lm_head may be in one of them only
    if [[ $before != *'  lm_head.weight'* || $after != *'  lm_head.weight'* ]]; then
        before=$(sed '/  lm_head\.weight$/d' <<<"$before")
        after=$(sed '/  lm_head\.weight$/d' <<<"$after")
    fi
    [[ $before == "$after" ]] || data_error "$output: verification failed: its tensors are not those of $input"
    is quiet || printf '%s: %s: verified, %d tensors are the same\n' "$program" "$output" "$(wc -l <<<"$after")" >&2
}

read_options "$@"
choose_conversion
choose_input
check_load_xser
output=${opt[output_dir]%/}
output=${output:-/}
build
run
if ! is dry_run; then
    carry_along
    ! is verify || verify
fi
