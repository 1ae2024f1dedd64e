#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The state folder's disk fills up while a job trains: the failure is reported, nothing acknowledged is lost, the
# daemon stays up, and with room again the job goes on to the same bits. On the full disk a job can be cancelled, and
# one whose rank dies waits for room. Needs permission to mount a tmpfs.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
ctl=$bin/gradctl
mkdir "$state"
mount -t tmpfs -o size=64m,mode=700 tmpfs "$state" 2>"$work/mount.log" ||
    skip "cannot mount a tmpfs: $(cat "$work/mount.log")"
cleanup() { umount -l "$state"; }
allow_warning '[Nn]o space left|waits for room|disk is full|database or disk is full|disk I/O error'

job() { # name, workers, steps [more arguments]
    submit --name "$1" "$here/jobs/small.yaml" --set resources.workers="$2" --set parallel.data="$2" \
        --set training.steps="$3" --set training.batch=64 --set checkpoint.every=50 --set evaluation.every="$3" "${@:4}"
}
fill() { dd if=/dev/zero of="$state/ballast" bs=4k 2>/dev/null || true; }
full() { [ "$(df --output=avail "$state" | tail -n 1 | tr -d ' ')" = 0 ]; }
checkpoints_changed() { stat -c %.Y "$state/jobs/$1/checkpoints"; }
log_has() { # id, text
    grep -qs "$2" "$state/jobs/$1/logs/rank-0.log"
}

daemon_start --slots 2
id=$(job undisturbed 2 4000)
succeed "$id" 300
reference=$(field "$id" .parameters_sha256)

id=$(job disturbed 2 4000)
wait_for "$id" '.step >= 200' 60
fill
full || fail "the disk isn't full"
say "disk full at step $(field "$id" .step)"

# A job is acknowledged only when it is on disk.
code=0
"$ctl" submit "$here/jobs/small.yaml" >"$work/out" 2>"$work/err" || code=$?
if [ "$code" -eq 0 ]; then
    accepted=$(cat "$work/out")
    say "there was room for job $accepted still"
else
    accepted=
    same "exit code of a submit that cannot be stored" "$code" 3
    grep -qiE 'no space left|disk is full|full' "$work/err" || fail "the refusal doesn't tell the reason: $(cat "$work/err")"
    say "submit: $(cat "$work/err")"
fi

# Checkpoints fail with not a byte free; the daemon answers all the same, and soon.
before=$(checkpoints_changed "$id")
for _ in $(seq 200); do
    fill # what the worker freed by giving a checkpoint up
    started=$(now_ms)
    [ "$("$ctl" info -o json | jq .pid)" = "$daemon" ] || fail "the daemon is gone"
    took=$(($(now_ms) - started))
    [ "$took" -lt 3000 ] || fail "the daemon answered after $took ms while the disk is full"
    [ "$(checkpoints_changed "$id")" = "$before" ] || break
    sleep 0.05
done
[ "$(checkpoints_changed "$id")" != "$before" ] || fail "no checkpoint was tried while the disk was full"
state_now=$("$ctl" show -o json "$id")
[ "$(jq '.state | IN("RUNNING", "RESTARTING", "STARTING")' <<<"$state_now")" = true ] ||
    fail "the job is $(jq -r '.state + ": " + .reason' <<<"$state_now") while the disk is full"

# Room for a line of the rank's log, which lies on the same disk, and for no checkpoint.
truncate -s -32768 "$state/ballast"
for _ in $(seq 200); do
    log_has "$id" 'was not written, training goes on' && break
    sleep 0.05
done
log_has "$id" 'was not written, training goes on' || fail "rank 0's log tells of no checkpoint that failed"
say "rank 0: $(grep -h 'was not written' "$state/jobs/$id/logs/rank-0.log" | head -n 1 | cut -c1-200)"

# The daemon dies on the full disk; the next one has room again.
daemon_kill9
rm "$state/ballast"
daemon_start --slots 2
[ -z "$accepted" ] || [ "$(field "$accepted" .id)" = "$accepted" ] || fail "the acknowledged job $accepted is lost"
succeed "$id" 300
same "parameters" "$(field "$id" .parameters_sha256)" "$reference"
"$ctl" watch -o json "$id" | jq -r '.reason // empty' | grep -q 'was not written' || fail "the events don't tell of the checkpoint that failed"
[ -z "$accepted" ] || succeed "$accepted" 120
id=$(job after 1 20)
succeed "$id" 60

# With not a byte free a cancel is kept, and stops the job; what dies meanwhile waits, and has used up one restart only.
top_up() { cat /dev/zero >>"$state/ballast" 2>/dev/null || true; } # what was given for a change of state, too
stopped=$(job stopped 1 1000000)
bereft=$(job bereft 1 4000 --set restart.max=1)
wait_for "$stopped" '.step >= 20' 60
wait_for "$bereft" '.step >= 60' 60
top_up
full || fail "the disk isn't full"
"$ctl" cancel "$stopped" >/dev/null 2>"$work/err" || fail "the cancel is refused: $(cat "$work/err")"
kill -9 "$(rank_pid "$bereft" 0)"
for _ in $(seq 50); do # twice the time that all restarts take
    top_up
    sleep 0.1
done
processes_gone "$stopped" 1
ends "$stopped" CANCELLED 1
wait_for "$bereft" '.state == "RESTARTING" and .restarts == 1' 1
timeout 2 "$ctl" watch -o json "$bereft" >"$work/events" 2>/dev/null || true # follows on until it is stopped
grep -q 'attempt 2 waits for room: the disk of' "$work/events" || fail "the events don't tell that it waits"
say "on the full disk one is cancelled, one waits for room"
daemon_kill9
top_up
daemon_start --slots 2
same "state of the cancelled job after kill -9" "$(field "$stopped" .state)" CANCELLED
same "state of the bereft one" "$(field "$bereft" .state)" RESTARTING
rm "$state/ballast"
succeed "$bereft" 300
same "restarts" "$(field "$bereft" .restarts)" 1
say "nothing acknowledged is lost; the same bits"
