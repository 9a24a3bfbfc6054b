#!/usr/bin/env bash
# Measures conversions of a synthetic Llama-shaped model beside cp -r of what they write.
#
# Every round runs, one after the other: Hugging Face -> NxDT (xser, tp 8, pp 4) with each number of threads, cp -r
# of that output, NxDT -> Hugging Face (checkpoint.pt) with each number of threads, cp -r of that output. On a disk,
# where packers end with a flush, cp -r is measured with a flush behind it as well. The table shows medians of the
# rounds.
set -Eeuo pipefail

program=${0##*/}
size=5 rounds=5 threads="1 2" memory=/dev/shm disk=/var/tmp

show_help() {
    cat <<END
Usage: $program [OPTION]...
Measure conversions beside cp -r of what they write.

  --size GB         size of the model (5)
  --rounds N        rounds, of which medians are taken (5)
  --threads "N..."  numbers of threads to try ("1 2")
  --memory DIR      a directory on a tmpfs (/dev/shm); "" for none
  --disk DIR        a directory on a disk (/var/tmp); "" for none
  --help

Needs three times the size in each place. BUILD is the directory of the programs (build).
END
}

root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=measure.sh
. "$root/scripts/measure.sh"
read_options "size rounds threads memory disk" "$@"
PATH=$(cd "$root" && realpath "${BUILD:-build}"):$PATH
for needed in ckpt-unpack /usr/bin/time python3; do
    command -v "$needed" >/dev/null || { echo "$program: $needed is not there (make; apt install time)" >&2 && exit 1; }
done
results=$(mktemp -d)
work=
trap 'rm -rf "$results" ${work:+"$work"}' EXIT
trap 'exit 130' INT TERM
trap 'echo "$program: line $LINENO failed" >&2' ERR

# ---- the model ----

# From 4 GB on Llama-3-8B's shapes with fewer layers, below that a quarter of its width. The vocabulary's two
# matrices and the layers make the size.
model_shape() { # sets shape (options of model.py)
    local hidden=4096 inner=14336 heads=32 kv=8 vocab=128256 layer layers bytes
    if awk -v s="$size" 'BEGIN { exit !(s < 4) }'; then
        hidden=2048 inner=8192 vocab=32000
    fi
    layer=$((2 * (2 * hidden * hidden + 2 * hidden * hidden * kv / heads + 3 * hidden * inner)))
    bytes=$(awk -v s="$size" 'BEGIN { printf "%.0f", s * 1e9 }')
    layers=$(((bytes - 4 * vocab * hidden + layer / 2) / layer))
    ((layers >= 4)) || layers=4
    shape=(--hidden "$hidden" --intermediate "$inner" --heads "$heads" --kv "$kv" --vocab "$vocab"
        --layers "$layers" --shards 2)
}

check_room() { # directory: ends the program when three times the size does not fit
    local free available
    free=$(df --output=avail -B1 "$1" | tail -1)
    available=$(awk '/^MemAvailable/ { printf "%.0f", $2 * 1024 }' /proc/meminfo)
    if awk -v s="$size" -v f="$free" 'BEGIN { exit !(f < 3.2e9 * s) }'; then
        echo "$program: $1: has $((free / 1000000)) MB free, but three times $size GB are needed; use a smaller --size" >&2
        exit 1
    fi
    if [[ $1 == "$memory"* ]] && awk -v s="$size" -v a="$available" 'BEGIN { exit !(a < 3.2e9 * s + 1e9) }'; then
        echo "$program: $((available / 1000000)) MB of memory are free, but three times $size GB are needed in $1; use a smaller --size" >&2
        exit 1
    fi
}

# ---- measuring ----

seconds_since() { # an EPOCHREALTIME
    awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }'
}

# A program that is measured: peak resident memory in KB, user and system time.
stage() { # program…
    /usr/bin/time -q -f '%M %U %S' -a -o "$results/stages" "$@"
}

record() { # name, begin: adds what has been measured since the last time
    seconds_since "$2" >>"$results/$place.$1.time"
    echo >>"$results/$place.$1.time"
    awk '{ cpu += $2 + $3 } END { printf "%.2f\n", cpu }' "$results/stages" >>"$results/$place.$1.cpu"
    cut -d ' ' -f 1 "$results/stages" >>"$results/$place.$1.rss"
    rm "$results/stages"
}

to_nxdt() { # threads
    local name=to_nxdt.$1 begin
    settle "$work" "$(<"$results/bytes")"
    begin=$EPOCHREALTIME
    stage ckpt-unpack hf | stage ckpt-shard --tp-size 8 --pp-size 4 --qkv-linear |
        stage ckpt-fuse-qkv --fuse-qkv | stage ckpt-pack-xser --jobs "$1" nxdt
    record "$name" "$begin"
}

