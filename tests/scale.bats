# Width, memory and speed that must hold at any size.

load convert_helpers

teardown() {
    cd /
    if [[ -n ${scratch:-} ]]; then
        rm -rf "$scratch"
    fi
}

in_memory() { # GB: goes to a directory in /dev/shm with that much room, or skips the test
    local room
    [[ -d /dev/shm ]] || skip "there is no /dev/shm"
    room=$(awk '/^MemAvailable/ { print int($2 / 1000000) }' /proc/meminfo)
    (($(df --output=avail -BG /dev/shm | tr -dc 0-9) > $1 && room > $1)) || skip "less than $1 GB of memory are free"
    scratch=$(mktemp -d /dev/shm/ckpt-test.XXXXXX)
    cd "$scratch" || return
}

seconds() { # since an EPOCHREALTIME
    awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f s", b - a }'
}

memory_counts() { # or skips the test: instrumented programs need more
    ! instrumented || skip "programs that check memory need more of it"
}

measured() { # program…: notes its peak resident memory
    /usr/bin/time -q -f "%M $1" -a -o peaks "$@"
}

peaks_below() { # MiB
    local kb program
    while read -r kb program; do
        echo "# $program: $((kb / 1024)) MiB" >&3
        ((kb <= $1 * 1024)) || {
            echo "$program: $((kb / 1024)) MiB at its peak, more than $1"
            return 1
        }
    done <peaks
}

@test "126 layers on tp 32, pp 32 there and back with 256 open files" {
    local begin
    in_memory 2
    ulimit -n 256
    model m --layers 126 --hidden 32 --heads 32 --kv 8 --head-dim 2 --intermediate 32 --vocab 32
    begin=$EPOCHREALTIME
    ckpt-unpack m | ckpt-shard -t 32 -p 32 --qkv-linear -m 4 --hw-backend trn1 | ckpt-fuse-qkv | ckpt-pack-xser out
    echo "# there: $(seconds "$begin")" >&3
    (($(find out -name '*rank_??.pt' | wc -l) == 1024))
    (($(find out -name 'tensor_*.pt' | wc -l) > 30000))
    begin=$EPOCHREALTIME
    ckpt-unpack out | ckpt-split-qkv --config m/config.json | ckpt-merge --hw-backend trn1 | ckpt-pack-pt back.pt
    echo "# back: $(seconds "$begin")" >&3
    same <(sums back.pt) <(sums m)
    # Inline, too; and as plain rank files.
    ckpt-unpack --inline m | ckpt-shard -t 32 -p 32 --qkv-linear -m 4 --hw-backend trn1 | ckpt-fuse-qkv | ckpt-pack-pt plain
    ckpt-unpack --inline plain | ckpt-split-qkv --config m/config.json | ckpt-merge --hw-backend trn1 | ckpt-pack-pt --force back.pt
    same <(sums back.pt) <(sums m)
}

@test "a model of hundreds of files is read with 256 open files, by many threads" {
    local n extra=()
    in_memory 1
    ulimit -n 256
    for ((n = 0; n < 1000; n++)); do
        extra+=(--extra "t.$n:F32:10")
    done
    model m --shards 500 --without model. --without lm_head "${extra[@]}"
    (($(find m -type f | wc -l) > 400))
    ckpt-unpack m | ckpt-pack-pt --jobs 64 out.pt
    same <(sums out.pt) <(sums m)
}

@test "a 10 GB checkpoint is listed without reading it" {
    local begin
    model m --sparse --hidden 4096 --intermediate 14336 --heads 32 --kv 8 --vocab 128256 --layers 18 --shards 4
    begin=$EPOCHREALTIME
    ckpt-unpack m | ckpt-ls --total >listing
    echo "# listing $(tail -1 listing): $(seconds "$begin")" >&3
    begin=$EPOCHREALTIME
    ckpt-unpack m | ckpt-shard -t 8 -p 4 --qkv-linear | ckpt-fuse-qkv --fuse-qkv | ckpt-ls >listing
    echo "# listing its shards, tp 8, pp 4: $(seconds "$begin")" >&3
    (($(wc -l <listing) == 1 + 8 * (18 * 6 + 3)))
}

