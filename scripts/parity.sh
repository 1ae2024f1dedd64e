#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compares whole models and whole runs with PyTorch's: see tests/parity/.
set -euo pipefail

usage() {
    cat <<'EOT'
usage: scripts/parity.sh weights|losses [NAME...]

  weights   ResNet-50 and GPT-2 (124M) weights written by PyTorch, loaded by name: PyTorch's logits within 1e-4
  losses    the same initial weights and batches give PyTorch's first 50 losses within 1e-4

PyTorch is installed into build/bench-venv at the first run (or set GRADD_PEER_PYTHON to a Python that has it and
safetensors). The models are torchvision's and Hugging Face's own where these packages are installed beside it.
EOT
}

case "${1:-}" in
    weights | losses) ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."
program=$PWD/build/release/bin/parity
[ -x "$program" ] || scripts/build.sh release
export GRADD_DATA=${GRADD_DATA:-$PWD/../shared/data}
exec "$(scripts/peer-python.sh)" "tests/parity/$1.py" "$program" "${@:2}"
