# The layout is right, not only equal to a table: attention computed rank by rank, from the files that were
# written, is the model's attention. See attention.py.

load convert_helpers

attention() {
    "$torch_python" "$TESTS/attention.py" "$@"
}

@test "on trn1 the ranks compute the model's attention, for every multiplier" {
    attention q=8,kv=2,tp=2 q=8,kv=2,tp=4,m=2 q=8,kv=2,tp=8,m=4 q=16,kv=4,tp=8,m=2,xser=1 q=16,kv=4,tp=16,m=4
}

@test "on trn2 the ranks compute the model's attention, for every multiplier" {
    attention backend=trn2,q=8,kv=2,tp=2 backend=trn2,q=8,kv=2,tp=4,m=2 backend=trn2,q=8,kv=2,tp=8,m=4 \
        backend=trn2,q=16,kv=4,tp=8,m=2,xser=1 backend=trn2,q=16,kv=4,tp=16,m=4
}

@test "with several KV heads a rank, the query heads are next to their own" {
    attention q=16,kv=8,tp=2 q=16,kv=4,tp=1 backend=trn2,q=16,kv=8,tp=4
}

@test "with several KV heads a rank that are replicated as well, on both backends" {
    local backend
    for backend in trn1 trn2; do
        attention backend=$backend,q=16,kv=4,tp=4,m=2 backend=$backend,q=16,kv=4,tp=2,m=2 \
            backend=$backend,q=16,kv=4,tp=2,m=2,fuse=1 backend=$backend,q=32,kv=8,tp=8,m=4,fuse=1 \
            backend=$backend,q=48,kv=8,tp=6,m=3
    done
}

@test "fused q, k, v are the same attention" {
    attention fuse=1,tp=2 fuse=1,tp=8,m=4 fuse=1,tp=8,m=4,backend=trn2 fuse=1,q=8,kv=8,linear=0,tp=4 \
        fuse=1,q=8,kv=8,linear=0,tp=4,bias=1
}

@test "without qkv_linear, q, k, v and o are cut contiguously and compute the same" {
    attention linear=0,tp=1 linear=0,tp=2 linear=0,q=8,kv=8,tp=8 linear=0,q=8,kv=4,tp=2,pp=2,layers=5
}

@test "padded attention heads add nothing" {
    attention pad=1,q=6,kv=2,tp=4,m=2 pad=1,q=6,kv=2,tp=8,m=4 pad=1,q=6,kv=2,tp=8,m=4,backend=trn2,fuse=1 \
        pad=1,q=12,kv=4,tp=8,m=2,bias=1 pad=1,q=12,kv=4,tp=8,m=2,bias=1,backend=trn2 pad=1,q=4,kv=4,tp=4,fuse=1
}

@test "padded attention heads are zeros in every file" {
    "$torch_python" - <<END
import sys
sys.path.insert(0, "$TESTS")
import tempfile, numpy, os, torch, attention
spec = attention.parse_spec("pad=1,q=6,kv=2,tp=4,m=2,bias=1")
state = attention.make_model(spec, numpy.random.default_rng(1))
with tempfile.TemporaryDirectory() as at:
    os.mkdir(at + "/hf")
    torch.save({n: torch.from_numpy(v) for n, v in state.items()}, at + "/hf/pytorch_model.bin")
    open(at + "/hf/config.json", "w").write('{"num_attention_heads":6,"num_key_value_heads":2,"head_dim":4,"hidden_size":24}')
    attention.convert(spec, at + "/hf", at + "/nxdt", at + "/back")
    ranks = [attention.read_rank(at + "/nxdt", tp, 0) for tp in range(4)]
name = "model.layers.0.self_attn."
for rank, padded in enumerate([False, False, True, True]): # replica 1 has heads 2 and 3 of each KV head
    second = ranks[rank][name + "qkv_proj.weight_q"][4:], ranks[rank][name + "qkv_proj.bias_q"][4:], \
        ranks[rank][name + "o_proj.weight"][:, 4:]
    for part in second:
        assert (not part.any()) == padded, f"rank {rank}"
END
}

@test "head_dim need not be hidden size / heads" {
    attention q=8,kv=2,hd=6,hidden=20,tp=4,m=2 q=8,kv=2,hd=2,hidden=36,tp=4,m=2,backend=trn2,fuse=1 \
        q=4,kv=4,hd=8,hidden=10,tp=2,linear=0,fuse=1
}

@test "biases of q, k, v go with their heads, the bias of o is added once" {
    attention bias=1,tp=2 bias=1,tp=8,m=4 bias=1,tp=8,m=4,backend=trn2,fuse=1 bias=1,linear=0,q=8,kv=4,tp=2
}

@test "multi-head attention can be sharded with qkv_linear as well" {
    attention q=8,kv=8,tp=4 q=8,kv=8,tp=8,fuse=1,pp=2 q=1,kv=1,tp=1 q=8,kv=1,tp=8,m=8,backend=trn2
}

@test "the NxD script's own layout on trn2 does not compute the model's attention" {
    attention --expect-different nxd=1,backend=trn2,q=8,kv=2,tp=8,m=4 nxd=1,backend=trn2,q=16,kv=4,tp=8,m=2 \
        nxd=1,backend=trn2,q=16,kv=4,tp=4,m=2 nxd=1,backend=trn2,q=16,kv=4,tp=16,m=4,fuse=1
}

@test "where the NxD script is right, --compat nxd changes nothing" {
    attention nxd=1,q=8,kv=2,tp=8,m=4 nxd=1,backend=trn2,q=8,kv=2,tp=2
}

@test "a hundred random configurations compute the same and convert back to the same bytes" {
    attention --sweep 100 --seed 20
}
