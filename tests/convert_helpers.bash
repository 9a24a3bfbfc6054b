# What the tests of conversions share, on top of helpers.bash.

bats_require_minimum_version 1.5.0
load helpers

golden=$TESTS/golden
torch_python=${TORCH_PYTHON:-/usr/bin/python3} # with PyTorch (Debian: python3-torch)
export PYTHONDONTWRITEBYTECODE=1

# Runs a shell command line in which a program must fail: the line ends with this status, there is one line on
# standard error, which matches the pattern (an extended regular expression), and nothing on standard output.
fails_with_one_line() { # status, pattern, command line
    run --separate-stderr bash -o pipefail -c "$3"
    if ((status != $1)) || ((${#stderr_lines[@]} != 1)) || [[ ! $stderr =~ $2 ]] || [[ -n $output ]]; then
        printf '%s\nexpected: status %s and one line with: %s\nstatus %s, standard error:\n%s\nstandard output:\n%s\n' \
            "$3" "$1" "$2" "$status" "$stderr" "$output" | head -c 4000
        return 1
    fi
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
