# The packers: output appears complete or not at all, and others can read it.

load convert_helpers

setup_file() {
    export LC_ALL=C.UTF-8
}

teardown() {
    cd /
    if [[ -n ${mounted:-} ]]; then
        umount "$mounted"
    fi
    if [[ -n ${scratch:-} ]]; then
        rm -rf "$scratch"
    fi
}

xser() { # model, output, ckpt-pack-xser option…
    ckpt-unpack "$1" | ckpt-shard --tp-size 2 --pp-size 2 | ckpt-fuse-qkv | ckpt-pack-xser "${@:3}" "$2"
}

small_disk() { # options: mounts a tmpfs at disk/, or skips the test
    mkdir disk
    mount -t tmpfs -o "$1" none disk 2>err || skip "cannot mount a tmpfs here: $(<err)"
    mounted=$PWD/disk
}

need_memory() { # directory, GB: that much room in memory, or skips the test
    local room
    room=$(awk '/^MemAvailable/ { print int($2 / 1000000) }' /proc/meminfo)
    [[ $(stat -f -c %T "$1") == tmpfs ]] || skip "$1 is not in memory"
    (($(df --output=avail -BG "$1" | tr -dc 0-9) > $2 && room > $2)) || skip "less than $2 GB of memory are free"
}

# ---- what is there already ----

@test "an output directory that is not empty is refused and stays as it is" {
    local program
    model m
    mkdir out
    echo mine >out/file
    for program in ckpt-pack-xser ckpt-pack-pt; do
        fails_with_one_line 1 'out: is there and is not empty.*--force' \
            "ckpt-unpack m | ckpt-shard -t 1 | ckpt-fuse-qkv | $program out"
        [[ $(ls -A out) == file && $(<out/file) == mine ]]
    done
    fails_with_one_line 1 'out: is there and is not empty' \
        "checkpoint_converter.sh --convert_from_full_state --hw_backend trn1 --input_dir m --output_dir out --save_xser"
    [[ $(ls -A out) == file ]]
}

@test "an output directory that is empty is used" {
    model m
    mkdir out
    xser m out
    [[ $(cd out && echo .[!.]* *) == ".[!.]* checkpoint done model" ]]
    mkdir here
    (cd here && ckpt-unpack ../m | ckpt-shard -t 1 | ckpt-pack-pt .)
    [[ $(cd here && echo .[!.]* *) == ".[!.]* checkpoint done model" ]]
}

@test "a file that is there is refused and stays as it is" {
    model m
    echo mine >out.pt
    fails_with_one_line 1 'out.pt: is there already.*--force' "ckpt-unpack m | ckpt-pack-pt out.pt"
    [[ $(<out.pt) == mine ]]
    ckpt-unpack m | ckpt-pack-pt --force out.pt
    same <(sums out.pt) <(sums m)
}

@test "--force replaces only what it writes" {
    model m
    model other --layers 4 --hidden 64
    xser other out
    echo mine >out/file
    mkdir out/logs
    echo mine >out/logs/file
    xser m out --force
    xser m fresh
    [[ $(<out/file)$(<out/logs/file) == minemine ]]
    rm -r out/file out/logs
    diff -r out fresh
    [[ -z $(find . -name '.ckpt-*') ]]
}

@test "--force that fails leaves the old checkpoint as it was" {
    model m
    model other --layers 4 --hidden 64
    xser other out
    cp -r out before
    ckpt-unpack m | ckpt-shard --tp-size 2 --by-reference | cat >stream
    touch m/model.safetensors
    fails_with_one_line 1 'changed' "ckpt-pack-xser --force out <stream"
    diff -r out before
    fails_with_one_line 1 'changed' "ckpt-pack-pt --force out <stream"
    diff -r out before
    [[ -z $(find . -name '.*ckpt-*') ]]
}

rename_shim() { # makes the library that lets rename() fail, or skips the test
    ! instrumented || skip "a preloaded library and AddressSanitizer exclude each other"
    "${CC:-cc}" -shared -fPIC -o shim.so "$TESTS/rename_shim.c" -ldl
}

