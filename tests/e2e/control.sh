#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Watching and steering through gradctl: every verb, its exit codes, and streams that outlive the daemon. Needs no data.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
job=$here/jobs/small.yaml
ctl=$bin/gradctl

# ---- without a daemon ----
same "exit code without a daemon" "$(code_of "$ctl" list)" 4
daemon_start --slots 2
first_daemon=$daemon
same "slots" "$("$ctl" info -o json | jq -c '[.slots, .slots_used, .pid]')" "[2,0,$daemon]"
same "an empty list" "$("$ctl" list -o json)" "[]"
same "exit code for an unknown job" "$(code_of "$ctl" show 99)" 3
same "exit code for wrong usage" "$(code_of "$ctl" list --bogus)" 2
same "exit code for an unknown verb" "$(code_of "$ctl" lsit)" 2
same "validate" "$("$ctl" validate "$job")" "$job: valid"
"$ctl" validate --print "$job" >"$work/printed.yaml"
same "the printed job is itself valid" "$(code_of "$ctl" validate "$work/printed.yaml")" 0
say "verbs without a job"

# ---- a job that runs to its end ----
id=$(submit --name first "$job" --set training.steps=30 --set checkpoint.every=10)
[[ "$id" =~ ^[0-9]+$ ]] || fail "submit prints \"$id\", not the job's id alone"
same "wait of a job that succeeds" "$(code_of "$ctl" wait --timeout 60 "$id")" 0
"$ctl" show "$id" -o json >"$work/show.json"
for key in id name state reason attempt step steps_total metrics parameters_sha256 fingerprint checkpoints ranks; do
    jq -e "has(\"$key\")" "$work/show.json" >/dev/null || fail "show -o json has no \"$key\""
done
same "the job's end" "$(jq -c '[.name, .state, .attempt, .step, .steps_total, .ranks]' "$work/show.json")" '["first","SUCCEEDED",1,30,30,[]]'
same "checkpoints" "$(jq -c '[.checkpoints[].step]' "$work/show.json")" '[10,20,30]'
same "the last checkpoint's hash is the job's" "$(jq -r '.checkpoints[-1].parameters_sha256' "$work/show.json")" "$(jq -r .parameters_sha256 "$work/show.json")"
for metric in loss validation_loss validation_accuracy tokens_per_second; do
    jq -e ".metrics.$metric | numbers" "$work/show.json" >/dev/null || fail "no metric $metric: $(jq -c .metrics "$work/show.json")"
done
[[ "$(jq -r .text "$work/show.json")" == "The "* ]] || fail "no text was sampled: $(jq -c .text "$work/show.json")"
[ "$(jq .submit_to_first_step_ms "$work/show.json")" -gt 0 ] || fail "submit_to_first_step_ms is not above 0"
same "metrics as CSV" "$("$ctl" metrics "$id" -n loss -o csv | wc -l)" 31
same "their steps" "$("$ctl" metrics "$id" -n loss --from-step 29 -o csv | tail -n +2 | cut -d, -f2 | tr '\n' ' ')" "29 30 "
[ "$("$ctl" metrics "$id" --plot | grep -c loss)" -ge 1 ] || fail "metrics --plot shows no loss"
! "$ctl" list | grep -q $'\033' || fail "list writes colours where there is no terminal"
same "list as CSV" "$("$ctl" list -o csv | tail -n +2 | cut -d, -f1-3)" "$id,first,SUCCEEDED"
"$ctl" show "$id" -o yaml | grep -q '^state: SUCCEEDED' || fail "show -o yaml"
same "the file as submitted" "$("$ctl" show --spec "$id" | sha256sum)" "$(sha256sum <"$job")"
"$ctl" logs "$id" | grep -q 'finished after step 30' || fail "rank 0's log doesn't tell its end"
same "the last line of the log" "$("$ctl" logs --tail 1 "$id")" "$("$ctl" logs "$id" | tail -n 1)"
same "exit code of logs of a rank that isn't there" "$(code_of "$ctl" logs --rank 7 "$id")" 3
"$ctl" logs --rank launcher "$id" >/dev/null || fail "the launcher's log"
same "resume of a job that succeeded" "$(code_of "$ctl" resume "$id")" 3
same "cancel of a job that succeeded" "$(code_of "$ctl" cancel "$id")" 3
same "watch of a job that succeeded" "$(code_of "$ctl" watch "$id")" 0
processes_gone "$id" 5
say "a job to its end"

