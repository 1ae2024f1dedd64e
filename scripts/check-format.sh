#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# C sources are as .clang-format (version 14) writes them; shell scripts pass shellcheck.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/check-format.sh [--fix] [FILE...]

  --fix   formats instead of complaining
END
}
fix=no
case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    --fix) fix=yes; shift ;;
esac
cd "$(dirname "$0")/.."
if ! command -v clang-format >/dev/null || ! command -v shellcheck >/dev/null; then
    scripts/deps.sh --checks
fi
if [ $# -gt 0 ]; then
    files=("$@")
    scripts=()
else
    mapfile -t files < <(git ls-files '*.c' '*.h' '*.cu' '*.cuh')
    mapfile -t scripts < <(git ls-files 'scripts/*.sh' 'scripts/fetch-data' '.ci/run' 'tests/*.sh')
fi
if [ "$fix" = yes ]; then
    clang-format -i "${files[@]}"
    exit 0
fi
status=0
clang-format --dry-run -Werror --ferror-limit=3 "${files[@]}" || status=1
if [ ${#scripts[@]} -gt 0 ]; then
    shellcheck --severity=warning --external-sources "${scripts[@]}" || status=1
fi
[ "$status" -eq 0 ] || { echo "check-format: scripts/check-format.sh --fix mends C sources" >&2; exit 1; }
echo "check-format: ${#files[@]} sources, ${#scripts[@]} scripts, all right"
