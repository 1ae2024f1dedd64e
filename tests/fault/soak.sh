#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Random deaths over one job: kill -9 of a rank, of mpirun, of the shim, of gradd (alone, or with the others), SIGSTOP and
# SIGCONT of a rank. At the end the parameters are those of an undisturbed run, bit for bit, and nothing is left over.
#   SEED    repeats a run (printed at the start)
#   DEATHS  how many (default 20)
#   STEPS   length of the job (default 600 a death)
#   LIMIT   seconds for the whole (default 60 and 15 a death)
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
seed=${SEED:-$(($(date +%s%N) % 1000000))}
deaths=${DEATHS:-20}
steps=${STEPS:-$((deaths * 600))}
deadline=$(($(now_ms) + ${LIMIT:-$((60 + deaths * 15))} * 1000))
RANDOM=$((seed % 32768))
say "SEED=$seed DEATHS=$deaths STEPS=$steps"
allow_warning 'job [0-9]+'

job() { # name, workers
    submit --name "$1" "$source_root/tests/e2e/jobs/small.yaml" --set resources.workers="$2" --set parallel.data="$2" \
        --set training.steps="$steps" --set checkpoint.every=25 --set evaluation.every="$steps" \
        --set restart.max=1000 --set restart.backoff=50ms
}
daemon_start --slots 2
id=$(job undisturbed 1)
succeed "$id" 600
reference=$(field "$id" .parameters_sha256)
say "undisturbed: $reference"

id=$(job disturbed 2)
declare -A counts
alive() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }
is_over() { [ "$(field "$id" '.state | IN("SUCCEEDED", "FAILED", "CANCELLED")')" = true ]; }
for ((i = 0; i < deaths; i++)); do
    # Half of the deaths wait until the attempt trains; the others may hit a start, a backoff or an end.
    if ((RANDOM % 2)); then
        while ! is_over && [ "$(field "$id" .state)" != RUNNING ]; do
            [ "$(now_ms)" -lt "$deadline" ] || fail "job $id is $(field "$id" '.state + ": " + .reason') for too long"
            sleep 0.05
        done
    fi
    sleep "0.$((RANDOM % 9))"
    if is_over; then break; fi
    case $((RANDOM % 7)) in
        0 | 1)
            what="rank $((RANDOM % 2))"
            victim=$(rank_pid "$id" "${what#rank }")
            ;;
        2)
            what=mpirun
            victim=$(mpirun_pid "$id")
            ;;
        3)
            what=shim
            victim=$(shim_pid "$id")
            ;;
        4)
            what=gradd
            victim=
            daemon_kill9
            sleep "0.$((RANDOM % 5))"
            daemon_start --slots 2
            ;;
        5)
            what="gradd and the rest"
            victim=$(job_processes "$id")
            daemon_kill9
            for pid in $victim; do kill -9 "$pid" 2>/dev/null || true; done
            victim=
            daemon_start --slots 2
            ;;
        6)
            what="stop and continue"
            victim=$(rank_pid "$id" $((RANDOM % 2)))
            if alive "$victim"; then
                kill -STOP "$victim" 2>/dev/null || true
                sleep "0.$((RANDOM % 9))"
                kill -CONT "$victim" 2>/dev/null || true
            fi
            victim=
            ;;
    esac
    if alive "$victim"; then kill -9 "$victim" 2>/dev/null || true; fi
    say "$i: $what at step $(field "$id" .step), attempt $(field "$id" .attempt)"
    counts[${what%% [01]}]=$((${counts[${what%% [01]}]:-0} + 1))
    [ "$(now_ms)" -lt "$deadline" ] || fail "not within its time (SEED=$seed)"
done
succeed "$id" 600
for what in "${!counts[@]}"; do say "${counts[$what]} × $what"; done
say "disturbed: $(field "$id" .parameters_sha256) after $(field "$id" .attempt) attempts"
[ "$i" -ge $((deaths / 2)) ] || fail "the job ended after $i of $deaths deaths: STEPS=$steps is too short"
same "parameters (SEED=$seed)" "$(field "$id" .parameters_sha256)" "$reference"
processes_gone "$id" 5
same "slots in use" "$("$bin/gradctl" info -o json | jq .slots_used)" 0
say "same bits, nothing left over"
figure "$i deaths, $(field "$id" .attempt) attempts"
