#!/usr/bin/env bash
# Converts a checkpoint from Hugging Face to NxDT and back, and shows that every tensor is the same again.
# MODEL: a Hugging Face directory (a small one of the tests)      BUILD: where the programs are (build)
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
PATH=$(realpath "${BUILD:-$top/build}"):$PATH
model=$(realpath "${MODEL:-$top/tests/golden/models/llama-gqa}")
if [[ ! -r $model/config.json ]]; then
    echo "demo.sh: $model: has no config.json; MODEL must be a Hugging Face model directory" >&2
    exit 1
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/ckpt-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
ln -s "$model" hf

if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
heading() {
    printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}
first() { # N lines of standard input, and how many more there are
    awk -v n="$1" 'NR <= n { print } END { if (NR > n) printf "… and %d more lines\n", NR - n }'
}
convert() { # shows the command and its pipeline, then runs it
    printf '$ checkpoint_converter.sh %s\n\nwhich runs\n' "$*"
    checkpoint_converter.sh "$@" --dry-run
    checkpoint_converter.sh "$@"
}

# KV heads are replicated until each of the 8 tensor ranks has one.
heads=$(sed -n 's/.*"num_key_value_heads": *\([0-9]*\).*/\1/p' hf/config.json)
multiplier=1
while ((heads > 0 && heads * multiplier % 8 != 0)); do
    multiplier=$((multiplier * 2))
done
layout=(--hw_backend trn1 --tp_size 8 --pp_size 2 --kv_size_multiplier "$multiplier" --qkv_linear True --fuse_qkv True)

heading "A checkpoint as Hugging Face has it: $model"
ckpt-unpack hf | ckpt-ls --total | first 6

heading "To NxDT: tensor parallel 8, pipeline parallel 2, each KV head $multiplier times"
convert --convert_from_full_state --input_dir hf --output_dir nxdt --save_xser True "${layout[@]}"

heading "What it wrote"
find nxdt -mindepth 1 | sort | first 7
echo
ckpt-unpack nxdt | ckpt-ls --total | first 4

heading "Back to one file for PyTorch"
convert --convert_to_full_state --input_dir nxdt --output_dir full --load_xser True --config hf/config.json "${layout[@]}"

heading "Is it the same? SHA-256 of every tensor, before and after"
ckpt-unpack hf | ckpt-sum | sort -k2 >before
ckpt-unpack full | ckpt-sum | sort -k2 >after
if ! grep -q '  lm_head.weight$' before; then # tied: the embedding was written as lm_head too
    sed -i '/  lm_head.weight$/d' after
fi
first 3 <after
diff before after
echo "Yes: all $(wc -l <after) tensors have the same bytes as before."