@test "--force puts the old checkpoint back when it cannot be replaced entirely" {
    local n
    rename_shim
    model m
    model other --layers 4 --hidden 64
    xser other out
    xser m new
    cp -r out before
    ckpt-unpack m | ckpt-shard --tp-size 2 --pp-size 2 | ckpt-fuse-qkv --by-reference >stream
    for ((n = 1; n <= 6; n++)); do
        fails_with_one_line 1 'out/(done|checkpoint|model): cannot' \
            "LD_PRELOAD=./shim.so RENAME_FAIL=$n ckpt-pack-xser --force out <stream"
        diff -r out before
        [[ -z $(find . -name '.*ckpt-*') ]]
    done
    LD_PRELOAD=./shim.so RENAME_FAIL=7 ckpt-pack-xser --force out <stream
    diff -r out new
}

@test "a signal comes before or after an old checkpoint is replaced, never between" {
    local packer status signal
    rename_shim
    model m
    model other --layers 4 --hidden 64
    xser m new
    ckpt-unpack m | ckpt-shard --tp-size 2 --pp-size 2 | ckpt-fuse-qkv --by-reference >stream
    for signal in TERM HUP; do
        rm -rf out
        xser other out
        LD_PRELOAD=./shim.so RENAME_MS=100 "$(command -v ckpt-pack-xser)" --force out <stream &
        packer=$!
        while [[ -e out/done ]]; do
            kill -0 $packer
        done
        kill -$signal $packer
        status=0
        wait $packer || status=$?
        ((status == 0 || status == 128 + $(kill -l $signal)))
        diff -r out new
        [[ -z $(find . -name '.*ckpt-*') ]]
    done
}

@test "what has come to a new output meanwhile is not replaced without --force" {
    model m
    model other --layers 4
    mkdir empty
    ckpt-unpack --inline m >stream
    ckpt-shard -t 1 <stream | ckpt-fuse-qkv >sharded
    slowly() { # stream, program…: the program gets the stream's end when the file go is there
        (head -c 1000 "$1" && until [[ -e go ]]; do sleep 0.02; done && tail -c +1001 "$1") | "${@:2}"
    }
    meanwhile() { # output, stream, program…
        local status=0
        slowly "${@:2}" "$1" 2>err &
        sleep 0.3
        if [[ $2 == stream ]]; then
            ckpt-unpack other | "${@:3}" "$1"
        else
            ckpt-unpack other | ckpt-shard -t 1 | ckpt-fuse-qkv | "${@:3}" "$1"
        fi
        cp -r "$1" before
        touch go
        wait $! || status=$?
        [[ $status == 1 && $(wc -l <err) == 1 ]]
        grep -q 'has come meanwhile; remove it, or replace it with --force' err
        diff -r "$1" before
        [[ -z $(find . -name '.*ckpt-*') ]]
        rm -rf before go
    }
    meanwhile m.pt stream ckpt-pack-pt
    meanwhile safe stream ckpt-pack-safetensors
    meanwhile nxdt sharded ckpt-pack-xser
    slowly sharded ckpt-pack-xser empty 2>err &
    sleep 0.3
    mkdir empty/model
    touch empty/model/precious go
    ! wait $! || false
    grep -q 'empty/model: has come meanwhile' err
    [[ $(find empty -mindepth 1 | sort) == $'empty/model\nempty/model/precious' ]]
}

@test "a checkpoint can replace itself" {
    model m
    ckpt-unpack m | ckpt-pack-pt m.pt
    ckpt-unpack m.pt | ckpt-pack-pt --force m.pt
    same <(sums m.pt) <(sums m)
    ckpt-unpack m | ckpt-shard -t 2 | ckpt-fuse-qkv | ckpt-pack-pt out
    sums out >before
    ckpt-unpack out | ckpt-pack-xser --force out
    same <(sums out) before
    [[ -d out/model/dp_rank_00_tp_rank_00_pp_rank_00.pt.tensors ]]
}

# ---- targets ----

