#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and tests the asan and tsan presets (or those named), without the slow and end-to-end tests.
set -euo pipefail
case "${1:-}" in
    -h | --help) echo "usage: scripts/sanitize.sh [asan] [tsan]"; exit 0 ;;
esac
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- asan tsan
root=$PWD
# No detect_stack_use_after_return: gcc 12's fake stack doesn't align 64-byte vectors (GCC bug 110027).
asan="strict_string_checks=1:detect_stack_use_after_return=0"
export LSAN_OPTIONS="suppressions=$root/tests/support/lsan.supp:print_suppressions=0"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
export TSAN_OPTIONS="suppressions=$root/tests/support/tsan.supp:second_deadlock_stack=1"
for preset in "$@"; do
    echo "== $preset"
    scripts/build.sh "$preset"
    # Races don't depend on the instruction set: the thread sanitizer sees one of them.
    skip=()
    [ "$preset" != tsan ] || skip=(-E '_v[0-9]$')
    ASAN_OPTIONS="$asan:detect_leaks=1" ctest --preset "$preset" -j2 -LE 'slow|e2e|fault|mpi' "${skip[@]}" --output-on-failure
    # Open MPI isn't instrumented. Its plugins are unloaded at exit, so their leaks have no names to suppress by; its
    # locks look wrong to the thread sanitizer, which sees the same code on loopback ranks.
    [ "$preset" != asan ] ||
        ASAN_OPTIONS="$asan:detect_leaks=0" ctest --preset "$preset" -L mpi -LE 'slow|e2e|fault' --output-on-failure
done
