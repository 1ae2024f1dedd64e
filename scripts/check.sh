#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The static checks, each a script of its own.
set -uo pipefail
case "${1-}" in
    "") ;;
    -h | --help)
        echo "usage: scripts/check.sh   runs check-includes, check-size, check-format and check-tidy"
        exit 0
        ;;
    *)
        echo "check.sh: unknown argument $1; it takes none" >&2
        exit 2
        ;;
esac
cd "$(dirname "$0")/.." || exit 1
failed=
for check in includes size format tidy; do
    echo "== check-$check"
    "scripts/check-$check.sh" || failed="$failed $check"
done
if [ -n "$failed" ]; then
    echo "checks failed:$failed" >&2
    exit 1
fi
echo "all static checks passed"
