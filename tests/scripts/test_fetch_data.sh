#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/fetch-data against a file server on loopback: first time, again, broken off and gone on with, wrong sum, missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
source=$PWD
for tool in python3 curl gzip tar; do
    command -v "$tool" >/dev/null || { echo "[  SKIPPED ] scripts/test_fetch_data: no $tool here"; exit 77; }
done
work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
fail() {
    echo "FAILED: $*" >&2
    cat "$work/log" >&2 || true
    exit 1
}

mkdir -p "$work/www/set" "$work/www/no-ranges"
head -c 300000 /dev/urandom >"$work/www/set/plain.bin"
head -c 300000 /dev/urandom >"$work/www/no-ranges/plain.bin"
head -c 5000 /dev/urandom | tee "$work/content" | gzip -9 >"$work/www/set/packed.gz"
(cd "$work" && tar -czf www/set/some.tar.gz content)
sum() { sha256sum <"$1" | cut -d' ' -f1; }
cat >"$work/table" <<END
# a comment
one set/plain.bin file $(sum "$work/www/set/plain.bin") http://127.0.0.1:1/unused
two set/packed.gz content $(sum "$work/content") http://127.0.0.1:1/unused
two set/some.tar.gz tar $(sum "$work/www/set/some.tar.gz") http://127.0.0.1:1/unused
three no-ranges/plain.bin file $(sum "$work/www/no-ranges/plain.bin") http://127.0.0.1:1/unused
END
cd "$work/www"
python3 "$source/tests/scripts/file_server.py" >"$work/port" 2>"$work/requests" &
server=$!
cd "$work"
for _ in $(seq 200); do
    [ -s port ] && break
    kill -0 "$server" 2>/dev/null || fail "the file server doesn't start"
    sleep 0.05
done
url=http://127.0.0.1:$(cat port)
fetch() { "$source/scripts/fetch-data" --to "$work/data" --table "$work/table" --base-url "$url" "$@" >"$work/log" 2>&1; }
requests() { wc -l <"$work/requests"; }

fetch || fail "first time"
cmp -s data/set/plain.bin www/set/plain.bin || fail "plain.bin differs"
cmp -s data/set/content content || fail "the tar isn't unpacked"
grep -q "export GRADD_DATA=$work/data" log || fail "the folder isn't named"

rm data/set/some.tar.gz.unpacked data/set/content
mkdir -p data/set/content/taken
if fetch two; then fail "what doesn't unpack is called good"; fi
grep -q "couldn't get set/some.tar.gz (it doesn't unpack)" log || fail "what doesn't unpack isn't named"
rm -r data/set/content
fetch two || fail "unpacking again"
cmp -s data/set/content content || fail "the tar isn't unpacked again"

before=$(requests)
fetch || fail "again"
[ "$(requests)" -eq "$before" ] || fail "what is there was downloaded again"

gzip -dc www/set/packed.gz | gzip -1 >data/set/packed.gz
fetch two || fail "packed in another way"
[ "$(requests)" -eq "$before" ] || fail "the same content in another packing was downloaded again"

rm -r data/set/plain.bin
head -c 100000 www/set/plain.bin >data/set/plain.bin.part
fetch one || fail "going on"
grep -q "GET set/plain.bin from 100000" requests || fail "didn't go on where it broke off"
cmp -s data/set/plain.bin www/set/plain.bin || fail "plain.bin differs after going on"
[ ! -e data/set/plain.bin.part ] || fail "the part is left"

rm data/no-ranges/plain.bin
head -c 1000 www/no-ranges/plain.bin >data/no-ranges/plain.bin.part
fetch three || fail "a server without ranges"
cmp -s data/no-ranges/plain.bin www/no-ranges/plain.bin || fail "plain.bin of a server without ranges differs"

rm data/set/plain.bin
: >www/set/plain.bin.broken
fetch one || fetch one || fail "broken off by the server"
cmp -s data/set/plain.bin www/set/plain.bin || fail "plain.bin differs after the server broke off"

rm data/set/plain.bin
head -c 300000 /dev/urandom >www/set/plain.bin
! fetch one || fail "a wrong sum was accepted"
grep -q "another SHA-256" log || fail "the wrong sum isn't named"
[ ! -e data/set/plain.bin ] || fail "a file with a wrong sum is in place"

rm www/set/plain.bin
! fetch one || fail "a missing file was accepted"
grep -q "couldn't get set/plain.bin" log || fail "the missing file isn't named"

status=0
fetch four || status=$?
[ "$status" -eq 2 ] || fail "an unknown set gives $status"
grep -q "no set named four; there are: one three two" log || fail "the sets aren't named"
echo "all right"
