# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by the end-to-end tests: a private daemon in a temporary folder, helpers, and a check at the end that neither
# processes, shared memory nor unexpected warnings of the daemon are left.
#   GRADD_BIN     folder of the programs (default: build/release/bin)
#   GRADD_SOURCE  the repository (default: this file's)
#   GRADD_DATA    the real data (default: ../shared/data beside the repository)
#   KEEP=yes      leaves the state folder
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_root=${GRADD_SOURCE:-$(cd "$here/../.." && pwd)}
bin=${GRADD_BIN:-$source_root/build/release/bin}
export GRADD_DATA=${GRADD_DATA:-$(realpath -m "$source_root/../shared/data")}
work=$(mktemp -d "${TMPDIR:-/tmp}/gradd-e2e.XXXXXX")
state=$work/state
export GRADD_ADDRESS=unix:$state/gradd.sock
daemon=
helpers=()  # processes of the test itself, ended with it
allowed='^$' # warnings and errors of the daemon that the test means to cause

say() { printf '%s  %s\n' "$(date +%T)" "$*"; }
figure() { printf 'figure: %s\n' "$*"; } # what scripts/acceptance.sh puts into its table
fail() {
    printf 'FAIL: %s\n' "$*" >&2
    if [ -f "$work/gradd.log" ]; then
        echo '--- gradd.log' >&2
        tail -n 30 "$work/gradd.log" >&2
    fi
    exit 1
}
skip() {
    echo "[  SKIPPED ] $(basename "$0" .sh): $*"
    exit 77
}
need_data() { # file below GRADD_DATA
    [ -e "$GRADD_DATA/$1" ] || skip "no $1 in GRADD_DATA ($GRADD_DATA)"
}
allow_warning() { # extended regular expression
    allowed="$allowed|$1"
}
now_ms() { echo $(($(date +%s%N) / 1000000)); }

# ---- the daemon ----

daemon_start() { # [arguments of gradd]
    "$bin/gradd" --state-dir "$state" --listen "$GRADD_ADDRESS" "$@" 2>>"$work/gradd.log" &
    daemon=$!
    local deadline=$(($(now_ms) + 20000))
    while ! "$bin/gradctl" info >/dev/null 2>&1; do
        kill -0 "$daemon" 2>/dev/null || fail "gradd ended at its start"
        [ "$(now_ms)" -lt "$deadline" ] || fail "gradd doesn't answer within 20 s"
        sleep 0.05
    done
}
daemon_stop() {
    [ -n "$daemon" ] || return 0
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
    daemon=
}
daemon_kill9() {
    kill -9 "$daemon"
    wait "$daemon" 2>/dev/null || true
    daemon=
}

# ---- processes ----

# Those whose environment says that they belong to a job of this test's state folder (or to the one job that is named).
job_processes() { # [id]
    local pattern="^GRADD_JOB_DIR=$state/jobs/${1:-[0-9]+}\$" file
    for file in $(grep -lsE "^GRADD_JOB_DIR=" -z /proc/[0-9]*/environ 2>/dev/null || true); do
        if { tr '\0' '\n' <"$file"; } 2>/dev/null | grep -qE "$pattern"; then
            file=${file#/proc/}
            echo "${file%/environ}"
        fi
    done
}
processes_gone() { # id, seconds
    local deadline=$(($(now_ms) + $2 * 1000)) left
    while left=$(job_processes "$1") && [ -n "$left" ]; do
        [ "$(now_ms)" -lt "$deadline" ] || fail "processes of job $1 are left: $(ps -o pid,args -p "$(echo $left | tr ' ' ,)")"
        sleep 0.1
    done
}
rank_pid() { # id, rank
    field "$1" ".ranks[] | select(.rank == $2) | .pid"
}
mpirun_pid() { # id
    local pid
    for pid in $(job_processes "$1"); do
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = mpirun ] || [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = orterun ]; then
            echo "$pid"
            return 0
        fi
    done
}
shim_pid() { # id
    local pid
    for pid in $(job_processes "$1"); do
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = grad-shim ]; then
            echo "$pid"
            return 0
        fi
    done
}

# ---- jobs ----

