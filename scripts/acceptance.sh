#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What gradd promises, measured one after the other on this machine, as one table.
set -uo pipefail

usage() {
    cat <<'END'
usage: scripts/acceptance.sh [--quick] [--no-build] [NAME...]

  bare-root    both commands of the README in a bare Debian 12 (needs root and a Debian mirror)
  shakespeare  the nanoGPT recipe for CPUs: validation loss at step 2,000
  layouts      1, 2, 4 workers, kill -9 of a rank, mpirun, the shim and gradd, another number of workers: one SHA-256
  mnist        MNIST with two workers: test accuracy after at most 5 epochs
  latency      submit → first step; killed rank → steps again
  bench        our training step against PyTorch's
  reflection   a gRPC client that isn't ours
  bad-input    every kind of bad input, with its whole message
  weights      ResNet-50 and GPT-2 weights written by PyTorch, loaded by name: the logits' largest difference
  losses       the same initial weights and batches in PyTorch: largest difference of the first 50 losses
  soak         random deaths over one job (not in the list that runs by default)

Without names: all but the last. Nothing else should run on the machine. Exit code 0 only if all that was asked for
ran and passed. Outputs: build/acceptance/NAME.log

  --quick      bare-root: quickstart only; layouts: 240 steps instead of 2,000; bench: 3 rounds
  --no-build   the programs of build/release as they are
END
}

quick=no
build=yes
names=()
all=(bare-root shakespeare layouts mnist latency bench reflection bad-input weights losses)
while [ $# -gt 0 ]; do
    case "$1" in
        --quick) quick=yes ;;
        --no-build) build=no ;;
        -h | --help) usage; exit 0 ;;
        bare-root | shakespeare | layouts | mnist | latency | bench | reflection | bad-input | weights | losses | soak) names+=("$1") ;;
        *) echo "acceptance.sh: no such line: $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
[ ${#names[@]} -gt 0 ] || names=("${all[@]}")
cd "$(dirname "$0")/.." || exit 1
if [ "$build" = yes ]; then
    scripts/deps.sh && scripts/build.sh release || exit 1
fi
logs=$PWD/build/acceptance
mkdir -p "$logs"
export GRADD_BIN=$PWD/build/release/bin GRADD_SOURCE=$PWD

rows=()
failed=0
# Sets `command`, `limit` for a name.
line_of() {
    case "$1" in
        bare-root)
            command=(scripts/bare-root.sh)
            [ "$quick" = no ] || command+=(quickstart)
            limit="exit code 0"
            ;;
        shakespeare) command=(tests/e2e/train.sh shakespeare) limit="<= 1.90" ;;
        layouts)
            command=(env STEPS=2000 LIMIT=900 tests/e2e/layouts.sh)
            [ "$quick" = no ] || command=(tests/e2e/layouts.sh)
            limit="one SHA-256"
            ;;
        mnist) command=(tests/e2e/train.sh mnist) limit=">= 0.990" ;;
        latency) command=(tests/e2e/latency.sh) limit="<= 1000 ms, <= 5000 ms" ;;
        bench)
            command=(scripts/bench.sh gpt-recipe mnist-cnn --json "$logs/bench.json")
            [ "$quick" = no ] || command+=(--rounds 3)
            limit="gpt-recipe <= 1.0 x"
            ;;
        reflection) command=(tests/e2e/reflection.sh) limit="SUCCEEDED" ;;
        bad-input) command=(tests/e2e/bad_input.sh) limit="exact messages" ;;
        weights | losses) command=(scripts/parity.sh "$1") limit="<= 1e-4" ;;
        soak) command=(tests/fault/soak.sh) limit="one SHA-256" ;;
    esac
}
figure_of() { # name → on stdout
    local log=$logs/$1.log
    case "$1" in
        bare-root) sed -nE 's/^bare-root: scripts\/(.*)\.sh passed in (.*)$/\1 \2/p' "$log" | paste -sd, | sed 's/,/, /g' ;;
        bench) jq -r '[.[] | "\(.name) \(.ratio * 1000 | round / 1000) x"] | join(", ")' "$logs/bench.json" 2>/dev/null ;;
        *) sed -n 's/^figure: //p' "$log" | tail -n 1 ;;
    esac
}
for name in "${names[@]}"; do
    line_of "$name"
    printf '== %s: %s\n' "$name" "${command[*]}"
    started=$(date +%s)
    rm -f "$logs/bench.json"
    "${command[@]}" 2>&1 | tee "$logs/$name.log"
    status=${PIPESTATUS[0]}
    seconds=$(($(date +%s) - started))
    if [ "$name" = bench ] && [ "$status" -eq 0 ]; then
        jq -e 'any(.[]; .name == "gpt-recipe") and all(.[] | select(.name == "gpt-recipe"); .ratio <= 1.0)' \
            "$logs/bench.json" >/dev/null 2>&1 || status=1
    fi
    case "$status" in
        0) verdict=pass ;;
        77) verdict=skipped ;;
        *) verdict=FAIL ;;
    esac
    [ "$verdict" = pass ] || failed=1
    value=$(figure_of "$name")
    rows+=("$name|${value:--}|$limit|$verdict|$seconds s|${command[*]#"$PWD"/}")
done

echo
{
    echo "line|figure|limit|verdict|time|command"
    printf '%s\n' "${rows[@]}"
} | if command -v column >/dev/null; then column -t -s '|'; else tr '|' '\t'; fi
exit "$failed"
