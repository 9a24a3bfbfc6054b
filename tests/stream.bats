# The stream between filters: what a reader does with one that is cut, damaged, stale, or whose writer failed.

load convert_helpers

tiny() { # a model of a few hundred bytes of stream
    model tiny --layers 1 --hidden 4 --heads 2 --kv 1 --intermediate 4 --vocab 4 --without self_attn --without mlp
}

# Every cut of a stream ends both readers with status 1 and one line, and leaves nothing.
check_cuts() { # stream, step of ckpt-ls, step of ckpt-pack-pt
    local n size
    size=$(stat -c %s "$1")
    mkdir cuts
    check_cut() { # bytes, program…
        local status=0
        head -c "$1" "$2" | "${@:3}" >cuts.out 2>cuts.err || status=$?
        if ((status != 1)) || (($(wc -l <cuts.err) != 1)) || [[ -s cuts.out || $(ls -A cuts) ]]; then
            echo "$3 with $1 of $size bytes: status $status, $(cat cuts.err cuts.out), $(ls -A cuts)"
            return 1
        fi
    }
    for ((n = 0; n < size; n += $2)); do
        check_cut $n "$1" ckpt-ls
    done
    for ((n = 0; n < size; n += $3)); do
        check_cut $n "$1" ckpt-pack-pt cuts/out.pt
    done
    check_cut $((size - 1)) "$1" ckpt-pack-pt cuts/out.pt
    ckpt-pack-pt cuts/out.pt <"$1"
}

@test "a stream by reference that is cut at any byte is an error of one line, and leaves nothing" {
    tiny
    ckpt-unpack --by-reference tiny >stream
    check_cuts stream 3 13
}

@test "an inline stream that is cut at any byte is an error of one line, and leaves nothing" {
    tiny
    ckpt-unpack --inline tiny >stream
    check_cuts stream 3 13
}

@test "a sharded stream that is cut is an error of one line for every program" {
    local program n size
    model m
    ckpt-unpack --inline m | ckpt-shard --tp-size 2 --inline | ckpt-fuse-qkv >stream
    size=$(stat -c %s stream)
    for program in "ckpt-split-qkv >piece" "ckpt-merge >piece" "ckpt-fuse-qkv >piece" "ckpt-pack-xser out" \
        "ckpt-pack-pt out" "ckpt-sum >piece"; do
        for n in 0 11 12 300 $((size / 2)) $((size - 40)) $((size - 1)); do
            fails_with_one_line 1 'ends early|nothing on standard input|not whole|fused' \
                "head -c $n stream | $program"
            nothing_at out
        done
    done
}

