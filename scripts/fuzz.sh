#!/usr/bin/env bash
# Runs every fuzz target of tests/fuzz for a while, over what the tests have as input files.
# Usage: fuzz.sh [SECONDS]      findings stay in build-fuzz/
set -euo pipefail
seconds=${1:-60}
cd "$(dirname "$0")/.."
build="build-fuzz"
make BUILD=$build CC=clang CFLAGS='-O1 -g -fsanitize=fuzzer-no-link,address,undefined' $build/libcommon.a

corpus=$build/corpus
mkdir -p $corpus
find tests/foreign tests/golden -type f \( -name '*.pt' -o -name '*.pth' -o -name '*.bin' -o -name '*.safetensors' \) \
    -size -64k | while read -r file; do
    name=$(tr / _ <<<"$file")
    cp "$file" "$corpus/$name"
    unzip -p "$file" '*/data.pkl' >"$corpus/$name.pkl" 2>/dev/null || rm -f "$corpus/$name.pkl"
done

for source in tests/fuzz/*.c; do
    target=$build/$(basename "$source" .c)
    clang -std=c11 -D_GNU_SOURCE -O1 -g -fsanitize=fuzzer,address,undefined -Icommon "$source" $build/libcommon.a \
        -Wl,--as-needed -larchive -lyajl -lyaml -lzstd -ldeflate -lz -lcrypto -lcurl -lpthread -o "$target"
    mkdir -p "$target.corpus"
    printf '%s, %d s: ' "$target" "$seconds"
    if ! "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$target-" "$target.corpus" "$corpus" >"$target.log" 2>&1; then
        tail -40 "$target.log"
        exit 1
    fi
    sed -n 's/^stat::number_of_executed_units: *\(.*\)/nothing found in \1 runs/p' "$target.log"
done
