# SPDX-License-Identifier: Apache-2.0
# Sourced by the end-to-end tests: a private daemon in a temporary folder, helpers, and a check at the end that
# neither processes nor warnings are left. Needs GRADD_BIN (the folder of the programs) and jq.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_root=$(cd "$here/../.." && pwd)
bin=${GRADD_BIN:-$source_root/build/release/bin}
export GRADD_DATA=${GRADD_DATA:-$(realpath -m "$source_root/../shared/data")}
work=$(mktemp -d "${TMPDIR:-/tmp}/gradd-e2e.XXXXXX")
state=$work/state
export GRADD_ADDRESS=unix:$state/gradd.sock
daemon=

note() { printf '%s  %s\n' "$(date +%T)" "$*"; }
fail() {
    printf 'FAIL: %s\n' "$*" >&2
    [ -f "$work/gradd.log" ] && { echo '--- gradd.log' >&2; tail -n 30 "$work/gradd.log" >&2; }
    exit 1
}
skip() {
    echo "SKIPPED: $*"
    exit 77
}

# The processes whose environment names this test's state folder.
strays() {
    local pid
    for pid in $(pgrep -f 'grad-worker|grad-shim|mpirun|orted' || true); do
        if tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -q "^GRADD_JOB_DIR=$state"; then
            echo "$pid"
        fi
    done
}

daemon_start() { # [arguments of gradd]
    "$bin/gradd" --state-dir "$state" --listen "$GRADD_ADDRESS" "$@" 2>>"$work/gradd.log" &
    daemon=$!
    local i
    for i in $(seq 200); do
        "$bin/gradctl" info >/dev/null 2>&1 && return 0
        kill -0 "$daemon" 2>/dev/null || fail "gradd ended at its start"
        sleep 0.05
    done
    fail "gradd doesn't answer within 10 s"
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

finish() {
    local status=$? id left
    if [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null; then
        for id in $("$bin/gradctl" list -o json 2>/dev/null | jq -r '.[]?.id' 2>/dev/null); do
            "$bin/gradctl" cancel --force "$id" >/dev/null 2>&1 || true
        done
        "$bin/gradctl" wait --timeout 20 $("$bin/gradctl" list -o json 2>/dev/null | jq -r '.[]?.id' 2>/dev/null) >/dev/null 2>&1 || true
    fi
    daemon_stop
    left=$(strays)
    if [ -n "$left" ]; then
        echo "processes left behind: $left" >&2
        ps -o pid,ppid,args -p "$(echo $left | tr ' ' ,)" >&2 || true
        kill -9 $left 2>/dev/null || true
        [ "$status" -ne 0 ] || status=1
    fi
    if [ "${KEEP:-no}" = yes ]; then echo "kept $work"; else rm -rf "$work"; fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

command -v jq >/dev/null || skip "jq is not installed"
[ -x "$bin/gradd" ] || fail "no gradd in $bin"

submit() { # arguments of gradctl submit
    "$bin/gradctl" submit "$@"
}
field() { # id, jq expression
    "$bin/gradctl" show "$1" -o json | jq -r "$2"
}
now_ms() { echo $(($(date +%s%N) / 1000000)); }

# Waits until the jq expression over `show` is true; gives up after so many seconds.
wait_for() { # id, expression, seconds
    local deadline=$(($(now_ms) + $3 * 1000)) json
    while :; do
        json=$("$bin/gradctl" show "$1" -o json 2>/dev/null) || json='{}'
        [ "$(jq -r "$2" <<<"$json" 2>/dev/null)" = true ] && return 0
        case "$(jq -r .state <<<"$json")" in
            FAILED | CANCELLED | SUCCEEDED)
                fail "job $1 is $(jq -r .state <<<"$json") ($(jq -r .reason <<<"$json")) before: $2" ;;
        esac
        [ "$(now_ms)" -lt "$deadline" ] || fail "job $1: not within $3 s: $2; it is $(jq -c '{state,reason,step,attempt}' <<<"$json")"
        sleep 0.05
    done
}
succeed() { # id, seconds: waits; fails with the job's reason and log
    if ! "$bin/gradctl" wait --timeout "$2" "$1" >/dev/null 2>"$work/wait.err"; then
        cat "$work/wait.err" >&2
        "$bin/gradctl" logs "$1" 2>/dev/null | tail -n 20 >&2 || true
        fail "job $1 did not succeed: $(field "$1" '.state + ": " + (.reason // "")')"
    fi
}
