# ckpt-diff: what a stream and a checkpoint differ in.

load convert_helpers

# differ STATUS OUTPUT COMMAND-LINE: the exit status and what is printed, sorted; nothing on standard error.
differ() {
    local status=0
    bash -o pipefail -c "$3" >differ.out 2>differ.err || status=$?
    same <(printf '%s' "$2" | LC_ALL=C sort) <(LC_ALL=C sort differ.out)
    [[ $status == "$1" && ! -s differ.err ]] || { echo "status $status, $(<differ.err)" && return 1; }
}

# Two files, a and b, that each have a tensor x of a dtype and shape.
numbers() { # dtype, shape, values of a, values of b
    python3 "$TESTS/make_numbers.py" a.safetensors x "$1" "$2" "$3"
    python3 "$TESTS/make_numbers.py" b.safetensors x "$1" "$2" "$4"
}
a_against_b="ckpt-unpack a.safetensors | ckpt-diff b.safetensors"

@test "the same model has no differences, whatever its format, its files and the stream" {
    model m --shards 3
    ckpt-unpack m | ckpt-pack-pt m.pt
    ckpt-unpack m | ckpt-shard --tp-size 2 --qkv-linear | ckpt-fuse-qkv --fuse-qkv | ckpt-pack-xser sharded
    differ 0 '' "ckpt-unpack m | ckpt-diff m"
    differ 0 '' "ckpt-unpack m | ckpt-diff m.pt"
    differ 0 '' "ckpt-unpack --inline m.pt | ckpt-diff m"
    differ 0 '' "ckpt-unpack sharded | ckpt-split-qkv --config m/config.json | ckpt-merge | ckpt-diff --quiet m.pt"
    differ 0 '' "ckpt-unpack m | ckpt-shard --tp-size 2 --qkv-linear | ckpt-fuse-qkv --fuse-qkv | ckpt-diff sharded"
}

