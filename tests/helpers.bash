# What all test files share: load it with `load helpers`.
#
# The programs under test come first in PATH. Tests run in a fresh directory of their own; files that tests need
# are below $TESTS.

TESTS=$BATS_TEST_DIRNAME
PROGRAMS=$(cd "$TESTS/.." && cd "${BUILD:-build}" && pwd)
export PATH="$PROGRAMS:$PATH"

setup() {
    cd "$BATS_TEST_TMPDIR" || return
}

# refuses MESSAGE COMMAND...: the command fails with status 1 and one line that contains MESSAGE, and writes
# nothing that a reader takes for a stream.
refuses() {
    local message=$1 status=0
    shift
    "$@" >refused.out 2>refused.err || status=$?
    if [ "$status" -ne 1 ] || [ "$(wc -l <refused.err)" -ne 1 ] || ! grep -qF -- "$message" refused.err; then
        echo "'$*' should end with status 1 and one line with '$message', but: status $status"
        head -c 2000 refused.err
        return 1
    fi
    if ckpt-sum <refused.out >/dev/null 2>&1; then
        echo "'$*' failed, but what it wrote is taken for a stream"
        return 1
    fi
}

# same EXPECTED ACTUAL: two files (or outputs: same <(…) <(…)) are equal; else shows how they differ.
same() {
    diff "$1" "$2" >differences || {
        head -20 differences
        return 1
    }
}

# tsv PATH [OPTION...]: name, dtype, shape and digest of every tensor of a checkpoint.
tsv() {
    set -o pipefail
    ckpt-unpack "${@:2}" "$1" | ckpt-sum --tsv
}

# python CODE [ARGUMENT...]: runs Python with the modules of this directory.
python() {
    PYTHONPATH=$TESTS PYTHONDONTWRITEBYTECODE=1 python3 -c "from torch_files import *; $1" "${@:2}"
}
