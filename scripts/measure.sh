# What the benchmarks share; sourced by them.
# shellcheck shell=bash

# Sets the variables whose names are given from options of these names.
read_options() { # names, argument…
    local names=" $1 " program=${0##*/}
    shift
    while (($# > 0)); do
        [[ $1 != --help ]] || { show_help && exit; }
        [[ $1 =~ ^--[a-z]+$ && $names == *" ${1#--} "* ]] ||
            { echo "$program: unknown option $1 (see $program --help)" >&2 && exit 2; }
        (($# > 1)) || { echo "$program: $1 needs a value" >&2 && exit 2; }
        declare -g "${1#--}=$2"
        shift 2
    done
}

# Equal conditions: nothing is still to be written to the disk that holds the directory, and as much memory as will
# be needed has just been in use. In a virtual machine memory that has long been free comes from the host page by page,
# which costs several times the copy; whoever is measured first would pay for that.
settle() { # directory, bytes
    [[ $(stat -f -c %T "$1") == tmpfs ]] || sync -f "$1"
    awk -v bytes="$2" '/^MemAvailable/ {
        room = $2 * 1024 - 2e9
        printf "%.0f\n", bytes < room ? bytes : room < 0 ? 0 : room
    }' /proc/meminfo | python3 -c 'b"\1" * int(input())'
}

# The median of the numbers on standard input, one a line.
median_of() {
    sort -n | awk '{ v[NR] = $1 } END { printf "%.2f", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

ratio() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'
}
