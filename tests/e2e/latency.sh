#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Submit → first step finished (median of 5; two CPU workers, daemon running) ≤ 1.0 s; a killed rank → steps advance
# again ≤ 5 s. Limits in ms: SUBMIT_LIMIT, RECOVERY_LIMIT.
. "$(dirname "$0")/lib.sh"
job=$source_root/configs/jobs/shakespeare-char.yaml
[ -f "$GRADD_DATA/shakespeare/input.txt" ] || skip "no shakespeare/input.txt in GRADD_DATA ($GRADD_DATA)"

daemon_start --slots 2
times=()
for i in 1 2 3 4 5; do
    id=$(submit "$job" --set training.steps=5 --set evaluation.every=5 --set evaluation.batches=1)
    succeed "$id" 60
    # Nanoseconds don't fit a double: integer arithmetic on the text.
    times+=($(($("$bin/gradctl" show "$id" -o json | jq -r '.submit_to_first_step_ms'))))
done
median=$(printf '%s\n' "${times[@]}" | sort -n | sed -n 3p)
note "submit → first step finished: ${times[*]} ms, median $median ms"
[ "$median" -le "${SUBMIT_LIMIT:-1000}" ] || fail "submit → first step takes $median ms"

id=$(submit "$job" --set training.steps=100000 --set checkpoint.every=20 --set evaluation.every=100000)
wait_for "$id" '.step >= 50' 120
kill -9 "$(field "$id" '.ranks[] | select(.rank == 1) | .pid')"
started=$(now_ms)
wait_for "$id" '.attempt >= 2 and .state == "RUNNING"' 30
step=$(field "$id" .step)
wait_for "$id" ".step > 0 and .attempt >= 2" 30
recovery=$(($(now_ms) - started))
note "killed rank → steps advance again: $recovery ms (step $step, attempt $(field "$id" .attempt))"
[ "$recovery" -le "${RECOVERY_LIMIT:-5000}" ] || fail "recovery takes $recovery ms"
"$bin/gradctl" cancel "$id" >/dev/null
"$bin/gradctl" wait --timeout 30 "$id" >/dev/null 2>&1 || [ $? -eq 1 ] || fail "cancel doesn't end"
[ "$(field "$id" .state)" = CANCELLED ] || fail "the job is $(field "$id" .state) after cancel"
