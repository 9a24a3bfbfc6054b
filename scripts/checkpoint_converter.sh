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
  --nxdt_yaml_config FILE       an NxDT training configuration: options that are not given,
                                and the model where no config.json is beside the input
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
  --from_compat nxd|none        the same of the input of --convert_sharded (as for the output;
                                the tensors tell kv_size_multiplier)
  --compat nxd|none             the layouts of the NxD script where its model reads others
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

# ---- running programs ----

# Bash attends to a signal only when the program it waits for has ended. So programs run in the background, and a signal
# that ends this script ends them too.
run() { # command: with this script's input, which may be the terminal; ends the script when it fails
    local status=0
    running=true
    "$@" <&0 &
    wait "$!" || status=$?
    running=false
    ((status == 0)) || exit "$status"
}

run_stages() { # in a process group of their own, which can be signalled as a whole
    run setsid bash -c "$(stages_script)"
}

running=false
stop() { # signal number
    trap '' INT QUIT TERM HUP
    if $running; then
        kill -- "-$!" "$!" || true # the stages; a single program has no group
        wait "$!" || true
    fi 2>/dev/null
    exit "$((128 + $1))"
}
trap 'stop 1' HUP
trap 'stop 2' INT
trap 'stop 3' QUIT
trap 'stop 15' TERM

scratch=
make_scratch() { # a file for what a program prints
    [[ -n $scratch ]] || scratch=$(mktemp)
    trap 'rm -f -- "$scratch"' EXIT
}

# ---- options ----

declare -A kind=(
    [convert_from_full_state]=bool [convert_to_full_state]=bool [convert_from_xser]=bool [convert_to_xser]=bool
    [input_dir]=path [hf_model_name]=text [output_dir]=path [save_xser]=bool [load_xser]=bool
    [save_format]='pt|safetensors' [model_key]=text [force]=bool [verify]=bool [jobs]=number
    [model_style]='hf|megatron' [hw_backend]='trn1|trn2' [config]=path [nxdt_yaml_config]=path
    [tp_size]=number [pp_size]=number [ep_size]=number [virtual_pp_size]=number [pipeline_cuts]=text
    [n_layers]=number [kv_size_multiplier]=number [qkv_linear]=bool [fuse_qkv]=bool [coalesce_qkv]=bool
    [pad_attn_heads]=bool [i_tp_round_factor]=number [compat]='nxd|none' [allow_replica_drift]=bool
    [convert_sharded]=bool [from_hw_backend]='trn1|trn2' [from_kv_size_multiplier]=number
    [from_pad_attn_heads]=bool [from_compat]='nxd|none' [dry_run]=bool [progress]=bool [quiet]=bool
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
    text | path)
        [[ -n $value ]] || usage_error "--$name needs a value"
        # so that no program takes the path for an option
        [[ ${kind[$name]} != path || $value != -* ]] || value=./$value
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
        [[ $name != num_attention_heads ]] || model_yaml=$yaml
        [[ -n ${kind[$name]:-} ]] || continue
        if [[ -z ${opt[$name]:-} ]]; then
            opt[$name]=$value
        elif [[ ${opt[$name]} != "$value" ]]; then
            warn "--$name ${opt[$name]} contradicts $yaml, which says $value"
        fi
    done <<<"$lines"
}

fetch_input() {
    local model=${opt[hf_model_name]}
    filter_options progress quiet
    if is dry_run; then
        not_fetched="\$(hf-fetch $(printf %q "$model"))"
        input=$not_fetched
        return
    fi
    make_scratch
    run hf-fetch "${words[@]}" -- "$model" >"$scratch"
    input=$(<"$scratch")
}

choose_config() {
    [[ $conversion != convert_*_xser ]] || return 0
    if [[ -n ${opt[config]:-} ]]; then
        config=${opt[config]}
        [[ -f $config && -r $config ]] || data_error "$config: cannot read it; check --config"
    else
        local beside=$input
        [[ ! -f $input ]] || beside=$(dirname -- "$input")
        config=$beside/config.json
        [[ -z $not_fetched && ! -r $config ]] || return 0
        [[ -n $model_yaml ]] || data_error "$config: not there; give the model's config.json with --config"
        config=$model_yaml
    fi
}

