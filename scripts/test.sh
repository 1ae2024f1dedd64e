#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, runs all tests, and says what passed, failed and was skipped.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/test.sh [--preset NAME] [--label REGEX] [--slow] [--no-deps] [CTEST ARGUMENTS]

  --preset NAME   what to build and test (default: release); also dev asan tsan coverage
  --label REGEX   only tests with such a label: unit mpi e2e fault slow cuda
  --slow          also the tests labelled slow: whole trainings, long runs under random kills (an hour and more)
  --no-deps       install nothing
Other arguments go to ctest: scripts/test.sh -R worker
END
}

preset=release
label=
slow=no
deps=yes
while [ $# -gt 0 ]; do
    case "$1" in
        --preset) preset=${2:?--preset needs a name}; shift ;;
        --label) label=${2:?--label needs a regular expression}; shift ;;
        --slow) slow=yes ;;
        --no-deps) deps=no ;;
        -h | --help) usage; exit 0 ;;
        *) break ;;
    esac
    shift
done
cd "$(dirname "$0")/.."

[ "$deps" = no ] || scripts/deps.sh
scripts/build.sh "$preset"

# Unit tests share the cores; what measures time or starts many processes runs alone, and may be tried a second time:
# it measures real time on a machine that may be busy, and Open MPI 4.1 can hang when a rank leaves during MPI_Init.
alone='mpi|e2e|fault|slow'
log=build/$preset/test.log
: >"$log"
failed=0
run() {
    local status=0
    ctest --preset "$preset" --no-tests=ignore "$@" >"$log.part" 2>&1 || status=$?
    ctest_lines "$log.part"
    cat "$log.part" build/"$preset"/Testing/Temporary/LastTest.log >>"$log" 2>/dev/null || true
    rm -f "$log.part"
    return "$status"
}
# One line a test; the whole output of those that failed.
ctest_lines() {
    grep -E '^ *([0-9]+/[0-9]+)? *Test +#[0-9]+: ' "$1" || true
    if grep -q '% tests passed, 0 tests failed\|No tests were found' "$1"; then return 0; fi
    awk '/^ *Start /{next} /^ *[0-9]+\/[0-9]+ Test /{show = /Failed|Timeout|Exception|Not Run/; next} show' "$1"
}
if [ -n "$label" ]; then
    run -L "$label" "$@" || failed=1
else
    run -LE "$alone" -j "$(nproc)" "$@" || failed=1
    if [ "$slow" = yes ]; then
        run -L "$alone" --repeat until-pass:2 "$@" || failed=1
    else
        run -L "$alone" -LE slow --repeat until-pass:2 "$@" || failed=1
    fi
fi

# The last try of each test counts.
last=$(grep -E '^ *([0-9]+/[0-9]+)? *Test +#[0-9]+: ' "$log" | sed -E 's/.*Test +#[0-9]+: //' | awk '{line[$1] = $0} END {for (name in line) print line[name]}' || true)
passed=$(grep -c ' Passed ' <<<"$last" || true)
skipped=$(grep -c '\*\*\*Skipped ' <<<"$last" || true)
broken=$(grep -vE ' Passed |\*\*\*Skipped |^$' <<<"$last" | awk '{print $1}' | sort || true)
echo
reasons=$(grep -hoE '^\[  SKIPPED \] .*:.*|^\[  SKIPPED \] .* .*' "$log" | sort -u || true)
if [ -n "$reasons" ]; then
    echo "skipped, with the reason:"
    printf '%s\n' "$reasons" | sed 's/^\[  SKIPPED \]/ /'
fi
if [ -n "$broken" ]; then
    echo "failed:"
    printf '%s\n' "$broken" | sed 's/^/  /'
    failed=1
fi
if [ $((passed + skipped)) -eq 0 ] && [ -z "$broken" ]; then
    echo "no test fits" >&2
    failed=1
fi
echo "preset $preset; log: $log"
echo "tests: $passed passed, $(printf '%s' "$broken" | grep -c . || true) failed, $skipped skipped"
exit "$failed"
