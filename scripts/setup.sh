#!/usr/bin/env bash
# Installs the Debian packages that a purpose needs and that are missing; says nothing when none is.
# Usage: setup.sh [PURPOSE]...      PURPOSE: build (default), check, demo, bench, lint, fuzz
# "a|b": either will do; a is installed when neither is there.
set -euo pipefail

declare -A packages=(
    [build]='gcc|clang libc6-dev make libarchive-dev libyajl-dev libyaml-dev libzstd-dev libdeflate-dev zlib1g-dev
             libssl-dev libcurl4-openssl-dev|libcurl4-gnutls-dev|libcurl4-nss-dev'
    [check]='bats parallel shellcheck mandoc python3 python3-torch python3-numpy unzip zstd time openssl curl jq'
    [demo]=''
    [bench]='time python3 curl'
    [lint]='shellcheck mandoc gcc clang'
    [fuzz]='clang libclang-rt-dev unzip'
)

purposes=("$@")
((${#purposes[@]} > 0)) || purposes=(build)
needed=()
for purpose in "${purposes[@]}"; do
    [[ -v packages[$purpose] ]] || { echo "setup.sh: unknown purpose '$purpose'" >&2 && exit 2; }
    read -r -d '' -a words <<<"${packages[$purpose]}" || true
    needed+=("${words[@]}")
done

is_installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

any_installed() { # "a|b"
    local one alternatives
    IFS='|' read -r -a alternatives <<<"$1"
    for one in "${alternatives[@]}"; do
        is_installed "$one" && return 0
    done
    return 1
}

if ! command -v dpkg-query >/dev/null; then
    echo "setup.sh: this is no Debian system; what is needed is called there: ${needed[*]}" >&2
    exit 0
fi

missing=()
for package in "${needed[@]}"; do
    any_installed "$package" || missing+=("${package%%|*}")
done
((${#missing[@]} > 0)) || exit 0

as_root=()
if ((EUID != 0)); then
    if ! sudo -n true 2>/dev/null; then
        echo "setup.sh: packages are missing; run: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo -n)
fi

apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@"
}

install_missing() {
    apt install -y --no-install-recommends "${missing[@]}"
}

echo "setup.sh: installing ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! install_missing >"$log" 2>&1 && ! { apt update && install_missing; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "setup.sh: installing failed: ${missing[*]}" >&2
    exit 1
fi
