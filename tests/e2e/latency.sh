#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Submit → first step finished (median of 5; two CPU workers, daemon running) ≤ 1.0 s; a killed rank → steps advance
# again ≤ 5 s (median of 3). Limits in ms: SUBMIT_LIMIT, RECOVERY_LIMIT. Times are the daemon's own, not those of polling.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
job=$source_root/configs/jobs/shakespeare-char.yaml
need_data shakespeare/input.txt

median() { # values
    printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"
}

daemon_start --slots 2
times=()
for _ in 1 2 3 4 5; do
    id=$(submit "$job" --set training.steps=5 --set evaluation.every=5 --set evaluation.batches=1 --set generate.tokens=1)
    succeed "$id" 60
    times+=("$(field "$id" .submit_to_first_step_ms)")
done
value=$(median "${times[@]}")
say "submit → first step finished: ${times[*]} ms, median $value ms (limit ${SUBMIT_LIMIT:-1000} ms)"
[ "$value" -le "${SUBMIT_LIMIT:-1000}" ] || fail "submit → first step takes $value ms"

id=$(submit "$job" --set training.steps=100000 --set checkpoint.every=20 --set evaluation.every=100000)
submit_median=$value
times=()
for attempt in 1 2 3; do
    wait_for "$id" ".attempt == $attempt and .state == \"RUNNING\" and .checkpoints != []" 120
    sleep 1
    victim=$(rank_pid "$id" $((attempt % 2)))
    killed=$(now_ms)
    kill -9 "$victim"
    wait_for "$id" ".attempt == $((attempt + 1)) and .first_step != null" 60
    first=$(date -d "$(field "$id" .first_step)" +%s%3N)
    times+=($((first - killed)))
done
value=$(median "${times[@]}")
say "killed rank → steps advance again: ${times[*]} ms, median $value ms, backoff 1 s among it (limit ${RECOVERY_LIMIT:-5000} ms)"
[ "$value" -le "${RECOVERY_LIMIT:-5000}" ] || fail "recovery takes $value ms"

started=$(now_ms)
"$bin/gradctl" cancel "$id" >/dev/null
ends "$id" CANCELLED 30
processes_gone "$id" 5
say "cancel → gone: $(($(now_ms) - started)) ms"
figure "$submit_median ms, $value ms"