to_hf() { # threads
    local name=to_hf.$1 begin
    settle "$work" "$(<"$results/bytes")"
    begin=$EPOCHREALTIME
    stage ckpt-unpack nxdt | stage ckpt-split-qkv --config hf/config.json |
        stage ckpt-merge | stage ckpt-pack-pt --jobs "$1" back/checkpoint.pt
    record "$name" "$begin"
}

copy() { # name, directory, whether with a flush
    local begin
    rm -rf copy
    settle "$work" "$(<"$results/bytes")"
    begin=$EPOCHREALTIME
    stage cp -r "$2" copy
    [[ $3 == no ]] || stage sync -f copy
    record "$1" "$begin"
    rm -rf copy
}

measure_round() {
    local n
    for n in $threads; do
        rm -rf nxdt
        to_nxdt "$n"
    done
    copy cp_nxdt nxdt no
    [[ $place == memory ]] || copy cp_nxdt_flush nxdt yes
    for n in $threads; do
        rm -rf back
        to_hf "$n"
    done
    rm -rf nxdt
    copy cp_hf back no
    [[ $place == memory ]] || copy cp_hf_flush back yes
    rm -rf back
}

measure_place() { # memory or disk, directory
    local round
    place=$1
    check_room "$2"
    work=$(mktemp -d "$2/ckpt-bench.XXXXXX")
    cd "$work"
    echo "$2: making the model" >&2
    python3 "$root/tests/model.py" hf "${shape[@]}"
    du -sb --apparent-size hf | cut -f 1 >"$results/bytes"
    for ((round = 1; round <= rounds; round++)); do
        echo "$2: round $round of $rounds" >&2
        measure_round
    done
    cd /
    rm -rf "$work"
    work=
    print_place
}

# ---- the table ----

median() { # name, time or cpu
    grep . "$results/$place.$1.$2" | median_of
}

best() { # name
    grep . "$results/$place.$1.time" | sort -n | awk 'NR == 1 { printf "%.2f", $1 }'
}

print_row() { # where, what, threads, median, best, median / cp, median / cp and flush, processor time, peak memory
    printf '%-7s %-25s %7s %8s %8s %8s %13s %8s %10s\n' "$@"
}

print_conversion() { # title, conversion, its copy
    local n time plain flush="" to_flush="" rss
    plain=$(median "$3" time)
    [[ ! -e $results/$place.$3_flush.time ]] || flush=$(median "$3_flush" time)
    for n in $threads; do
        time=$(median "$2.$n" time)
        rss=$(sort -n "$results/$place.$2.$n.rss" | tail -1)
        [[ -z $flush ]] || to_flush=$(ratio "$time" "$flush")
        print_row "$place" "$1" "$n" "$time" "$(best "$2.$n")" "$(ratio "$time" "$plain")" "$to_flush" \
            "$(median "$2.$n" cpu)" "$(ratio "$rss" 1024) MiB"
    done
    print_row "$place" "cp -r of that" "" "$plain" "$(best "$3")" 1.00 "" "$(median "$3" cpu)" ""
    [[ -z $flush ]] || print_row "$place" "cp -r of that, sync -f" "" "$flush" "$(best "$3_flush")" "" 1.00 \
        "$(median "$3_flush" cpu)" ""
}

print_place() {
    [[ -e $results/heading ]] || {
        printf '\n%s MB model, %s rounds, %s processors; seconds: median and best; ratios of medians\n\n' \
            "$(($(<"$results/bytes") / 1000000))" "$rounds" "$(nproc)"
        print_row where what threads median best "/ cp -r" "/ cp -r, sync" "CPU s" "peak RSS"
        touch "$results/heading"
    }
    print_conversion "HF -> NxDT xser, tp8 pp4" to_nxdt cp_nxdt
    print_conversion "NxDT -> HF checkpoint.pt" to_hf cp_hf
}

# ---- headers only ----

measure_listing() {
    local begin n
    work=$(mktemp -d)
    python3 "$root/tests/model.py" "$work/hf" --sparse --hidden 4096 --intermediate 14336 --heads 32 --kv 8 \
        --vocab 128256 --layers 18 --shards 4
    for ((n = 0; n < 5; n++)); do
        begin=$EPOCHREALTIME
        ckpt-unpack "$work/hf" | ckpt-ls --total >"$results/listing"
        seconds_since "$begin" && echo
    done >"$results/listing.times"
    printf '\nckpt-unpack DIR | ckpt-ls of %s: median %s s\n' "$(tail -1 "$results/listing")" "$(sort -n "$results/listing.times" | sed -n 3p)"
    rm -rf "$work"
    work=
}

model_shape
[[ -z $memory ]] || measure_place memory "$memory"
[[ -z $disk ]] || measure_place disk "$disk"
measure_listing
