#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Times gradd against its peers on this machine, interleaved in one run; measures how its time grows.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/bench.sh NAME... [--json FILE] [--threads N] [--rounds N] [--no-compiled] [--dry-run]

  gpt-recipe      nanoGPT's recipe for CPUs: 4 layers of 128, context 64, batch 12
  mnist-cnn       two convolutions, two linear layers, batch 64
  gpt2-124m       GPT-2 124M at 4 sequences of 64 tokens
  resnet50        ResNet-50 at batch 8 of 224 x 224
  lstm            the language model of configs/models/lstm_lm.yaml
  adamw-100m      AdamW's step over 100 million parameters
  gpt2-124m-bf16  GPT-2 124M in bf16 against our f32: time, memory of activations
  loader          JPEG files with ImageNet's augmentation, a batch of 32: 1 reader of ours against torchvision's
                  DataLoader with 1 worker; loader-2: 2 of each
  all             all of these (under 25 minutes)
  growth          step time of a GPT over width, depth, batch and context: build/bench/growth.png and .json

Our training step against PyTorch's, eager and compiled: same model, batch, dtype and number of threads, interleaved in
one run, medians; with its share of what this machine's matrix products and memory were measured to give meanwhile.
Targets are printed beside the figures; a missed one is no failure. Nothing else should run on the machine.

  --json FILE     writes an array of {name, ours, peer, ratio, unit, ...}
  --threads N     compute threads on either side (default 2)
  --rounds N      interleaved rounds (default 10)
  --no-compiled   PyTorch in eager mode only
  --dry-run       prints what would be measured, and how

PyTorch is installed into build/bench-venv at the first run (or set GRADD_PEER_PYTHON to a Python that has it); what it
compiles is kept in build/bench-inductor.
END
}
die() {
    echo "bench.sh: $*" >&2
    exit 2
}
number() { # option, text
    [[ $2 =~ ^[1-9][0-9]{0,3}$ ]] || die "$1 needs a number from 1 to 9999, not \"$2\""
}

all=(gpt-recipe mnist-cnn gpt2-124m resnet50 lstm adamw-100m gpt2-124m-bf16 loader loader-2)
names=()
json=
threads=2
rounds=10
compiled=yes
dry=no
while [ $# -gt 0 ]; do
    case "$1" in
        --json | --threads | --rounds)
            [ $# -gt 1 ] || die "$1 needs a value"
            case "$1" in
                --json) json=$(realpath -m -- "$2") ;;
                --threads) number "$1" "$2"; threads=$2 ;;
                --rounds) number "$1" "$2"; rounds=$2 ;;
            esac
            shift
            ;;
        --no-compiled) compiled=no ;;
        --dry-run) dry=yes ;;
        -h | --help) usage; exit 0 ;;
        all) names+=("${all[@]}") ;;
        growth) names+=(growth) ;;
        *)
            [[ " ${all[*]} " == *" $1 "* ]] || { usage >&2; die "unknown benchmark $1"; }
            names+=("$1")
            ;;
    esac
    shift
done
[ ${#names[@]} -gt 0 ] || { usage >&2; exit 2; }
cd "$(dirname "$0")/.."

python=$(scripts/peer-python.sh --where)
bin=build/release/bin
# Sets `sides` (arguments of interleave.py) and `steps` (of a round) for a name.
sides_of() {
    local peer="$python tests/bench/peer.py $1 --threads $threads"
    sides=(--ours "$bin/bench-step $1 --threads $threads" --peer "eager=$peer")
    steps=20
    case "$1" in
        gpt2-124m | resnet50) steps=2 ;;
        lstm) steps=4 ;;
        adamw-100m)
            steps=5
            sides=(--restart 2 --ours "$bin/bench-optim --threads $threads" --peer "fused=$peer")
            ;;
        gpt2-124m-bf16)
            steps=2
            local ours="$bin/bench-step gpt2-124m --threads $threads"
            sides=(--ours "$ours --set training.precision=bf16" --peer "our f32=$ours" --memory-of "our f32"
                --peer "autocast bf16=$peer")
            ;;
    esac
    case "$1" in
        loader | loader-2)
            steps=4
            local n=${1#loader-}
            [ "$n" != loader ] || n=1
            sides=(--ours "$bin/bench-loader tests/bench/jobs/loader.yaml --threads $n"
                --peer "torchvision=$python tests/bench/peer_loader.py ${GRADD_BENCH_DATA:-build/bench-data}/photos --workers $n")
            return
            ;;
    esac
    [ "$compiled" = no ] || sides+=(--peer "compiled=$peer --compile")
}

if [ "$dry" = no ]; then
    scripts/deps.sh
    scripts/build.sh release
    scripts/deps.sh --bench
    packages=(matplotlib)
    [[ " ${names[*]} " != *" loader"* ]] || packages+=(torchvision)
    python=$(scripts/peer-python.sh "${packages[@]}")
    mkdir -p build/bench
    [ -z "$json" ] || { mkdir -p "$(dirname "$json")" && echo '[]' >"$json"; }
    export GRADD_DATA=${GRADD_DATA:-$PWD/../shared/data} GRADD_BENCH_DATA=$PWD/build/bench-data
    export TORCHINDUCTOR_CACHE_DIR=$PWD/build/bench-inductor TORCHINDUCTOR_COMPILE_THREADS=$threads
    "$python" tests/bench/make_data.py "$GRADD_BENCH_DATA"
fi
i=0
for name in "${names[@]}"; do
    i=$((i + 1))
    if [ "$name" = growth ]; then
        command=("$python" tests/bench/growth.py --ours "$bin/bench-step" --threads "$threads" --out build/bench)
    else
        sides_of "$name"
        command=("$python" tests/bench/interleave.py "$name" --rounds "$rounds" --steps "$steps" "${sides[@]}"
            --machine "$bin/bench-machine --threads $threads")
    fi
    [ -z "$json" ] || command+=(--json "$json")
    if [ "$dry" = yes ]; then
        printf '%q ' "${command[@]}"
        echo
    else
        echo "== $i/${#names[@]} $name"
        "${command[@]}"
    fi
done
if [ "$dry" = no ] && [ -n "$json" ]; then
    echo "wrote $json"
fi
