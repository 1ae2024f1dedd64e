#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The state folder's disk fills up while a job trains: the failure is reported, nothing acknowledged is lost, the
# daemon stays up, and with room again the job goes on to the same bits. Needs permission to mount a tmpfs.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
ctl=$bin/gradctl
mkdir "$state"
mount -t tmpfs -o size=64m,mode=700 tmpfs "$state" 2>"$work/mount.log" ||
    skip "cannot mount a tmpfs: $(cat "$work/mount.log")"
cleanup() { umount -l "$state"; }
allow_warning '[Nn]o space left|disk is full|database or disk is full|disk I/O error'

job() { # name, workers, steps
    submit --name "$1" "$here/jobs/small.yaml" --set resources.workers="$2" --set parallel.data="$2" \
        --set training.steps="$3" --set training.batch=64 --set training.log_every=20 --set checkpoint.every=50 \
        --set evaluation.every="$3"
}
# 32 KiB stay: a line of the rank's log, which lies on the same disk, fits; a checkpoint doesn't.
fill() {
    head -c 32768 /dev/zero >"$state/spare" 2>/dev/null || true
    dd if=/dev/zero of="$state/ballast" bs=4k 2>/dev/null || true
    rm -f "$state/spare"
}
full() { [ "$(df --output=avail "$state" | tail -n 1 | tr -d ' ')" -le 32 ]; }
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
dd if=/dev/zero of="$state/rest" bs=1k 2>/dev/null || true
code=0
"$ctl" submit "$here/jobs/small.yaml" >"$work/out" 2>"$work/err" || code=$?
rm -f "$state/rest"
if [ "$code" -eq 0 ]; then
    accepted=$(cat "$work/out")
    say "there was room for job $accepted still"
else
    accepted=
    same "exit code of a submit that cannot be stored" "$code" 3
    grep -qiE 'no space left|disk is full|full' "$work/err" || fail "the refusal doesn't tell the reason: $(cat "$work/err")"
    say "submit: $(cat "$work/err")"
fi
for _ in $(seq 200); do
    fill # what the worker freed by giving a checkpoint up
    log_has "$id" 'was not written, training goes on' && break
    [ "$("$ctl" info -o json | jq .pid)" = "$daemon" ] || fail "the daemon is gone"
    sleep 0.05
done
log_has "$id" 'was not written, training goes on' || fail "rank 0's log tells of no checkpoint that failed"
say "rank 0: $(grep -h 'was not written' "$state/jobs/$id/logs/rank-0.log" | head -n 1 | cut -c1-200)"
[ "$(field "$id" '.state | IN("RUNNING", "RESTARTING", "STARTING")')" = true ] ||
    fail "the job is $(field "$id" '.state + ": " + .reason') while the disk is full"

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
say "nothing acknowledged is lost; the same bits"