@test "every golden model comes back without a difference" {
    local model
    for model in "$golden"/models/*/; do
        ckpt-unpack "$model" | ckpt-pack-safetensors back.safetensors
        differ 0 '' "ckpt-unpack $model | ckpt-diff back.safetensors"
        rm -r back.safetensors
    done
}

@test "tensors that are in one of them only are named" {
    model a --without layers.1.mlp.up_proj --without model.norm
    model b --without layers.0.mlp
    differ 1 "only in the stream: model.layers.0.mlp.down_proj.weight
only in the stream: model.layers.0.mlp.gate_proj.weight
only in the stream: model.layers.0.mlp.up_proj.weight
only in b: model.layers.1.mlp.up_proj.weight
only in b: model.norm.weight
" "ckpt-unpack a | ckpt-diff b"
}

@test "another dtype or shape is shown with both" {
    model a --hidden 32 --intermediate 64 --layers 1
    model b --hidden 32 --intermediate 48 --layers 1
    model c --layers 1 --dtype F16
    differ 1 "model.layers.0.mlp.down_proj.weight: bfloat16 [32,64] and bfloat16 [32,48]
model.layers.0.mlp.gate_proj.weight: bfloat16 [64,32] and bfloat16 [48,32]
model.layers.0.mlp.up_proj.weight: bfloat16 [64,32] and bfloat16 [48,32]
" "ckpt-unpack a | ckpt-diff b"
    ckpt-unpack a | not ckpt-diff c >out
    grep -qFx 'model.norm.weight: bfloat16 [32] and float16 [32]' out
    (($(wc -l <out) == $(tsv a | wc -l)))
}

@test "differing elements are counted, with the first one's index, both values and the largest difference" {
    numbers F32 2,3 '1 2 3 4 5 6' '1 2 3.5 4 2 6'
    differ 1 $'x: 2 of 6 elements differ, first [0,2]: 3 and 3.5; largest difference 3\n' "$a_against_b"
    differ 1 $'x: 2 of 6 elements differ, first [0,2]: 3.5 and 3; largest difference 3\n' \
        "ckpt-unpack b.safetensors | ckpt-diff a.safetensors"
}

@test "values of every kind of number are right" {
    local dtype
    for dtype in F64 F32 F16 BF16 I64 I32 I16 I8; do
        numbers $dtype 3 '0 1 -2' '0 1 100'
        differ 1 $'x: 1 of 3 elements differ, first [2]: -2 and 100; largest difference 102\n' "$a_against_b"
    done
    for dtype in U64 U32 U16 U8; do
        numbers $dtype 1 7 250
        differ 1 $'x: 1 of 1 elements differ, first [0]: 7 and 250; largest difference 243\n' "$a_against_b"
    done
    numbers BOOL 2 '1 0' '1 1'
    differ 1 $'x: 1 of 2 elements differ, first [1]: 0 and 1; largest difference 1\n' "$a_against_b"
    numbers C64 2 '1j 2' '1j 3'
    differ 1 $'x: 1 of 2 elements differ, first [1]\n' "$a_against_b"
}

@test "integers are shown and subtracted exactly, to the ends of their range" {
    numbers I64 2 '1152921504606846976 5' '1152921504606846977 5'
    differ 1 $'x: 1 of 2 elements differ, first [0]: 1152921504606846976 and 1152921504606846977; largest difference 1\n' "$a_against_b"
    numbers I64 2 '0 -9223372036854775808' '1 9223372036854775807'
    differ 1 $'x: 2 of 2 elements differ, first [0]: 0 and 1; largest difference 18446744073709551615\n' "$a_against_b"
    numbers U64 2 '18446744073709551615 1' '0 0'
    differ 1 $'x: 2 of 2 elements differ, first [0]: 18446744073709551615 and 0; largest difference 18446744073709551615\n' "$a_against_b"
}

@test "float64 values that differ are shown differently" {
    numbers F64 1 0.33333333333333331 0.33333333333433331
    differ 1 $'x: 1 of 1 elements differ, first [0]: 0.33333333333333331 and 0.33333333333433329; largest difference 9.999778782798785e-13\n' "$a_against_b"
}

@test "float16 values are right at both ends of their range" {
    numbers F16 4 '6.103515625e-05 5.9604644775390625e-08 65504 0.5' '0 0 0 0.5'
    differ 1 $'x: 3 of 4 elements differ, first [0]: 6.10351562e-05 and 0; largest difference 65504\n' "$a_against_b"
    numbers F16 1 5.9604644775390625e-08 -5.9604644775390625e-08
    differ 1 $'x: 1 of 1 elements differ, first [0]: 5.96046448e-08 and -5.96046448e-08; largest difference 1.1920929e-07\n' \
        "$a_against_b"
    numbers F16 2 'inf 1' '-inf 1'
    differ 1 $'x: 1 of 2 elements differ, first [0]: inf and -inf; largest difference inf\n' "$a_against_b"
}

@test "NaN equals itself, differs from numbers, and is then the largest difference" {
    numbers F32 4 'nan 1 1 5' 'nan nan 2 1'
    differ 1 $'x: 3 of 4 elements differ, first [1]: 1 and nan; largest difference nan\n' "$a_against_b"
    differ 0 '' "ckpt-unpack a.safetensors | ckpt-diff a.safetensors"
    numbers F16 2 '1 nan' '2 nan'
    differ 1 $'x: 1 of 2 elements differ, first [0]: 1 and 2; largest difference 1\n' "$a_against_b"
}

@test "scalars and tensors without elements are compared" {
    python3 "$TESTS/make_numbers.py" a.safetensors x F32 '' 3 none F32 0,4 ''
    python3 "$TESTS/make_numbers.py" b.safetensors x F32 '' 4 none F32 0,5 ''
    differ 1 $'none: float32 [0,4] and float32 [0,5]\nx: 1 of 1 elements differ, first []: 3 and 4; largest difference 1\n' \
        "$a_against_b"
    differ 0 '' "ckpt-unpack a.safetensors | ckpt-diff a.safetensors"
}

@test "differences on both sides of a block's edge are found" {
    model a --hidden 1024 --vocab 600 --layers 0 # an embedding of more than a block of 1 MiB
    cp -r a b
    python3 -c '
data = bytearray(open("b/model.safetensors", "rb").read())
begin = 8 + int.from_bytes(data[:8], "little")
for element in (524287, 524288, 614399):
    data[begin + 2 * element + 1] ^= 128
open("b/model.safetensors", "wb").write(data)'
    ckpt-unpack a | not ckpt-diff b >out
    grep -qE '^model.embed_tokens.weight: 3 of 614400 elements differ, first \[511,1023\]: ' out
}

@test "sharded checkpoints are compared rank by rank" {
    model a --layers 1
    model b --layers 1 --without o_proj
    ckpt-unpack a | ckpt-shard --tp-size 2 | ckpt-pack-xser sharded
    differ 1 "only in sharded: dp_rank_00_tp_rank_00_pp_rank_00.pt: model.layers.0.self_attn.o_proj.weight
only in sharded: dp_rank_00_tp_rank_01_pp_rank_00.pt: model.layers.0.self_attn.o_proj.weight
" "ckpt-unpack b | ckpt-shard --tp-size 2 | ckpt-diff sharded"
}

@test "a sharded and a whole model cannot be compared, and that is said" {
    model m
    ckpt-unpack m | ckpt-shard --tp-size 2 | ckpt-pack-xser sharded
    fails_with_one_line 1 'ckpt-diff: sharded: is sharded, but the stream is a whole model; put ckpt-shard' \
        "ckpt-unpack m | ckpt-diff sharded"
    fails_with_one_line 1 'ckpt-diff: m: is a whole model, but the stream is sharded; put ckpt-merge' \
        "ckpt-unpack sharded | ckpt-diff m"
}

@test "--key and --model choose from the checkpoint on disk" {
    model m
    ckpt-unpack m | ckpt-pack-pt m.pt
    "$torch_python" -c 'import torch; m = torch.load("m.pt")
torch.save({"model": {"module." + k: v for k, v in m.items()}, "step": 3}, "training.pt")'
    differ 0 '' "ckpt-unpack m | ckpt-diff --quiet --model training.pt"
    ckpt-unpack --quiet --key model training.pt >part
    differ 0 '' "ckpt-diff --quiet --key model training.pt <part"
}

@test "wrong usage, a missing checkpoint, a failed writer and a cut stream are one line each" {
    model m
    ckpt-unpack --inline m >stream
    fails_with_one_line 2 'takes one operand' "ckpt-diff <stream"
    fails_with_one_line 2 'takes one operand' "ckpt-diff m m <stream"
    fails_with_one_line 1 'ckpt-diff: not-there: cannot open' "ckpt-diff not-there <stream"
    fails_with_one_line 1 'ckpt-unpack: not-there: cannot open' "ckpt-unpack not-there | ckpt-diff m"
    fails_with_one_line 1 'ends early' "head -c 300 stream | ckpt-diff m"
}

@test "differences found before a failure are printed before its line" {
    python3 "$TESTS/make_numbers.py" a.safetensors x F32 1 1 y F32 1 5
    python3 "$TESTS/make_numbers.py" b.safetensors x F32 1 2 y F32 1 6
    local status=0
    ckpt-unpack --inline a.safetensors | python3 "$TESTS/streams.py" twice y | ckpt-diff b.safetensors >out 2>&1 || status=$?
    ((status == 1))
    same - out <<'END'
x: 1 of 1 elements differ, first [0]: 1 and 2; largest difference 1
y: 1 of 1 elements differ, first [0]: 5 and 6; largest difference 1
ckpt-diff: y: is there twice in the stream on standard input
END
}

@test "differences that cannot be written are an error" {
    [[ -e /dev/full ]] || skip "there is no /dev/full"
    numbers F32 1 1 2
    fails_with_one_line 1 '^ckpt-diff: cannot write to standard output: ' "$a_against_b >/dev/full"
}

@test "a tensor that is twice in the stream is an error" {
    model m
    fails_with_one_line 1 'ckpt-diff: model.norm.weight: is there twice' \
        "ckpt-unpack --inline m | python3 $TESTS/streams.py twice model.norm.weight | ckpt-diff m"
}
