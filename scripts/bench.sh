#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Times gradd against its peer on this machine, interleaved in one run.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: scripts/bench.sh NAME... [--json FILE] [--threads N] [--rounds N]

NAME: gpt-recipe mnist-cnn gpt2-124m resnet50, or all: our training step against PyTorch's in eager mode; same model, batch, dtype
and number of threads, interleaved, medians. Nothing else should run on the machine meanwhile.

  --json FILE   writes an array of {name, ours, peer, ratio, unit}
  --threads N   compute threads on either side (default 2)
  --rounds N    interleaved rounds of 20 steps (default 10)

PyTorch is installed into build/bench-venv at the first run (or set GRADD_PEER_PYTHON to a Python that has it).
EOF
}

names=()
json=
threads=2
rounds=10
while [ $# -gt 0 ]; do
    case "$1" in
        --json) json=$(realpath -m "$2"); shift ;;
        --threads) threads=$2; shift ;;
        --rounds) rounds=$2; shift ;;
        -h | --help) usage; exit 0 ;;
        all) names+=(gpt-recipe mnist-cnn gpt2-124m resnet50) ;;
        gpt-recipe | mnist-cnn | gpt2-124m | resnet50) names+=("$1") ;;
        *) echo "bench.sh: unknown benchmark $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
[ ${#names[@]} -gt 0 ] || { usage >&2; exit 2; }
cd "$(dirname "$0")/.."
scripts/deps.sh
scripts/build.sh release

python=${GRADD_PEER_PYTHON:-}
if [ -z "$python" ]; then
    python=$PWD/build/bench-venv/bin/python
    if ! "$python" -c 'import torch' 2>/dev/null; then
        echo "installing PyTorch 2.13.0 into build/bench-venv (once)"
        scripts/deps.sh --bench
        python3 -m venv build/bench-venv
        "$python" -m pip install -q torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu 2>/dev/null ||
            "$python" -m pip install -q torch==2.13.0
        "$python" -m pip install -q numpy
    fi
fi
data=${GRADD_DATA:-$PWD/../shared/data}
[ -z "$json" ] || echo '[]' >"$json"
export GRADD_BENCH_DATA=$PWD/build/bench-data
[ -e "$GRADD_BENCH_DATA/gpt2.txt" ] || "$python" tests/bench/make_data.py "$GRADD_BENCH_DATA"
for name in "${names[@]}"; do
    steps=20
    case "$name" in gpt2-124m | resnet50) steps=2 ;; esac
    GRADD_DATA=$data "$python" tests/bench/interleave.py "$name" --rounds "$rounds" --steps "$steps" \
        ${json:+--json "$json"} \
        --ours "build/release/bin/bench-step $name --threads $threads" \
        --peer "$python tests/bench/peer.py $name --threads $threads"
done
[ -z "$json" ] || { echo "wrote $json"; }