choose_input() {
    config=      # the model's config.json, or a training configuration that describes the model
    model_yaml=  # the training configuration, if it does
    not_fetched= # what stands for the input in a dry run that would fetch it
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

choose_output() {
    output=${opt[output_dir]%/}
    output=${output:-/}
    result=$output/model # what --verify reads: other checkpoints may lie around it
    if [[ $conversion == convert_to_full_state ]]; then
        result=$output
        [[ ${opt[save_format]:-pt} != pt ]] || result=$output/checkpoint.pt
        if [[ $output -ef $input || $output/model -ef $input || $output -ef $input/model ]]; then
            data_error "$output: is the checkpoint that is read; give another --output_dir"
        fi
    fi
    is force || is dry_run || [[ ! -d $output || -z $(ls -A -- "$output" 2>/dev/null) ]] ||
        data_error "$output: is there and is not empty; remove it, or replace the checkpoint in it with --force"
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
        if [[ -n $not_fetched && ($word == "$not_fetched" || $word == "$not_fetched/config.json") ]]; then
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

add_unpack() { # input or output: what to read
    local path=$result
    filter_options progress quiet
    if [[ $1 == input ]]; then
        path=$input
        [[ -z ${opt[model_key]:-} ]] || words+=(--key "${opt[model_key]}")
    fi
    [[ $conversion == convert_*_xser ]] || words+=(--model)
    stage ckpt-unpack "${words[@]}" "$path"
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
    local from='' sizes=() name
    if [[ $1 == input && $conversion == convert_sharded ]]; then
        from=from_
        for name in hw_backend pad_attn_heads compat; do
            opt[from_$name]=${opt[from_$name]:-${opt[$name]:-}}
        done
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

add_pack() { # xser, pt or safetensors, target, option...
    filter_options force jobs progress quiet
    stage "ckpt-pack-$1" "${words[@]}" "${@:3}" "$2"
}

pipeline() { # the stages as one command line; $1 stands between them
    local text=${stages[0]} i
    for ((i = 1; i < ${#stages[@]}; i++)); do
        text+=" |$1${stages[i]}"
    done
    printf '%s' "$text"
}

# The command line as a script that ends with the status of the first program that failed. Its trap lets the shell stay
# until its programs have cleaned up.
stages_script() {
    cat <<EOF
trap 'exit 143' TERM
$(pipeline ' ')
for status in "\${PIPESTATUS[@]}"; do
    ((status == 0)) || exit "\$((status > 2 ? 1 : status))"
done
EOF
}

build() {
    local serialization=pt
    is save_xser && serialization=xser
    stages=()
    add_unpack input
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
            add_pack pt "$result"
        fi
        ;;
    convert_from_xser) add_pack pt "$output" --sharded ;;
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
    if [[ $config == *.json && ! $config -ef $output/config.json ]]; then
        cp -- "$config" "$output/config.json"
    fi
    [[ -e $output/config.json ]] || warn "$output: there was no config.json to put beside the weights"
}

# One line a tensor of the whole model that a checkpoint is, to compare with another. A layout conversion that only changes
# the serialization is compared rank by rank.
sums() { # input or output; sets lines
    stages=()
    add_unpack "$1"
    case $conversion:$1 in
    convert_*_xser:* | convert_from_full_state:input | convert_to_full_state:output) ;;
    *) add_merge "$1" ;;
    esac
    stage ckpt-sum --quiet
    make_scratch
    run_stages >"$scratch"
    lines=$(LC_ALL=C sort -- "$scratch")
}

# Converts the output back and compares it with the input, tensor by tensor.
verify() { # the sums of the input, from before the conversion: the output may have replaced it
    local before=$1 after
    sums output
    after=$lines
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
choose_output
if is dry_run; then
    build
    pipeline $'\n    '
    echo
    exit
fi
if is verify; then
    sums input
fi
build
run_stages
carry_along
if is verify; then
    verify "$lines"
fi