@test "a damaged or hostile stream is an error of one line for every reader" {
    local file program status
    python3 "$TESTS/streams.py" broken broken "$golden/models/llama-gqa/pytorch_model.bin"
    (($(find broken -type f | wc -l) > 100))
    ! instrumented || rm broken/data-1-tib.stream broken/data-8-eib.stream
    for file in broken/*; do
        for program in ckpt-ls "ckpt-pack-pt out.pt" ckpt-merge; do
            status=0
            timeout 20 $program <"$file" >out 2>err || status=$?
            if ((status != 1)) || (($(wc -l <err) != 1)) || [[ -e out.pt ]]; then
                echo "$program <$file: status $status, $(head -c 500 err)"
                return 1
            fi
        done
    done
}

@test "unusual streams that are right are read" {
    local file
    python3 "$TESTS/streams.py" good good "$golden/models/llama-gqa/pytorch_model.bin"
    for file in good/*; do
        ckpt-ls <"$file" >/dev/null
        ckpt-sum <"$file" >/dev/null
        ckpt-pack-pt "$file.pt" <"$file"
        [[ $file == good/no-tensors.stream ]] || same <(ckpt-sum --tsv <"$file") <(tsv "$file.pt")
    done
    [[ $(ckpt-ls <good/odd-name.stream | tail -1) == 'ü??[31m"\  uint8  [2]        2' ]]
}

@test "errors of a stream say what is wrong" {
    python3 "$TESTS/streams.py" broken broken "$golden/models/llama-gqa/pytorch_model.bin"
    fails_with_one_line 1 'nothing on standard input: expected a tensor stream' "ckpt-ls <broken/empty.stream"
    fails_with_one_line 1 'not a tensor stream: .*make one with ckpt-unpack' "ckpt-ls <broken/text.stream"
    fails_with_one_line 1 'has version 2, but this program knows version 1' "ckpt-ls <broken/version-2.stream"
    fails_with_one_line 1 'end counts 2 tensors of 2 bytes, but 1 of 2 came' "ckpt-ls <broken/end-tensors.stream"
    fails_with_one_line 1 'there is more behind its end' "ckpt-ls <broken/trailing-stream.stream"
    fails_with_one_line 1 'ends at 357287, but the data ends at 357286|bytes end at 357287' \
        "ckpt-ls <broken/offset-at-end.stream"
    fails_with_one_line 1 'ckpt-sum: .*ends early' "head -c 100 broken/no-end.stream | ckpt-sum"
}

@test "a checkpoint given to a filter that reads a stream is an error that names ckpt-unpack" {
    fails_with_one_line 1 'make one with ckpt-unpack' "ckpt-ls <$golden/models/llama-gqa/pytorch_model.bin"
    fails_with_one_line 2 'ckpt-unpack x' "ckpt-ls x </dev/null"
}

# ---- who failed ----

@test "when the first program of a pipeline fails, there is one line and every status is 1" {
    local status
    ckpt-unpack not-there 2>>err | ckpt-shard --tp-size 2 2>>err | ckpt-fuse-qkv 2>>err | ckpt-split-qkv 2>>err |
        ckpt-merge 2>>err | ckpt-pack-pt out.pt 2>>err || status="${PIPESTATUS[*]}"
    [[ $status == "1 1 1 1 1 1" ]]
    [[ $(<err) == "ckpt-unpack: not-there: cannot open: No such file or directory" ]]
    nothing_at out.pt
}

@test "when a program in the middle fails, there is one line" {
    model m --heads 4 --kv 2
    fails_with_one_line 1 'ckpt-shard: .*3' \
        "ckpt-unpack m | ckpt-shard --tp-size 3 | ckpt-fuse-qkv | ckpt-pack-xser out"
    nothing_at out
    fails_with_one_line 1 'ckpt-merge: .*not sharded' \
        "ckpt-unpack m | ckpt-split-qkv | ckpt-merge | ckpt-shard --tp-size 2 | ckpt-pack-pt out"
    nothing_at out
    fails_with_one_line 1 'ckpt-shard: --tp-size is missing' "ckpt-unpack m | ckpt-shard | ckpt-pack-pt out"
    nothing_at out
}

@test "when a program fails inside a tensor's data, there is one line" {
    model m --hidden 256 --vocab 2000
    ckpt-unpack --by-reference m >stream
    touch m/*.safetensors
    fails_with_one_line 1 'ckpt-shard: .*changed while' \
        "cat stream | ckpt-shard --tp-size 2 --inline | ckpt-fuse-qkv | ckpt-pack-xser out"
    nothing_at out
    fails_with_one_line 1 'ckpt-shard: .*changed while' "cat stream | ckpt-shard --tp-size 2 --inline | head -c 5000"
}

@test "when the last program fails, there is one line, also inline" {
    model m --hidden 256 --vocab 2000
    mkdir out
    touch out/something
    fails_with_one_line 1 'ckpt-pack-pt: .*not empty' \
        "ckpt-unpack m | ckpt-shard --tp-size 2 | ckpt-fuse-qkv | ckpt-pack-pt out"
    fails_with_one_line 1 'ckpt-pack-pt: .*not empty' \
        "ckpt-unpack --inline m | ckpt-shard --tp-size 2 | ckpt-fuse-qkv | ckpt-pack-pt out"
    [[ $(ls -A out) == something ]]
}

@test "a stream saved by a program that failed says so later" {
    model m --without layers.0
    fails_with_one_line 1 'layer 0 of 2 is missing' "ckpt-unpack m | ckpt-shard --tp-size 1 --inline >saved"
    fails_with_one_line 1 'not whole: the program that wrote it failed' "ckpt-ls <saved"
}

@test "a producer that is killed is not taken for one that finished" {
    local producer status=0
    model m --hidden 512 --vocab 5000
    mkfifo pipe
    ckpt-unpack --inline m >pipe &
    producer=$!
    # It has more to say than a pipe holds, so it is still there when it is killed.
    { head -c 100000 && kill -KILL $producer && cat; } <pipe | ckpt-pack-pt out.pt 2>err || status=$?
    ((status == 1))
    [[ $(<err) == *"ends early: the program before this one died"* && $(wc -l <err) == 1 ]]
    nothing_at out.pt
}

@test "a reader that needs only the beginning ends its writers without a word" {
    model m --hidden 256 --vocab 2000
    ckpt-unpack --inline m 2>err | ckpt-shard --tp-size 2 2>>err | head -c 1000 >/dev/null
    [[ ! -s err ]]
}

# ---- references ----

check_stale() { # pattern, command that changes m/model.safetensors
    rm -rf m
    model m
    ckpt-unpack --by-reference m >stream
    ckpt-sum <stream >/dev/null
    eval "$2"
    fails_with_one_line 1 "m/model.safetensors: ($1)" "ckpt-pack-pt out.pt <stream"
    nothing_at out.pt
    fails_with_one_line 1 "m/model.safetensors: ($1)" \
        "ckpt-shard --tp-size 2 <stream | ckpt-fuse-qkv | ckpt-pack-xser out"
    nothing_at out
    fails_with_one_line 1 "m/model.safetensors: ($1)" "ckpt-sum <stream >sums"
    fails_with_one_line 1 "m/model.safetensors: ($1)" "ckpt-shard --tp-size 2 --inline <stream >inline"
    not ckpt-ls <inline
}

@test "a file that was touched between unpack and pack is an error" {
    check_stale 'changed.*ckpt-unpack --inline' 'touch m/model.safetensors'
}

@test "a file that was replaced between unpack and pack is an error" {
    check_stale 'is not the file.*ckpt-unpack --inline' \
        'cp -p m/model.safetensors copy && mv copy m/model.safetensors'
}

@test "a file that was cut between unpack and pack is an error" {
    check_stale 'changed.*ckpt-unpack --inline' 'truncate -s -1 m/model.safetensors'
}

@test "a file that is gone between unpack and pack is an error" {
    check_stale 'cannot open' 'rm m/model.safetensors'
}

@test "a file that became a directory between unpack and pack is an error" {
    check_stale 'is not the file|changed' 'rm m/model.safetensors && mkdir m/model.safetensors'
}

@test "a file that changes while it is copied is an error, and leaves nothing" {
    local status=0 packer
    model m --sparse --layers 4 --hidden 2048 --intermediate 32768 --vocab 32000 # 0.8 GB
    mkdir here
    ckpt-unpack m | ckpt-pack-pt --jobs 1 here/out.pt 2>err &
    packer=$!
    until find here -name '.out.pt.ckpt-*' -size +1M | grep -q .; do
        kill -0 $packer
    done
    touch m/model.safetensors
    wait $packer || status=$?
    ((status == 1))
    [[ $(<err) == *"model.safetensors: changed while it was being converted"* && $(wc -l <err) == 1 ]]
    [[ -z $(ls -A here) ]]
}

@test "comparing replicas notices a changed file, too" {
    model m
    ckpt-unpack m | ckpt-shard --tp-size 4 -m 2 --qkv-linear --hw-backend trn1 | ckpt-fuse-qkv | ckpt-pack-pt out
    ckpt-unpack --by-reference out | ckpt-split-qkv --config m/config.json --by-reference >stream
    touch out/model/dp_rank_00_tp_rank_02_pp_rank_00.pt
    fails_with_one_line 1 'tp_rank_02_pp_rank_00.pt: changed' \
        "ckpt-merge --hw-backend trn1 <stream | ckpt-pack-pt back.pt"
    nothing_at back.pt
}

@test "references of another machine or boot are refused, with the way out" {
    local here there=00000000-0000-0000-0000-000000000000
    here=$(</proc/sys/kernel/random/boot_id)
    model m
    ckpt-unpack --by-reference m | sed "s/$here/$there/" >stream
    fails_with_one_line 1 'm/model.safetensors as it was on another machine.*--inline' "ckpt-pack-pt out.pt <stream"
    nothing_at out.pt
    ckpt-unpack --inline m | sed "s/$here/$there/" >stream
    same <(tsv m) <(ckpt-sum --tsv <stream)
}

# ---- by reference or inline ----

is_inline() { # whether a stream holds the tensors themselves
    (($(stat -c %s "$1") > 100000))
}

@test "a pipe gets references, a file gets the tensors, and options change that" {
    model m --hidden 128 --vocab 500
    ckpt-unpack m | cat >piped
    not is_inline piped
    ckpt-unpack m >saved
    is_inline saved
    ckpt-unpack --inline m | cat >piped
    is_inline piped
    ckpt-unpack --by-reference m >saved
    not is_inline saved
    ckpt-shard --tp-size 2 <piped | cat >again # what came inline goes on inline
    is_inline again
    ckpt-unpack m | ckpt-shard --tp-size 2 >saved
    is_inline saved
    same <(ckpt-sum <again) <(ckpt-sum <saved)
}

@test "a socket gets the tensors" {
    model m --hidden 128 --vocab 500
    python3 - >saved <<'END'
import socket, subprocess, sys
here, there = socket.socketpair()
process = subprocess.Popen(["ckpt-unpack", "m"], stdout=there)
there.close()
while block := here.recv(1 << 16):
    sys.stdout.buffer.write(block)
sys.exit(process.wait())
END
    is_inline saved
    same <(tsv m) <(ckpt-sum --tsv <saved)
}

@test "what came inline cannot go on by reference" {
    model m
    fails_with_one_line 1 'came inline.*leave out --by-reference' \
        "ckpt-unpack --inline m | ckpt-shard --tp-size 2 --by-reference | ckpt-pack-pt out"
    nothing_at out
    fails_with_one_line 2 'exclude each other' "ckpt-unpack --inline --by-reference m"
}

@test "a terminal gets no stream" {
    model m
    not script -qec "ckpt-unpack m" screen >/dev/null
    [[ $(grep -a ckpt-unpack: screen) == *"standard output is a terminal"* ]]
    not grep -qa CKPTSTRM screen
    not script -qec "ckpt-unpack --inline m" screen >/dev/null
    not grep -qa CKPTSTRM screen
    not script -qec "ckpt-unpack m | ckpt-shard --tp-size 2" screen >/dev/null
    [[ $(grep -ca 'is a terminal' screen) == 1 ]]
    not grep -qa CKPTSTRM screen
}

@test "a saved stream, compressed or not, is the model" {
    model m --bias
    ckpt-unpack m >saved
    rm -rf elsewhere && mkdir elsewhere
    zstd -q saved -o elsewhere/saved.zst
    zstd -q --long=27 -19 saved -o elsewhere/strong.zst
    tsv m >expected
    rm -r m
    ckpt-sum --tsv <saved | same expected -
    ckpt-sum --tsv <elsewhere/saved.zst | same expected -
    ckpt-sum --tsv <elsewhere/strong.zst | same expected -
    ckpt-shard --tp-size 2 <elsewhere/saved.zst | ckpt-merge | ckpt-sum --tsv | same expected -
}

@test "a compressed stream that is cut or damaged is an error" {
    local n size
    model m
    ckpt-unpack --inline m | zstd -q >stream.zst
    size=$(stat -c %s stream.zst)
    for n in 1 4 5 20 100 $((size / 2)) $((size - 1)); do
        fails_with_one_line 1 'ends early|not a tensor stream|zstd|nothing' "head -c $n stream.zst | ckpt-pack-pt out.pt"
        nothing_at out.pt
    done
    { head -c $((size / 2)) stream.zst && head -c 100 /dev/zero && tail -c +$((size / 2 + 101)) stream.zst; } >bad.zst
    fails_with_one_line 1 'zstd|damaged' "ckpt-pack-pt out.pt <bad.zst"
    nothing_at out.pt
}

@test "one stream may hold tensors of both kinds, also within one fused tensor" {
    model m
    # q and v go inline, the rest by reference.
    python3 - <<'END'
import io, json, struct, subprocess

def frames(*options):
    out = subprocess.run(["ckpt-unpack", *options, "m"], stdout=subprocess.PIPE, check=True).stdout
    file = io.BytesIO(out[12:])
    while header := file.read(16):
        length, data = struct.unpack("<IQ", header[4:])
        yield header[:4], json.loads(text := file.read(length)), header + text + file.read(data)

inline = {j["name"]: whole for tag, j, whole in frames("--inline") if tag == b"TENS"}
with open("mixed", "wb") as out:
    out.write(b"CKPTSTRM" + struct.pack("<I", 1))
    for tag, content, whole in frames("--by-reference"):
        mixed = tag == b"TENS" and ("q_proj" in content["name"] or "v_proj" in content["name"])
        out.write(inline[content["name"]] if mixed else whole)
END
    same <(tsv m) <(ckpt-sum --tsv <mixed)
    ckpt-shard --tp-size 2 --qkv-linear <mixed | ckpt-fuse-qkv --fuse-qkv | ckpt-pack-pt mixed-out
    ckpt-unpack m | ckpt-shard --tp-size 2 --qkv-linear | ckpt-fuse-qkv --fuse-qkv | ckpt-pack-pt plain-out
    diff -r mixed-out plain-out
}

@test "every program tells its usage and version, and refuses operands and options it does not know" {
    local program
    for program in ckpt-unpack ckpt-shard ckpt-merge ckpt-split-qkv ckpt-fuse-qkv ckpt-pack-xser ckpt-pack-pt ckpt-ls ckpt-sum; do
        [[ $($program --help) == "Usage: $program "* ]]
        [[ $($program --version) == "$program (ckpt-filters) "* ]]
        fails_with_one_line 2 "$program: unknown or ambiguous option --no-such.*$program --help" "$program --no-such </dev/null"
    done
    for program in ckpt-shard ckpt-merge ckpt-split-qkv ckpt-fuse-qkv ckpt-ls ckpt-sum; do
        fails_with_one_line 2 "takes no operand, but got 'x'" "$program x </dev/null"
    done
}

@test "a terminal as standard input is refused" {
    run script -qec "ckpt-ls" /dev/null
    [[ $status == 2 && $output == *"ckpt-ls: standard input is a terminal; pipe a tensor stream into it"* ]]
}
