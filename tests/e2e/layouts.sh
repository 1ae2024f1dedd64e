#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The bits don't depend on the layout: shakespeare-char with 1, 2 and 4 workers, with a rank, mpirun and gradd killed
# by -9 in the middle, and paused and resumed with another number of workers: one parameters_sha256.
# STEPS (default 120) shortens the job for CI; STEPS=2000 is the whole one.
. "$(dirname "$0")/lib.sh"
steps=${STEPS:-120}
job=$source_root/configs/jobs/shakespeare-char.yaml
[ -f "$GRADD_DATA/shakespeare/input.txt" ] || skip "no shakespeare/input.txt in GRADD_DATA ($GRADD_DATA)"
every=$((steps / 6))
half=$((steps / 2))
limit=${LIMIT:-900}

run() { # name, workers → id on stdout
    submit --name "$1" "$job" --set training.microbatches=4 --set resources.workers="$2" --set parallel.data="$2" \
        --set training.steps="$steps" --set checkpoint.every="$every" --set evaluation.every="$half" \
        --set evaluation.batches=4 --set restart.backoff=200ms
}
check() { # id, what
    local sha
    succeed "$1" "$limit"
    sha=$(field "$1" .parameters_sha256)
    [[ "$sha" =~ ^[0-9a-f]{64}$ ]] || fail "$2: no parameters_sha256 (\"$sha\")"
    note "$2: $sha  validation_loss $(field "$1" .metrics.validation_loss)  attempts $(field "$1" .attempt)"
    if [ -z "${reference:-}" ]; then
        reference=$sha
    elif [ "$sha" != "$reference" ]; then
        fail "$2 ends with other parameters than 1 worker"
    fi
}

daemon_start --slots 4
for n in 1 2 4; do
    id=$(run "workers-$n" "$n")
    check "$id" "$n workers"
done

id=$(run kill-rank 2)
wait_for "$id" ".step >= $half" "$limit"
kill -9 "$(field "$id" '.ranks[] | select(.rank == 1) | .pid')"
check "$id" "a rank killed at step $half"
[ "$(field "$id" .attempt)" -ge 2 ] || fail "the killed rank did not make a new attempt"

id=$(run kill-mpirun 2)
wait_for "$id" ".step >= $half" "$limit"
kill -9 "$(pgrep -f "mpirun.*$state/jobs/$id/" | head -n 1 || true)" 2>/dev/null ||
    kill -9 "$(ps -o ppid= -p "$(field "$id" '.ranks[0].pid')" | tr -d ' ')"
check "$id" "mpirun killed at step $half"
[ "$(field "$id" .attempt)" -ge 2 ] || fail "the killed mpirun did not make a new attempt"

id=$(run kill-gradd 2)
wait_for "$id" ".step >= $half" "$limit"
daemon_kill9
sleep 0.5
daemon_start --slots 4
check "$id" "gradd killed at step $half"
[ "$(field "$id" .attempt)" -eq 1 ] || fail "killing gradd cost an attempt"

id=$(run resize 1)
wait_for "$id" ".step >= $half" "$limit"
"$bin/gradctl" pause "$id" >/dev/null
wait_for "$id" '.state == "PAUSED"' 60
note "paused at step $(field "$id" .step)"
"$bin/gradctl" resume "$id" --workers 4 >/dev/null
check "$id" "paused with 1 worker, resumed with 4"
note "all layouts and deaths give the same bits"