# ---- streams that outlive the daemon; pause, resume, cancel ----
id=$(submit --name long "$job" --set training.steps=1000000 --set checkpoint.every=50 --set evaluation.every=1000000)
"$ctl" watch -o json "$id" >"$work/watch.json" &
helpers+=($!) watch=$!
"$ctl" logs -f "$id" >"$work/log.txt" &
helpers+=($!) logs=$!
"$ctl" metrics -f -n loss -o json "$id" >"$work/metrics.json" &
helpers+=($!) metrics=$!
wait_for "$id" '.state == "RUNNING" and .step >= 20' 60
ranks=$(field "$id" '[.ranks[].pid] | sort | tostring')
same "slots in use" "$("$ctl" info -o json | jq .slots_used)" 2
same "wait gives up" "$(code_of "$ctl" wait --timeout 0.3 "$id")" 1

queued=$(submit --name queued "$job")
same "a job that waits" "$(field "$queued" '.state')" QUEUED
[ -n "$(field "$queued" '.reason // ""')" ] || fail "a queued job doesn't say what it waits for"
say "a queued job says: $(field "$queued" .reason)"
"$ctl" cancel "$queued" >/dev/null
same "cancel of a queued job" "$(field "$queued" .state)" CANCELLED

daemon_stop
step=$(tail -n 1 "$work/metrics.json" | jq .step)
sleep 1
daemon_start --slots 2
wait_for "$id" ".step > $step" 30
same "the ranks after a restart of the daemon" "$(field "$id" '[.ranks[].pid] | sort | tostring')" "$ranks"
daemon_kill9
sleep 0.5
daemon_start --slots 2
[ "$daemon" != "$first_daemon" ] || fail "the daemon wasn't restarted"
wait_for "$id" ".state == \"RUNNING\" and .step > $step" 30
step=$(field "$id" .step)
wait_for "$id" ".step > $step" 30
same "the ranks after kill -9 of the daemon" "$(field "$id" '[.ranks[].pid] | sort | tostring')" "$ranks"
same "attempts" "$(field "$id" .attempt)" 1
say "the daemon was stopped and killed under a running job"

"$ctl" pause "$id" >/dev/null
wait_for "$id" '.state == "PAUSED"' 30
processes_gone "$id" 5
paused=$(field "$id" .step)
same "a paused job's ranks" "$(field "$id" '.ranks | length')" 0
same "a paused job's newest checkpoint" "$(field "$id" '.checkpoints[-1].step')" "$paused"
same "slots in use while it is paused" "$("$ctl" info -o json | jq .slots_used)" 0
same "pause of a paused job" "$(code_of "$ctl" pause "$id")" 0
"$ctl" resume "$id" --workers 1 >/dev/null
wait_for "$id" ".state == \"RUNNING\" and .step > $paused" 60
same "workers after the resume" "$(field "$id" '[.workers, (.ranks | length)] | tostring')" "[1,1]"
say "paused at step $paused, resumed with one worker"

"$ctl" cancel "$id" >/dev/null
ends "$id" CANCELLED 30
processes_gone "$id" 5
code=0
wait "$watch" || code=$?
same "exit code of watch" "$code" 1
wait "$logs" || fail "logs -f ends with code $?"
wait "$metrics" || fail "metrics -f ends with code $?"
same "the states that watch saw" "$(jq -rs '[.[].state] | reduce .[] as $s ([]; if .[-1] == $s then . else . + [$s] end) | join(" ")' "$work/watch.json")" \
    "QUEUED STARTING RUNNING PAUSING PAUSED QUEUED STARTING RUNNING CANCELLING CANCELLED"
jq -es '[.[].number] | . == (sort | unique)' "$work/watch.json" >/dev/null || fail "watch shows events twice or out of order"
cmp "$work/log.txt" "$(field "$id" .directory)/logs/rank-0.log" || fail "logs -f differs from the log"
jq -es '[.[] | select(.name == "loss") | .step] | . == (sort | unique) and length == .[-1]' "$work/metrics.json" >/dev/null ||
    fail "metrics -f lost steps or has them twice: $(jq -s -c '[.[].step] | [length, .[0], .[-1]]' "$work/metrics.json")"
same "exit code of wait for a cancelled job" "$(code_of "$ctl" wait "$id")" 1
say "watch, logs -f and metrics -f went on through both restarts, without a gap"

# ---- by force; all jobs in one stream ----
id=$(submit "$job" --set training.steps=1000000)
wait_for "$id" '.step >= 1' 60
"$ctl" cancel --force "$id" >/dev/null
ends "$id" CANCELLED 10
processes_gone "$id" 2
same "its reason" "$(field "$id" .reason)" "killed by the user"
same "jobs by state" "$("$ctl" list --state CANCELLED -o json | jq -c '[.[].id | tonumber]')" "[$id,$queued,$((queued - 1))]"
"$ctl" watch -o json >"$work/all.json" &
helpers+=($!)
for _ in $(seq 100); do
    [ "$(jq -s '[.[].job] | unique | length' "$work/all.json")" -lt 4 ] || break
    sleep 0.05
done
same "jobs in the stream of all" "$(jq -sc '[.[].job | tonumber] | unique' "$work/all.json")" "[1,2,3,4]"
say "all verbs do as they say"
