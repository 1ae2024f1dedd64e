#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The include check and the size check find what they are for, in a small tree of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."
source=$PWD
command -v git >/dev/null || { echo "[  SKIPPED ] scripts/test_checks: no git here"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "FAILED: $*" >&2
    cat "$work/log" >&2 || true
    exit 1
}
expect() { grep -qxF -- "$1" "$work/log" || fail "expected: $1"; }

mkdir -p "$work"/{scripts,daemon,engine/base,engine/include/gradd,collectives}
cp "$source"/scripts/check-{includes,size}.sh "$work/scripts"
cd "$work"
git init -q .
echo '# none' >scripts/size-exceptions.txt
: >engine/base/status.h
: >engine/include/gradd/tensor.h
printf '#include <mpi.h>\n#include "base/status.h"\n#include "gradd/tensor.h"\n' >collectives/mpi.c
printf '#include "base/status.h"\n' >daemon/good.c
git add -A
scripts/check-includes.sh >log 2>&1 || fail "right includes"
scripts/check-size.sh >log 2>&1 || fail "right sizes"

printf '#include <stdio.h>\n#include <mpi.h>\n#include "gradd/tensor.h"\n#include "nowhere.h"\n' >daemon/bad.c
{
    printf 'static int long_one(void)\n{\n'
    for i in $(seq 79); do echo "    x = $i;"; done
    printf '}\n'
} >engine/long.c
seq 801 | sed 's|^|// |' >engine/longer.c
git add -A
! scripts/check-includes.sh >log 2>&1 || fail "wrong includes pass"
expect "daemon/bad.c:2: <mpi.h> has its home in collectives/mpi.c"
expect "daemon/bad.c:3: daemon/ may not include engine/include/gradd/tensor.h (allowed: engine/base proto daemon)"
expect 'daemon/bad.c:4: "nowhere.h" isn'"'"'t in the tree (third-party headers stand in <>)'
! scripts/check-size.sh >log 2>&1 || fail "wrong sizes pass"
expect "engine/long.c:2: long_one has 81 lines; at most 80"
expect "engine/longer.c: 801 lines; at most 800"

printf '%s\n' 'engine/long.c:long_one  a table' 'engine/longer.c  generated' >scripts/size-exceptions.txt
scripts/check-size.sh >log 2>&1 || fail "exceptions don't count"
printf '%s\n' 'engine/long.c:long_one' 'engine/longer.c  generated' 'engine/gone.c  was long' >scripts/size-exceptions.txt
! scripts/check-size.sh >log 2>&1 || fail "bad exceptions pass"
expect "scripts/size-exceptions.txt:1: an exception needs its reason"
expect "scripts/size-exceptions.txt:3: engine/gone.c needs no exception"
echo "all right"