@test "by reference no process needs more than 64 MiB, either way" {
    memory_counts
    in_memory 5
    model m --sparse --hidden 2048 --intermediate 8192 --heads 32 --kv 8 --vocab 32000 --layers 6 --shards 2 # 1 GB
    measured ckpt-unpack m | measured ckpt-shard -t 8 -p 2 --qkv-linear -m 2 --hw-backend trn2 |
        measured ckpt-fuse-qkv --fuse-qkv | measured ckpt-pack-xser --jobs 8 out
    measured ckpt-unpack out | measured ckpt-split-qkv --config m/config.json |
        measured ckpt-merge --hw-backend trn2 | measured ckpt-pack-pt --jobs 8 back.pt
    measured ckpt-unpack out | measured ckpt-ls >/dev/null
    peaks_below 64
    same <(ckpt-unpack back.pt | ckpt-ls) <(ckpt-unpack m | ckpt-ls)
}

@test "inline no process needs more than the largest tensor and 64 MiB, either way" {
    memory_counts
    in_memory 4
    model m --sparse --hidden 2048 --intermediate 8192 --heads 32 --kv 8 --vocab 32000 --layers 3 # 131 MB largest
    measured ckpt-unpack --inline m | measured ckpt-shard -t 4 -p 1 --qkv-linear |
        measured ckpt-fuse-qkv --fuse-qkv | measured ckpt-pack-xser out
    measured ckpt-unpack --inline out | measured ckpt-split-qkv --config m/config.json |
        measured ckpt-merge | measured ckpt-pack-pt back.pt
    peaks_below $((32000 * 2048 * 2 / 1048576 + 64))
    same <(ckpt-unpack back.pt | ckpt-ls) <(ckpt-unpack m | ckpt-ls)
}

@test "inline tied embeddings do not need a second copy" {
    memory_counts
    in_memory 2
    model m --sparse --tied --hidden 1024 --intermediate 1024 --heads 8 --kv 8 --vocab 50000 --layers 1 # 102 MB
    measured ckpt-unpack --inline m | measured ckpt-shard -t 2 | measured ckpt-fuse-qkv | measured ckpt-pack-pt out
    peaks_below $((50000 * 1024 * 2 / 1048576 + 64))
}

@test "a summing of many large tensors needs no memory for them" {
    memory_counts
    model m --sparse --hidden 2048 --intermediate 8192 --heads 32 --kv 8 --vocab 32000 --layers 1 # 0.4 GB
    ckpt-unpack m | measured ckpt-sum >/dev/null
    peaks_below 64
}

@test "comparing large checkpoints needs no memory for them" {
    memory_counts
    model m --sparse --hidden 2048 --intermediate 8192 --heads 32 --kv 8 --vocab 32000 --layers 1 # 0.4 GB
    cp -r --sparse=always m n
    ckpt-unpack m | measured ckpt-diff n
    peaks_below 64
}

@test "the benchmark runs, and shows both directions beside cp" {
    BUILD=$(dirname "$(command -v ckpt-ls)") "$TESTS/../scripts/bench.sh" --rounds 1 --threads 1 --size 0.05 --memory "" \
        --disk "$BATS_TEST_TMPDIR" >table
    grep -qE '^disk +HF -> NxDT xser.* MiB$' table
    grep -qE '^disk +NxDT -> HF checkpoint.pt.* MiB$' table
    (($(grep -c 'cp -r of that' table) == 4))
}

@test "the benchmark of hf-fetch runs, and shows it beside curl" {
    BUILD=$(dirname "$(command -v hf-fetch)") "$TESTS/../scripts/bench-fetch.sh" --rounds 1 --size 3 --memory "" \
        --disk "$BATS_TEST_TMPDIR" >table
    grep -qE '^curl \(no digest\) .* 1\.00 .* MiB$' table
    grep -qE '^hf-fetch  .* MiB$' table
    grep -qE '^hf-fetch --jobs 1 .* MiB$' table
}
