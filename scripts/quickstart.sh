#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, trains a small language model with two workers, prints text sampled from it.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: scripts/quickstart.sh [--keep] [JOB.yaml]

Installs missing packages (root or sudo), builds gradd in build/release, starts a private daemon on a unix socket in a
temporary folder, submits JOB.yaml (default: configs/jobs/quickstart.yaml), follows it, prints text sampled from the
trained model, and shuts everything down. A second run reuses the build.

  --keep   leave the state folder (checkpoints, logs) in place and print its path
EOF
}

keep=no
job=configs/jobs/quickstart.yaml
while [ $# -gt 0 ]; do
    case "$1" in
        --keep) keep=yes ;;
        -h | --help) usage; exit 0 ;;
        -*) echo "quickstart.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
        *) job=$(realpath "$1") ;;
    esac
    shift
done
cd "$(dirname "$0")/.."

say() {
    if [ -t 1 ]; then printf '\n\033[1m== %s\033[0m\n' "$*"; else printf '\n== %s\n' "$*"; fi
}

say "packages"
scripts/deps.sh

say "build (build/release)"
scripts/build.sh release

bin=$PWD/build/release/bin
state=$(mktemp -d "${TMPDIR:-/tmp}/gradd-quickstart.XXXXXX")
daemon=
id=
finish() {
    if [ -n "$daemon" ]; then
        # a job outlives its daemon: it has to be ended first (a finished one says so, which is fine)
        if [ -n "$id" ] && "$bin/gradctl" cancel --force "$id" >/dev/null 2>&1; then
            timeout 30 "$bin/gradctl" wait "$id" >/dev/null 2>&1 || true
        fi
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    if [ "$keep" = yes ]; then
        echo "state kept in $state"
    else
        rm -rf "$state"
    fi
}
trap finish EXIT
trap 'exit 130' INT TERM

say "daemon (private, on a unix socket)"
cores=$(nproc)
slots=$((cores > 2 ? cores : 2))
# in a session of its own: Ctrl-C shall end the job first
setsid "$bin/gradd" --state-dir "$state" --listen "unix:$state/gradd.sock" --slots "$slots" 2>"$state/gradd.log" &
daemon=$!
export GRADD_ADDRESS="unix:$state/gradd.sock"
for _ in $(seq 100); do
    "$bin/gradctl" info >/dev/null 2>&1 && break
    kill -0 "$daemon" 2>/dev/null || { cat "$state/gradd.log" >&2; exit 1; }
    sleep 0.05
done
"$bin/gradctl" info

say "job: $job"
id=$("$bin/gradctl" submit "$job")
status=0
"$bin/gradctl" wait --progress "$id" || status=$?
[ "$status" -ne 130 ] || exit 130
if [ "$status" -ne 0 ]; then
    "$bin/gradctl" show "$id" || true
    "$bin/gradctl" logs "$id" || true
    exit "$status"
fi

say "next steps"
cat <<EOF
  gradd --state-dir DIR --listen unix:DIR/gradd.sock &     # your own daemon (programs are in $bin)
  export GRADD_ADDRESS=unix:DIR/gradd.sock
  gradctl submit --follow configs/jobs/quickstart.yaml
EOF
