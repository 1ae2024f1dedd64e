#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Deaths and silences one by one, each with what the job's history must say about it. Random ones: soak.sh.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
ctl=$bin/gradctl
steps=8000
allow_warning 'job [0-9]+'

job() { # name [arguments of submit]
    local name=$1
    shift
    submit --name "$name" "$source_root/tests/e2e/jobs/small.yaml" --set training.steps="$steps" --set checkpoint.every=100 \
        --set evaluation.every="$steps" "$@"
}
same_bits() { # id, attempts
    succeed "$1" 120
    same "parameters of job $1" "$(field "$1" .parameters_sha256)" "$reference"
    same "attempts of job $1" "$(field "$1" .attempt)" "$2"
    processes_gone "$1" 5
}
reasons() { # id: the events' reasons, one a line
    "$ctl" watch -o json "$1" | jq -r '.reason // empty'
}
said() { # id, extended regular expression
    reasons "$1" | grep -qE "$2" || fail "job $1: no event says \"$2\":
$(reasons "$1")"
}
gone() { # id, seconds: all processes of a job, without asking the daemon
    local deadline=$(($(now_ms) + $2 * 1000))
    while [ -n "$(job_processes "$1")" ]; do
        [ "$(now_ms)" -lt "$deadline" ] || fail "processes of job $1 are left after $2 s"
        sleep 0.1
    done
}

daemon_start --slots 2 --heartbeat 3
id=$(job undisturbed)
succeed "$id" 120
reference=$(field "$id" .parameters_sha256)

# ---- a rank that falls silent is given up after the heartbeat's time ----
id=$(job silent)
wait_for "$id" '.step >= 300' 60
kill -STOP "$(rank_pid "$id" 1)"
same_bits "$id" 2
said "$id" '^rank 1 \(pid [0-9]+\) sent nothing for 3000 ms; starts again from the checkpoint at step [0-9]+$'
say "a silent rank"

end_without_daemon() { # id: the daemon is killed on the way; rank 0 says that the job is done
    local folder deadline
    wait_for "$1" '.step >= 300' 60
    folder=$(field "$1" .directory)
    daemon_kill9
    deadline=$(($(now_ms) + 120000))
    while [ ! -f "$folder/attempts/1/goodbye.json" ]; do
        [ "$(now_ms)" -lt "$deadline" ] || fail "the job doesn't end by itself"
        sleep 0.1
    done
}

# ---- a daemon that stands still for a while costs nothing ----
id=$(job still)
wait_for "$id" '.step >= 300' 60
kill -STOP "$daemon"
sleep 2
kill -CONT "$daemon"
same_bits "$id" 1
say "a daemon that stood still"

# ---- the job ends while no daemon is there ----
id=$(job alone)
end_without_daemon "$id"
daemon_start --slots 2 --heartbeat 3
same_bits "$id" 1
say "an end without a daemon"

# ---- and all its processes are killed before one comes: the word of rank 0 is on disk ----
id=$(job word)
end_without_daemon "$id"
for pid in $(job_processes "$id"); do kill -9 "$pid" 2>/dev/null || true; done
gone "$id" 10
daemon_start --slots 2 --heartbeat 3
same_bits "$id" 1
say "an end that only the disk knows of"

# ---- everything dies at once ----
id=$(job everything)
wait_for "$id" '.step >= 300' 60
victims=$(job_processes "$id")
daemon_kill9
for pid in $victims; do kill -9 "$pid" 2>/dev/null || true; done
gone "$id" 10
daemon_start --slots 2 --heartbeat 3
same_bits "$id" 2
say "everything at once"

# ---- a job that doesn't leave is killed after its grace ----
id=$(job stubborn --set restart.grace=1s)
wait_for "$id" '.step >= 300' 60
kill -STOP "$(rank_pid "$id" 1)"
"$ctl" pause "$id" >/dev/null
wait_for "$id" '.state == "PAUSED"' 30
gone "$id" 5
said_now=$(field "$id" .reason)
[[ "$said_now" =~ ^"did not leave within its grace and was killed; a resume goes on from the checkpoint at step "[0-9]+$ ]] ||
    fail "the paused job says: $said_now"
"$ctl" resume "$id" >/dev/null
same_bits "$id" 2
id=$(job stubborn --set restart.grace=1s)
wait_for "$id" '.step >= 100' 60
kill -STOP "$(rank_pid "$id" 0)"
"$ctl" cancel "$id" >/dev/null
ends "$id" CANCELLED 30
same "its reason" "$(field "$id" .reason)" "cancelled; did not leave within its grace and was killed"
gone "$id" 5
say "pause and cancel of a job that doesn't listen"

# ---- too many deaths ----
id=$(job unlucky --set restart.max=1 --set restart.backoff=100ms)
for attempt in 1 2; do
    wait_for "$id" ".attempt == $attempt and .state == \"RUNNING\" and .checkpoints != []" 60
    pid=$(rank_pid "$id" 1)
    kill -9 "$pid"
done
ends "$id" FAILED 30
same "its reason" "$(field "$id" .reason)" "rank 1 (pid $pid) died (restarted 1 times, the most that restart.max allows)"
"$ctl" resume "$id" >/dev/null
same_bits "$id" 3
say "more deaths than restart.max, then a resume"

# ---- no launcher ----
daemon_stop
GRADD_LAUNCHER=$work/no-such-mpirun daemon_start --slots 2
id=$(job launcherless --set restart.max=0)
ends "$id" FAILED 30
said_now=$(field "$id" .reason)
[[ "$said_now" == *"$work/no-such-mpirun"*"No such file or directory"* ]] || fail "without a launcher the job says: $said_now"
say "no launcher: $said_now"
