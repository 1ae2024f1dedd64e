#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the path of a Python that has PyTorch: $GRADD_PEER_PYTHON, else build/bench-venv, made at the first run.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/peer-python.sh [--where] [PACKAGE...]

Prints the path of a Python with PyTorch, NumPy, safetensors and the packages that are named (matplotlib, torchvision),
which it installs into build/bench-venv where they are missing. GRADD_PEER_PYTHON names a Python of your own, which is
taken as it is.

  --where   prints the path and installs nothing
END
}

declare -A version=([torch]=2.13.0 [torchvision]=0.28.0) # the two go together
index=https://download.pytorch.org/whl/cpu
where=no
packages=(torch numpy safetensors)
for argument in "$@"; do
    case "$argument" in
        --where) where=yes ;;
        -h | --help) usage; exit 0 ;;
        matplotlib | torchvision) packages+=("$argument") ;;
        *) echo "peer-python.sh: unknown package $argument" >&2; usage >&2; exit 2 ;;
    esac
done
cd "$(dirname "$0")/.."
python=${GRADD_PEER_PYTHON:-$PWD/build/bench-venv/bin/python}
if [ "$where" = yes ] || [ -n "${GRADD_PEER_PYTHON:-}" ]; then
    echo "$python"
    exit 0
fi
missing=()
for package in "${packages[@]}"; do
    "$python" -c "import $package" 2>/dev/null || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]} into build/bench-venv (once)" >&2
    scripts/deps.sh --bench >&2
    [ -x "$python" ] || python3 -m venv build/bench-venv >&2
fi
for package in "${missing[@]}"; do
    case "$package" in
        torch | torchvision)
            "$python" -m pip install -q "$package==${version[$package]}" --index-url "$index" 2>/dev/null ||
                "$python" -m pip install -q "$package==${version[$package]}" >&2
            ;;
        *) "$python" -m pip install -q "$package" >&2 ;;
    esac
done
echo "$python"
