#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The bits don't depend on the layout: shakespeare-char with 1, 2 and 4 workers, with a rank, mpirun, the shim and gradd
# killed by -9 in the middle, and paused and resumed with another number of workers: one parameters_sha256. In bf16, and
# with a model of norms that keep running statistics: 1, 2 and 4 workers, and a rank that is killed.
#   STEPS  length of the jobs (default 240; 2000 is the whole one)
#   LIMIT  seconds a run may take (default 300)
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
steps=${STEPS:-240}
limit=${LIMIT:-300}
need_data shakespeare/input.txt
mkdir "$work/data"
python3 "$here/make_data.py" "$work/data"
ln -s "$(realpath "$GRADD_DATA/shakespeare")" "$work/data/shakespeare"
export GRADD_DATA=$work/data
every=$((steps / 8))
middle=$((steps * 3 / 8))

use() { # job file, settings: what `run` runs from now on; its parameters are compared with each other alone
    job=$1
    reference=
    settings=("${@:2}")
}
run() { # name, workers → id on stdout
    submit --name "$1" "$job" --set training.microbatches=4 --set resources.workers="$2" --set parallel.data="$2" \
        --set training.steps="$steps" --set checkpoint.every="$every" --set evaluation.every="$steps" \
        --set evaluation.batches=4 --set restart.backoff=200ms --set generate=null "${settings[@]}"
}
check() { # id, what
    local sha
    succeed "$1" "$limit"
    sha=$(field "$1" .parameters_sha256)
    [[ "$sha" =~ ^[0-9a-f]{64}$ ]] || fail "$2: no parameters_sha256 (\"$sha\")"
    say "$2: $sha, validation_loss $(field "$1" .metrics.validation_loss), attempts $(field "$1" .attempt)"
    if [ -z "$reference" ]; then
        reference=$sha
        references+=("${sha:0:16}…")
    elif [ "$sha" != "$reference" ]; then
        fail "$2 ends with other parameters than 1 worker"
    fi
}
middle_of() { # id: the job is past its middle, and not at its end
    wait_for "$1" ".step >= $middle" "$limit"
    [ "$(field "$1" .state)" = RUNNING ] || fail "job $1 ended before it could be disturbed: STEPS=$steps is too short"
}
attempts() { # id, jq condition on the number
    [ "$(field "$1" ".attempt $2")" = true ] || fail "job $1 has $(field "$1" .attempt) attempts, not $2"
}

references=()
workers_and_a_kill() { # what
    local n id
    for n in 1 2 4; do
        id=$(run "$1-$n" "$n")
        check "$id" "$1: $n workers"
    done
    id=$(run "$1-kill-rank" 2)
    middle_of "$id"
    kill -9 "$(rank_pid "$id" 1)"
    check "$id" "$1: rank 1 killed"
    attempts "$id" "== 2"
}

daemon_start --slots 4
use "$here/jobs/norms.yaml"
workers_and_a_kill norms
use "$source_root/configs/jobs/shakespeare-char.yaml" --set training.precision=bf16
workers_and_a_kill bf16
use "$source_root/configs/jobs/shakespeare-char.yaml"
workers_and_a_kill shakespeare-char

id=$(run kill-mpirun 2)
middle_of "$id"
kill -9 "$(mpirun_pid "$id")"
check "$id" "mpirun killed"
attempts "$id" "== 2"

id=$(run kill-shim 2)
middle_of "$id"
kill -9 "$(shim_pid "$id")"
check "$id" "grad-shim killed"
attempts "$id" "== 2"

id=$(run kill-gradd 2)
middle_of "$id"
daemon_kill9
sleep 0.5
daemon_start --slots 4
check "$id" "gradd killed"
attempts "$id" "== 1"

id=$(run resize 1)
middle_of "$id"
"$bin/gradctl" pause "$id" >/dev/null
wait_for "$id" '.state == "PAUSED"' 60
say "paused at step $(field "$id" .step)"
"$bin/gradctl" resume "$id" --workers 4 >/dev/null
check "$id" "paused with 1 worker, resumed with 4"
say "all layouts and deaths give the same bits"
figure "16 runs of $steps steps: ${references[*]}"
