#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Configures and builds one preset; quiet unless something is wrong or the output is a terminal.
set -euo pipefail
preset=${1:-release}
case "$preset" in
    -h | --help) echo "usage: scripts/build.sh [PRESET [BUILD ARGUMENTS]]   (release dev asan tsan coverage fuzz cuda)"; exit 0 ;;
esac
shift || true
cd "$(dirname "$0")/.."
log=build/$preset.log
mkdir -p build
if [ -t 1 ]; then
    cmake --preset "$preset" >"$log" 2>&1 || { tail -n 40 "$log" >&2; exit 1; }
    cmake --build --preset "$preset" "$@"
else
    { cmake --preset "$preset" && cmake --build --preset "$preset" "$@"; } >"$log" 2>&1 || {
        grep -nE 'error|FAILED|undefined|CMake Error' "$log" | head -n 40 >&2 || true
        echo "build.sh: preset $preset doesn't build; the whole log is $log" >&2
        exit 1
    }
    echo "built build/$preset"
fi
