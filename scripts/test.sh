#!/usr/bin/env bash
# Runs the tests. The last line is "N passed, N failed, N skipped".
# Usage: test.sh [bats options] [FILE.bats]...      BUILD: where the programs are (build)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
BUILD=$(realpath "${BUILD:-build}")
export BUILD LC_ALL=C.UTF-8
unset MAKEFLAGS MFLAGS MAKELEVEL

(($# > 0)) || set -- tests
if parallel --version 2>/dev/null | grep -q GNU && (($(nproc) > 1)); then
    set -- --jobs "$(nproc)" "$@"
fi

# TAP: "1..N", then "ok I title", "ok I title # skip why" or "not ok I title" with "# …" lines behind it.
# shellcheck disable=SC2016 # awk's variables
count='
    { print; fflush() }
    /^1\.\.[0-9]+$/ { planned = substr($0, 4) }
    /^not ok / { failed++ }
    /^ok / { if (/ # skip/) skipped++; else passed++ }
    END {
        if (passed + failed + skipped < planned)
            failed = planned - passed - skipped
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
        exit failed > 0 || planned == 0
    }'
bats --formatter tap "$@" | awk "$count"