@test "a target that cannot be a checkpoint is refused" {
    model m
    echo x >file
    fails_with_one_line 1 'file: is there and is not a directory' "ckpt-unpack m | ckpt-shard -t 1 | ckpt-pack-xser file"
    fails_with_one_line 1 'file: is there and is not a directory' "ckpt-unpack m | ckpt-shard -t 1 | ckpt-pack-pt --force file"
    fails_with_one_line 1 'file: is not a directory' "ckpt-unpack m | ckpt-shard -t 1 | ckpt-pack-pt file/out"
    fails_with_one_line 1 '/dev/null: is not a regular file' "ckpt-unpack m | ckpt-pack-pt --force /dev/null"
    [[ -c /dev/null && $(<file) == x ]]
    mkdir -p dir/checkpoint.pt
    fails_with_one_line 1 'dir/checkpoint.pt: is a directory' "ckpt-unpack m | ckpt-pack-pt --force dir"
    fails_with_one_line 2 'where to write is missing' "ckpt-pack-pt </dev/null"
    fails_with_one_line 2 'one output is all there can be' "ckpt-pack-pt a b </dev/null"
    fails_with_one_line 2 'one output is all there can be' "ckpt-pack-pt --output a b </dev/null"
    fails_with_one_line 2 'where to write is missing' "ckpt-pack-pt '' </dev/null"
    fails_with_one_line 2 'where to write is missing' "ckpt-pack-xser --output '' </dev/null"
    [[ -z $(find . -name '*ckpt-*') ]]
}

@test "a whole model goes into the file that is named, or into checkpoint.pt of a directory" {
    model m
    mkdir there
    ckpt-unpack m | ckpt-pack-pt there
    ckpt-unpack m | ckpt-pack-pt new/
    ckpt-unpack m | ckpt-pack-pt deep/er/model.bin
    ckpt-unpack m | ckpt-pack-pt -o plain
    ckpt-unpack m | ckpt-pack-pt "./with space
and line.pt"
    for file in there/checkpoint.pt new/checkpoint.pt deep/er/model.bin plain with*line.pt; do
        same <(sums "$file") <(sums m)
    done
    [[ $(unzip -Z1 deep/er/model.bin | cut -d / -f 1 | sort -u) == model ]]
}

@test "parent directories are made, and go again when it fails" {
    model m
    ckpt-unpack --by-reference m >stream
    mkdir -p a/b
    touch m/model.safetensors
    fails_with_one_line 1 changed "ckpt-pack-pt a/b/c/d/out.pt <stream"
    [[ -d a/b && ! -e a/b/c ]]
    fails_with_one_line 1 changed "ckpt-shard -t 1 <stream | ckpt-pack-xser a/b/c/d/out"
    [[ -d a/b && ! -e a/b/c ]]
    xser m a/b/c/d/out/
    [[ -e a/b/c/d/out/done ]]
}

@test "files have the permissions that umask leaves" {
    model m
    (umask 027 && xser m out && ckpt-unpack m | ckpt-pack-pt new/out.pt)
    [[ $(find out new -type f -printf '%m\n' | sort -u) == 640 ]]
    [[ $(find out new -type d -printf '%m\n' | sort -u) == 750 ]]
}

@test "ckpt-pack-xser refuses a model that is not sharded" {
    model m
    fails_with_one_line 1 'not sharded.*ckpt-shard before' "ckpt-unpack m | ckpt-pack-xser out"
    nothing_at out
}

@test "a rank without tensors is an error" {
    model m --layers 2 --without lm_head --without model.norm
    fails_with_one_line 1 'dp_rank_00_tp_rank_00_pp_rank_01: the stream has no tensor for this rank' \
        "ckpt-unpack m | ckpt-shard -t 1 -p 2 --inline | python3 $TESTS/streams.py without layers.1. | ckpt-pack-pt out"
    nothing_at out
}

# ---- failing half-way ----

@test "a full disk is found before the first byte when the size is known" {
    model m --sparse --hidden 512 --intermediate 2048 --vocab 8000
    small_disk size=8m
    fails_with_one_line 1 'disk/out.pt: no room: [0-9]+ bytes are needed and [0-9]+ are free' "ckpt-unpack m | ckpt-pack-pt disk/out.pt"
    fails_with_one_line 1 'disk/out: no room' "ckpt-unpack m | ckpt-shard -t 2 | ckpt-fuse-qkv | ckpt-pack-xser disk/out"
    [[ -z $(ls -A disk) ]]
}