submit() { # arguments of gradctl submit → id on stdout
    "$bin/gradctl" submit "$@"
}
field() { # id, jq expression
    "$bin/gradctl" show "$1" -o json | jq -r "$2"
}
# Waits until the jq expression over `show` is true; gives up after so many seconds, or when the job has ended.
wait_for() { # id, expression, seconds
    local deadline=$(($(now_ms) + $3 * 1000)) json
    while :; do
        json=$("$bin/gradctl" show "$1" -o json 2>/dev/null) || json='{}'
        [ "$(jq -r "$2" <<<"$json" 2>/dev/null)" != true ] || return 0
        case "$(jq -r .state <<<"$json")" in
            FAILED | CANCELLED | SUCCEEDED)
                fail "job $1 is $(jq -r .state <<<"$json") ($(jq -r .reason <<<"$json")) before: $2" ;;
        esac
        [ "$(now_ms)" -lt "$deadline" ] ||
            fail "job $1: not within $3 s: $2; it is $(jq -c '{state,reason,step,attempt}' <<<"$json")"
        sleep 0.05
    done
}
succeed() { # id, seconds: waits; fails with the job's reason and log
    if ! "$bin/gradctl" wait --timeout "$2" "$1" >"$work/wait.out" 2>&1; then
        cat "$work/wait.out" >&2
        "$bin/gradctl" watch -o json "$1" 2>/dev/null | tail -n 20 >&2 || true
        "$bin/gradctl" logs "$1" 2>/dev/null | tail -n 20 >&2 || true
        fail "job $1 did not succeed: $(field "$1" '.state + ": " + (.reason // "")')"
    fi
}
ends() { # id, state, seconds
    "$bin/gradctl" wait --timeout "$3" "$1" >"$work/wait.out" 2>&1 || true
    [ "$(field "$1" .state)" = "$2" ] || fail "job $1 is $(field "$1" '.state + ": " + (.reason // "")'), not $2"
}
# Exit code of a command, whatever it prints.
code_of() {
    local code=0
    "$@" >/dev/null 2>&1 || code=$?
    echo "$code"
}
same() { # what, got, expected
    [ "$2" = "$3" ] || fail "$1: got \"$2\", expected \"$3\""
}

# ---- the end ----

cleanup() { :; } # a test may have its own; called when the daemon is gone

# Shared memory of this test's attempts: the folders' names are the attempts' tokens, which the daemon's database holds.
segments() {
    local folder
    for folder in /dev/shm/gradd-*; do
        if [ -d "$folder" ] && grep -qsa -- "${folder#/dev/shm/gradd-}" "$state"/gradd.db*; then echo "$folder"; fi
    done
}

finish() {
    local status=$? ids left pid
    trap - EXIT
    for pid in "${helpers[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    if [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null; then
        ids=$("$bin/gradctl" list --all -o json 2>/dev/null |
            jq -r '.[] | select(.state | IN("SUCCEEDED", "FAILED", "CANCELLED") | not) | .id' 2>/dev/null || true)
        if [ -n "$ids" ]; then
            "$bin/gradctl" cancel --force $ids >/dev/null 2>&1 || true
            "$bin/gradctl" wait --timeout 20 $ids >/dev/null 2>&1 || true
        fi
    fi
    daemon_stop
    left=$(job_processes)
    if [ -n "$left" ]; then
        echo "FAIL: processes left behind:" >&2
        ps -o pid,ppid,etime,args -p "$(echo $left | tr ' ' ,)" >&2 || true
        kill -9 $left 2>/dev/null || true
        [ "$status" -ne 0 ] || status=1
    fi
    left=$(segments)
    if [ -n "$left" ]; then
        echo "FAIL: shared memory left behind: $left" >&2
        rm -rf $left
        [ "$status" -ne 0 ] || status=1
    fi
    cleanup
    if [ -f "$work/gradd.log" ] && grep -E ' (warn|error) ' "$work/gradd.log" | grep -vE "$allowed" >"$work/warnings"; then
        if [ "$status" -eq 0 ]; then
            echo "FAIL: the daemon logged what this test doesn't expect:" >&2
            cat "$work/warnings" >&2
            status=1
        fi
    fi
    if [ "${KEEP:-no}" = yes ]; then echo "kept $work"; else rm -rf "$work"; fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

command -v jq >/dev/null || skip "jq is not installed"
command -v mpirun >/dev/null || skip "mpirun is not installed"
[ -x "$bin/gradd" ] || fail "no gradd in $bin"
