#!/bin/bash
# Compares hf-fetch with curl: a 2 GB file from the stand-in Hub, interleaved, medians and peak memory.
# Usage: bench-fetch.sh [ROUNDS] [MEGABYTES]      BUILD, TMPDIR: where hf-fetch is, where to download to
set -euo pipefail
rounds=${1:-7} megabytes=${2:-2000}
here=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$here/build}
case $build in /*) ;; *) build=$here/$build ;; esac
work=$(mktemp -d "${TMPDIR:-/tmp}/bench-fetch.XXXXXX")
hub=
trap '[ -z "$hub" ] || kill "$hub"; rm -rf "$work"' EXIT

mkdir -p "$work/root/acme/large"
head -c "${megabytes}MB" /dev/urandom >"$work/root/acme/large/model.safetensors"
echo '{}' >"$work/root/acme/large/config.json"
python3 "$here/tests/hub/standin.py" --root "$work/root" --port-file "$work/port" --log "$work/log" \
    --parent $$ --lifetime 900 &
hub=$!
until [ -s "$work/port" ]; do sleep 0.05; done
port=$(cat "$work/port")
export HF_ENDPOINT=http://127.0.0.1:$port HF_HOME=$work/home HF_TOKEN=
unset HF_HUB_CACHE HF_HUB_OFFLINE
url=$HF_ENDPOINT/acme/large/resolve/main/model.safetensors

# measure NAME COMMAND…: appends "seconds KiB" to $work/NAME
measure() {
    local name=$1
    shift
    /usr/bin/time -o "$work/time" -f '%e %M' "$@" >/dev/null
    cat "$work/time" >>"$work/$name"
}

one_round() {
    rm -rf "$work/curl.out" "${work:?}/home"
    measure curl curl -sfL -o "$work/curl.out" "$url"
    rm -rf "$work/curl.out" "${work:?}/home"
    measure hf-fetch "$build/hf-fetch" -q acme/large
    rm -rf "$work/curl.out" "${work:?}/home"
    measure hf-fetch-j1 "$build/hf-fetch" -q -j 1 acme/large
    rm -rf "$work/curl.out" "${work:?}/home"
    # shellcheck disable=SC2016 # the inner shell's variables
    measure curl-sha256sum sh -c 'curl -sfL -o "$1" "$2" && sha256sum "$1"' - "$work/curl.out" "$url"
}

one_round # the stand-in computes its digests, and the page cache fills
rm -f "$work"/{curl,hf-fetch,hf-fetch-j1,curl-sha256sum}
for ((round = 0; round < rounds; round++)); do one_round; done

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
printf '%-28s %9s %9s %12s\n' "$megabytes MB from loopback" 'median s' 'MB/s' 'peak RSS MiB'
while read -r name title; do
    seconds=$(cut -d' ' -f1 "$work/$name" | median)
    memory=$(cut -d' ' -f2 "$work/$name" | sort -n | tail -1)
    awk -v t="$title" -v s="$seconds" -v m="$memory" -v n="$megabytes" \
        'BEGIN {printf "%-28s %9.2f %9.0f %12.1f\n", t, s, n / s, m / 1024}'
done <<END
curl curl (no digest)
curl-sha256sum curl, then sha256sum
hf-fetch hf-fetch (verified)
hf-fetch-j1 hf-fetch --jobs 1 (verified)
END