@test "a disk without inodes is found before the first byte" {
    model m --layers 8
    small_disk size=64m,nr_inodes=50
    fails_with_one_line 1 'disk/out: no room: [0-9]+ files are needed and [0-9]+ are free' "ckpt-unpack m | ckpt-shard -t 2 | ckpt-fuse-qkv | ckpt-pack-xser disk/out"
    [[ -z $(ls -A disk) ]]
}

@test "a disk that is full in the middle of an inline stream leaves nothing" {
    model m --sparse --hidden 512 --intermediate 2048 --vocab 8000
    small_disk size=8m
    fails_with_one_line 1 'No space left on device' "ckpt-unpack --inline m | ckpt-pack-pt disk/out.pt"
    fails_with_one_line 1 'No space left on device' "ckpt-unpack --inline m | ckpt-shard -t 2 | ckpt-fuse-qkv | ckpt-pack-xser disk/out"
    [[ -z $(ls -A disk) ]]
}

@test "a saved stream on a full disk is an error of one line" {
    model m --sparse --hidden 512 --intermediate 2048 --vocab 8000
    small_disk size=8m
    fails_with_one_line 1 'cannot write to standard output: No space left on device' "ckpt-unpack m >disk/saved"
    fails_with_one_line 1 'No space left on device' "ckpt-unpack m | ckpt-ls >/dev/full"
    fails_with_one_line 1 'No space left on device' "ckpt-unpack m | ckpt-sum >/dev/full"
    fails_with_one_line 1 'No space left on device' "ckpt-unpack --by-reference m >/dev/full"
}

@test "a read-only file system is an error of one line" {
    model m
    small_disk size=8m
    mkdir disk/empty
    mount -o remount,ro disk
    fails_with_one_line 1 'disk/out.pt: cannot make a file for the output: Read-only file system' "ckpt-unpack m | ckpt-pack-pt disk/out.pt"
    fails_with_one_line 1 'Read-only file system' "ckpt-unpack m | ckpt-pack-pt disk/new/out.pt"
    fails_with_one_line 1 'Read-only file system' "ckpt-unpack m | ckpt-shard -t 1 | ckpt-pack-xser disk/out"
    fails_with_one_line 1 'Read-only file system' "ckpt-unpack m | ckpt-shard -t 1 | ckpt-pack-xser disk/empty"
}

@test "what may not be read or written is an error of one line" {
    ((EUID == 0)) || skip "not root, so it cannot become another user"
    scratch=$(mktemp -d /tmp/ckpt-test.XXXXXX)
    local here=$scratch other="setpriv --reuid 65534 --regid 65534 --clear-groups env PATH=$PATH"
    model "$here/m"
    cp "$here/m/model.safetensors" "$here/secret.safetensors"
    mkdir "$here/mine"
    chmod 755 "$here"
    chmod 600 "$here/secret.safetensors"
    chmod 711 "$here/mine"
    $other ckpt-ls --version || skip "another user cannot run the programs"
    fails_with_one_line 1 'secret.safetensors: cannot open: Permission denied' \
        "$other ckpt-unpack $here/secret.safetensors | ckpt-ls"
    fails_with_one_line 1 "$here/out.pt: cannot make a file for the output: Permission denied" \
        "ckpt-unpack $here/m | $other ckpt-pack-pt $here/out.pt"
    fails_with_one_line 1 'mine: cannot open the directory: Permission denied' \
        "ckpt-unpack $here/m | ckpt-shard -t 1 | $other ckpt-pack-xser $here/mine"
}

interrupt() { # signal, packer, target: in the middle of the copy
    local packer status=0
    [[ -e m ]] || model m --sparse --layers 4 --hidden 2048 --intermediate 32768 --vocab 32000 # 0.8 GB
    rm -rf place && mkdir place
    (exec env --default-signal="$1" "$2" --jobs 2 "place/$3") <stream 2>err &
    packer=$!
    until find place -name '*.pt*' -size +1M | grep -q .; do
        kill -0 $packer
    done
    kill -"$1" $packer
    wait $packer || status=$?
    ((status == 128 + $(kill -l "$1")))
    [[ -z $(find place -mindepth 1) && ! -s err ]] || {
        find place | head
        cat err
        return 1
    }
}

