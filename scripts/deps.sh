#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that gradd is built and tested with, and nothing else.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/deps.sh [--checks] [--fuzz] [--bench] [--list]

Installs what is missing with apt-get, as root or with sudo. When nothing is missing it returns at once and needs
neither root nor network.

  --checks   also what the static checks and scripts need: clang-format, clang-tidy, shellcheck
  --fuzz     also what the fuzz preset needs: clang, libomp-dev
  --bench    also what scripts/bench.sh runs PyTorch with: python3-venv, g++ (torch.compile)
  --list     prints the packages and installs nothing
END
}

packages=(
    # build
    cmake ninja-build gcc libc6-dev pkg-config protobuf-compiler protobuf-c-compiler
    # libraries
    libopenmpi-dev libgrpc-dev libprotobuf-c-dev libprotobuf-dev libyaml-dev libdnnl-dev libsqlite3-dev
    zlib1g-dev libjansson-dev libssl-dev libpcre2-dev libutf8proc-dev
    libjpeg62-turbo-dev libpng-dev libflac-dev libsamplerate0-dev libsndfile1-dev
    # running and testing
    openmpi-bin openssh-client libcmocka-dev procps jq python3-grpcio python3-protobuf
)
list=no
for argument in "$@"; do
    case "$argument" in
        --checks) packages+=(clang-format clang-tidy shellcheck) ;;
        --fuzz) packages+=(clang libomp-dev) ;;
        --bench) packages+=(python3-venv python3-dev g++) ;;
        --list) list=yes ;;
        -h | --help) usage; exit 0 ;;
        *) echo "deps.sh: unknown argument $argument" >&2; usage >&2; exit 2 ;;
    esac
done
if [ "$list" = yes ]; then
    printf '%s\n' "${packages[@]}"
    exit 0
fi
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "deps.sh: this isn't a Debian system; install by hand: ${packages[*]}" >&2
    exit 1
fi

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    [[ $state == ?i* ]] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "packages: nothing to install"
    exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "deps.sh: needs root; run as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "packages: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 "$@" >>"$log" 2>&1
}
if ! apt update || ! apt install --no-install-recommends "${missing[@]}"; then
    tail -n 25 "$log" >&2
    echo "deps.sh: apt-get failed; its last lines are above" >&2
    exit 1
fi
echo "packages: installed"
