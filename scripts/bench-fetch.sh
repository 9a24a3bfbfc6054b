#!/usr/bin/env bash
# Measures hf-fetch beside curl: a large file from the tests' stand-in for the Hub, on this machine.
#
# Every round runs all of them, in an order that moves on by one from round to round. hf-fetch verifies the digest and
# waits until a disk has the file; curl does neither, so that curl followed by sha256sum, and on a disk by a flush, is
# measured as well.
set -Eeuo pipefail

program=${0##*/}
rounds=5 size=2000 memory=/dev/shm disk=/var/tmp

show_help() {
    cat <<END
Usage: $program [OPTION]...
Measure hf-fetch beside curl.

  --size MB      size of the file (2000)
  --rounds N     rounds, of which medians are taken (5)
  --memory DIR   a directory on a tmpfs (/dev/shm); "" for none
  --disk DIR     a directory on a disk (/var/tmp); "" for none
  --help

Needs twice the size in each place. BUILD is the directory of the programs (build).
END
}

root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=measure.sh
. "$root/scripts/measure.sh"
read_options "size rounds memory disk" "$@"
PATH=$(cd "$root" && realpath "${BUILD:-build}"):$PATH
for needed in hf-fetch curl /usr/bin/time python3; do
    command -v "$needed" >/dev/null || { echo "$program: $needed is not there (make; apt install time curl)" >&2 && exit 1; }
done
work='' hub='' url=''
clean_up() {
    [[ -z $hub ]] || kill "$hub"
    [[ -z $work ]] || rm -rf "$work"
    hub='' work=''
}
trap clean_up EXIT
trap 'exit 130' INT TERM
trap 'echo "$program: line $LINENO failed" >&2' ERR

# ---- what is measured ----

download() { # file, whether with a flush
    curl -sfL -o "$1" "$url"
    [[ $2 == no ]] || sync -f "$1"
}

download_and_verify() { # file, whether with a flush
    download "$1" "$2"
    sha256sum "$1" >/dev/null
}

# Names of what is measured, with their titles.
declare -A titles=(
    [curl]="curl (no digest)"
    [curl_flush]="curl, sync -f"
    [curl_sha]="curl, sha256sum"
    [curl_sha_flush]="curl, sync -f, sha256sum"
    [fetch]="hf-fetch"
    [fetch_1]="hf-fetch --jobs 1"
)

run() { # name
    case $1 in
    curl) download "$work/file" no ;;
    curl_flush) download "$work/file" yes ;;
    curl_sha) download_and_verify "$work/file" no ;;
    curl_sha_flush) download_and_verify "$work/file" yes ;;
    fetch) hf-fetch --quiet acme/large >/dev/null ;;
    fetch_1) hf-fetch --quiet --jobs 1 acme/large >/dev/null ;;
    esac
}
export work url # for bash -c
export -f run download download_and_verify

measure() { # name: appends "seconds KiB user system" to $work/NAME
    rm -rf "${work:?}"/{file,home}
    settle "$work" "$((size * 1000000))"
    /usr/bin/time -a -o "$work/$1" -f '%e %M %U %S' bash -c "run $1"
}

# ---- one place ----

start_hub() {
    mkdir -p "$work/root/acme/large"
    head -c "${size}MB" /dev/urandom >"$work/root/acme/large/model.safetensors"
    echo '{}' >"$work/root/acme/large/config.json"
    python3 "$root/tests/hub/standin.py" --root "$work/root" --port-file "$work/port" --log "$work/log" \
        --parent $$ --lifetime 3600 &
    hub=$!
    until [[ -s $work/port ]]; do sleep 0.05; done
    HF_ENDPOINT=http://127.0.0.1:$(<"$work/port")
    export HF_ENDPOINT HF_HOME=$work/home HF_TOKEN=
    unset HF_HUB_CACHE HF_HUB_OFFLINE
    url=$HF_ENDPOINT/acme/large/resolve/main/model.safetensors
}

print_place() { # names…
    local name seconds plain
    plain=$(cut -d ' ' -f 1 "$work/curl" | median_of)
    printf '\n%s MB into %s, %s rounds, %s processors; medians\n\n' "$size" "$place" "$rounds" "$(nproc)"
    printf '%-26s %9s %9s %9s %9s %12s\n' "" seconds MB/s "/ curl" "CPU s" "peak RSS"
    for name; do
        seconds=$(cut -d ' ' -f 1 "$work/$name" | median_of)
        printf '%-26s %9s %9s %9s %9s %8s MiB\n' "${titles[$name]}" "$seconds" \
            "$(awk -v n="$size" -v s="$seconds" 'BEGIN { printf "%.0f", n / s }')" "$(ratio "$seconds" "$plain")" \
            "$(awk '{ print $3 + $4 }' "$work/$name" | median_of)" \
            "$(cut -d ' ' -f 2 "$work/$name" | sort -n | awk 'END { printf "%.1f", $1 / 1024 }')"
    done
}

measure_place() { # directory, names…
    local round i free
    place=$1
    shift
    free=$(df --output=avail -B1 "$place" | tail -1)
    ((free > size * 2200000)) || { echo "$program: $place: twice $size MB are needed; use a smaller --size" >&2 && exit 1; }
    work=$(mktemp -d "$place/ckpt-bench.XXXXXX")
    start_hub
    run fetch # the stand-in computes its digests, and the page cache fills
    for ((round = 0; round < rounds; round++)); do
        echo "$place: round $((round + 1)) of $rounds" >&2
        for ((i = 0; i < $#; i++)); do
            measure "${@:(round + i) % $# + 1:1}"
        done
    done
    print_place "$@"
    clean_up
}

[[ -z $memory ]] || measure_place "$memory" curl curl_sha fetch fetch_1
[[ -z $disk ]] || measure_place "$disk" curl curl_flush curl_sha_flush fetch fetch_1
