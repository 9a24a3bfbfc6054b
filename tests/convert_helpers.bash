# What the tests of conversions share, on top of helpers.bash.

bats_require_minimum_version 1.5.0
load helpers

golden=$TESTS/golden
torch_python=${TORCH_PYTHON:-/usr/bin/python3} # with PyTorch (Debian: python3-torch)
export PYTHONDONTWRITEBYTECODE=1

# Runs a shell command line in which a program must fail: the line ends with this status, there is one line on
# standard error, which matches the pattern (an extended regular expression), and on standard output nothing that
# a reader takes for a stream or a person for a result.
fails_with_one_line() { # status, pattern, command line
    local status=0
    bash -o pipefail -c "$3" >failed.out 2>failed.err || status=$?
    if ((status != $1)) || (($(wc -l <failed.err) != 1)) || ! grep -qE -- "$2" failed.err ||
        { [[ -s failed.out ]] && { ! grep -qa ^CKPTSTRM failed.out || ckpt-ls <failed.out >failed.ls 2>&1; }; }; then
        printf '%s\nexpected: status %s and one line with: %s\nstatus %s, standard error:\n%s\nstandard output:\n%s\n' \
            "$3" "$1" "$2" "$status" "$(<failed.err)" "$(tr -cd '[:print:]\n' <failed.out)" | head -c 4000
        return 1
    fi
}

# That a command fails. (A "! command" never fails a test.)
not() {
    if "$@" 2>not.err; then
        echo "should fail, but does not: $*"
        return 1
    fi
}

# Whether the programs are built to check memory (make sanitize): they need more of it, and report themselves
# when an allocation is too large.
instrumented() {
    ldd "$(command -v ckpt-ls)" | grep -q libasan
}

# A Llama-shaped model as a Hugging Face directory with safetensors. See model.py --help.
model() { # directory, option...
    python3 "$TESTS/model.py" "$@"
}

sums() { # path, ckpt-unpack option...: name, dtype, shape and checksum of every tensor, sorted
    tsv "$@" | LC_ALL=C sort
}

sorted() {
    LC_ALL=C sort "$1"
}

# That nothing is left of an output: neither it nor a staging place beside it.
nothing_at() { # path
    local left
    left=$(find "$(dirname "$1")" -maxdepth 1 \( -name "$(basename "$1")" -o -name '.*ckpt-*' \))
    [[ -z $left ]] || {
        printf 'left over: %s\n' "$left"
        return 1
    }
}
