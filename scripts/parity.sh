#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compares with PyTorch: whole models, whole runs, and what is drawn at random. See tests/parity/.
set -euo pipefail

usage() {
    cat <<'EOT'
usage: scripts/parity.sh weights|losses [NAME...]
       scripts/parity.sh modules|jobs [--count N] [--seed S] [--precision f32|bf16|f16]
       scripts/parity.sh ops [--count N] [--seed S]

  weights   ResNet-50 and GPT-2 (124M) weights written by PyTorch, loaded by name: PyTorch's logits within 1e-4
  losses    the same initial weights and batches give PyTorch's first 50 losses within 1e-4
  modules   random chains of layers: values, gradients, running statistics, evaluation, and what is refused
  jobs      random short trainings, each once more paused and on other numbers of workers
  ops       random programs of tensor operations

What is drawn at random follows from the seed; a difference is printed with the command that shows it again, and makes the
exit code 1. GRADD_ISA=v2|v3|v4 lowers the instruction set. PyTorch is installed into build/bench-venv at the first run
(or set GRADD_PEER_PYTHON to a Python that has it and safetensors). The models of `weights` are torchvision's and Hugging
Face's own where these packages are installed beside it.
EOT
}

what=${1:-}
case "$what" in
    weights | losses) script=tests/parity/$what.py ;;
    modules | jobs) script=tests/parity/random_$what.py ;;
    ops) script=tests/golden/make_replay.py ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."
program=$PWD/build/release/bin/parity
[ -x "$program" ] || scripts/build.sh release
export GRADD_DATA=${GRADD_DATA:-$PWD/../shared/data} PYTHONWARNINGS=ignore
python=$(scripts/peer-python.sh)
if [ "$what" != ops ]; then
    exec "$python" "$script" "$program" "${@:2}"
fi
set -- --seed "$RANDOM" "${@:2}" # of two seeds the last counts
echo "scripts/parity.sh ops $*"
programs=$(mktemp)
trap 'rm -f "$programs"' EXIT
"$python" "$script" "$@" >"$programs"
build/release/tests/engine_test_replay "$programs"