@test "an interrupted packer leaves nothing and dies of the signal" {
    local signal
    model m --sparse --layers 4 --hidden 2048 --intermediate 32768 --vocab 32000 # 0.8 GB
    ckpt-unpack --by-reference m >stream
    for signal in INT TERM HUP; do
        interrupt $signal ckpt-pack-pt a/b/out.pt
    done
    ckpt-shard --tp-size 2 --by-reference <stream >s && mv s stream
    interrupt TERM ckpt-pack-xser a/b/out
    interrupt INT ckpt-pack-pt a/b/out
}

@test "a packer that nohup started is not interrupted by a hang-up" {
    local packer
    model m --sparse --layers 2 --hidden 2048 --intermediate 16384 --vocab 32000
    ckpt-unpack --by-reference m >stream
    (exec nohup ckpt-pack-pt --jobs 1 out.pt) <stream >/dev/null 2>&1 &
    packer=$!
    until find . -name '.out.pt.*' -size +1M | grep -q .; do
        kill -0 $packer
    done
    kill -HUP $packer
    wait $packer
    [[ -s out.pt ]]
}

@test "a signal at any moment leaves a whole checkpoint or none, and success means a whole one" {
    local files made packer status round
    model m --layers 60 --heads 16 --kv 8 --hidden 64
    ckpt-unpack m | ckpt-shard -t 16 -p 4 --qkv-linear -m 2 --hw-backend trn1 | ckpt-fuse-qkv --by-reference >stream
    ckpt-pack-xser whole <stream
    files=$(find whole -type f | wc -l)
    for ((round = 0; round < 16; round++)); do
        ckpt-pack-xser --jobs $((round % 3 + 1)) out <stream 2>err &
        packer=$!
        sleep "0.$(printf %03d $((20 + round * 20)))"
        kill $packer 2>/dev/null || true
        status=0
        wait $packer || status=$?
        made=$([[ ! -e out ]] || find out -type f | wc -l)
        case $status:${made:-0} in
        0:$files | 143:$files | 143:0) ;;
        *) echo "after round $round: status $status, ${made:-0} of $files files" && return 1 ;;
        esac
        [[ ! -s err && -z $(find . -name '.*ckpt-*') ]] || { ls -A && cat err && return 1; }
        rm -rf out
    done
}

@test "a packer that fails leaves what others have put beside its output" {
    model m
    ckpt-unpack --inline m >stream
    (head -c 5000 stream && until [[ -e go ]]; do sleep 0.02; done) | ckpt-pack-pt new/parent/a.pt 2>err &
    until [[ -e new/parent ]]; do sleep 0.02; done
    ckpt-pack-pt new/b.pt <stream
    touch go
    ! wait $! || false
    grep -q 'ends early' err
    [[ $(find new -mindepth 1) == new/b.pt ]]
    same <(sums new/b.pt) <(sums m)
}

@test "a limit of the file size and a closed standard error leave nothing behind" {
    model m
    ckpt-unpack --inline m >stream
    fails_with_one_line 1 'cannot write: File too large' "ulimit -f 10; ckpt-pack-pt out.pt <stream"
    nothing_at out.pt
    head -c 5000 stream | (ckpt-pack-pt out.pt 2>&1 || echo $? >status) | true
    until [[ -s status ]]; do sleep 0.02; done
    [[ $(<status) == 1 ]]
    nothing_at out.pt
}

@test "a name as long as names may be is no obstacle" {
    local name
    model m
    name=$(printf 'x%.0s' {1..252}).pt
    ckpt-unpack m | ckpt-pack-pt "$name"
    same <(sums "$name") <(sums m)
}

# ---- what is written ----

@test "archives pass unzip -t and Python's zipfile, with payloads at multiples of 64 bytes" {
    local file
    model m --bias --inv-freq layers --extra model.layers.0.scale:F32: --extra model.layers.0.none:F32:0
    xser m xser
    ckpt-unpack m | ckpt-shard -t 2 | ckpt-fuse-qkv | ckpt-pack-pt plain
    ckpt-unpack m | ckpt-pack-pt whole.pt
    python3 "$TESTS/archive_check.py" xser plain whole.pt
    find . -name '*.pt' | while read -r file; do
        unzip -tqq "$file" || echo "$file"
    done >bad
    [[ ! -s bad ]]
    "$torch_python" "$TESTS/torch_digest.py" whole.pt | same <(tsv m) -
}

@test "the number of threads does not change a byte" {
    local jobs
    model m --hidden 64 --layers 6 --intermediate 256
    for jobs in 1 2 8; do
        xser m "xser$jobs" --jobs $jobs
        ckpt-unpack m | ckpt-pack-pt --jobs $jobs "whole$jobs/checkpoint.pt"
        diff -r "xser$jobs" xser1
        diff -r "whole$jobs" whole1
    done
}

@test "tensors larger than a thread's share are put together right" {
    local jobs
    # 150 MB in one tensor: pieces of it are copied by several threads.
    model m --layers 1 --hidden 512 --heads 4 --kv 4 --intermediate 1024 --vocab 150000
    sums m >expected
    for jobs in 1 2 7; do
        ckpt-unpack m | ckpt-pack-pt --jobs $jobs $jobs/model.pt
        same <(sums $jobs/model.pt) expected
        cmp $jobs/model.pt 1/model.pt
    done
    python3 "$TESTS/archive_check.py" 1
}

@test "non-contiguous tensors are written contiguous, with the bytes that PyTorch has" {
    local file
    for file in fortran_tensor_3d.pth non_contiguous_indexes.pt legacy_shared_storage.pt; do
        ckpt-unpack "$TESTS/foreign/$file" | ckpt-pack-pt "$file"
        "$torch_python" "$TESTS/torch_digest.py" "$file" | same "$TESTS/foreign/$file.tsv" -
    done
}

@test "more than 65,535 tensors in one file: zip64" {
    python3 - <<'END'
import json, os, struct
n = 70000
header = json.dumps({f"t.{i}": {"dtype": "I64", "shape": [1], "data_offsets": [8 * i, 8 * i + 8]} for i in range(n)}).encode()
with open("many.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header + struct.pack(f"<{n}q", *range(n)))
END
    ckpt-unpack many.safetensors | ckpt-pack-pt many.pt
    unzip -tqq many.pt
    python3 "$TESTS/archive_check.py" many.pt
    same <(sums many.pt) <(sums many.safetensors)
    "$torch_python" -c '
import torch
state = torch.load("many.pt")
assert len(state) == 70000
assert all(int(state[f"t.{i}"]) == i for i in range(70000))'
}

@test "an entry larger than 4 GiB, of more than 2^32 elements, and what comes behind it: zip64" {
    [[ -d /dev/shm ]] || skip "there is no /dev/shm"
    need_memory /dev/shm 6
    scratch=$(mktemp -d /dev/shm/ckpt-test.XXXXXX)
    cd "$scratch"
    model m --sparse --without model. --without lm_head --extra big:I8:4402341478 # 4.1 GiB of holes
    mv m/model.safetensors m/big.safetensors
    model s --without model. --without lm_head --extra small:I64:5
    mv s/model.safetensors m/small.safetensors
    echo '{"weight_map": {"big": "big.safetensors", "small": "small.safetensors"}}' >m/model.safetensors.index.json
    ckpt-unpack m | ckpt-pack-pt big.pt
    same <(ckpt-unpack big.pt | ckpt-ls) <(ckpt-unpack m | ckpt-ls)
    same <(ckpt-unpack big.pt | ckpt-sum | grep small) <(ckpt-unpack m/small.safetensors | ckpt-sum)
    python3 - <<'END'
import struct, zipfile, zlib

SIZE = 4402341478
archive = zipfile.ZipFile("big.pt")
big, small = archive.getinfo("big/data/0"), archive.getinfo("big/data/1")
assert big.file_size == SIZE
block, crc = bytes(1 << 20), 0
for at in range(0, SIZE, len(block)):
    crc = zlib.crc32(block[:SIZE - at], crc)
assert big.CRC == crc
assert small.header_offset > 1 << 32
assert archive.read(small) == open("m/small.safetensors", "rb").read()[-40:]
archive.read("big/data.pkl")
with open("big.pt", "rb") as file: # the local header has the sizes in its zip64 field, and the payload is aligned
    header = file.read(30)
    name, extra = struct.unpack("<HH", header[26:])
    assert (30 + name + extra) % 64 == 0
    file.seek(30 + name)
    assert struct.unpack("<HHQQ", file.read(20)) == (1, 16, SIZE, SIZE)
END
}
