#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/bench.sh understands its arguments; interleave.py, with sides that measure nothing, does what it says.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v python3 >/dev/null || { echo "[  SKIPPED ] scripts/test_bench: no python3 here"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "FAILED: $*" >&2
    cat "$work/log" >&2 || true
    exit 1
}
expect() { grep -qF -- "$1" "$work/log" || fail "expected: $1"; }
refused() { # message, arguments
    local message=$1 status=0
    shift
    scripts/bench.sh "$@" >"$work/log" 2>&1 || status=$?
    [ "$status" -eq 2 ] || fail "exit code $status of bench.sh $*"
    expect "$message"
}

# arguments
scripts/bench.sh --help >"$work/log"
names=(gpt-recipe mnist-cnn gpt2-124m resnet50 lstm adamw-100m gpt2-124m-bf16 loader loader-2)
for name in "${names[@]}" growth; do [ "$name" = loader-2 ] || expect "  $name "; done
refused "usage: scripts/bench.sh"
refused "unknown benchmark gpt3" gpt3
refused "unknown benchmark --fast" gpt-recipe --fast
refused "--rounds needs a number from 1 to 9999, not \"0\"" gpt-recipe --rounds 0
refused "--threads needs a number from 1 to 9999, not \"two\"" gpt-recipe --threads two
refused "--json needs a value" gpt-recipe --json
export GRADD_PEER_PYTHON=python3
scripts/bench.sh all growth --dry-run --json "$work/x.json" --threads 3 --rounds 7 >"$work/log"
[ "$(wc -l <"$work/log")" -eq 10 ] || fail "a command a benchmark"
[ ! -e "$work/x.json" ] || fail "a dry run writes"
for name in "${names[@]}"; do expect "interleave.py $name --rounds 7 --steps "; done
[ "$(grep -c 'compiled=' "$work/log")" -eq 7 ] || fail "compiled peers"
[ "$(grep -c -- "--json $work/x.json" "$work/log")" -eq 10 ] || fail "--json for all"
expect "bench-optim\\ --threads\\ 3"
expect "training.precision=bf16"
scripts/bench.sh gpt-recipe --dry-run --no-compiled >"$work/log"
! grep -q compiled "$work/log" || fail "--no-compiled"

# sides
interleave() {
    python3 tests/bench/interleave.py "$@" --pause 0 --json "$work/out.json" >"$work/log" 2>&1
}
side() { echo "python3 tests/scripts/fake_side.py $*"; }
row() { # name, Python expression over its row
    python3 - "$work/out.json" "$1" "$2" <<'END' || fail "$1: $2"
import json, sys
rows = [row for row in json.load(open(sys.argv[1])) if row["name"] == sys.argv[2]]
assert len(rows) == 1, rows
row = rows[0]
assert eval(sys.argv[3]), row
END
}
begin() { rm -f "$work"/{out.json,order}; }

begin
interleave gpt-recipe --rounds 3 --steps 3 --ours "$(side 1 2 9 --log "$work/order")" \
    --peer "eager=$(side 4 --log "$work/order")" --peer "compiled=$(side 3 --log "$work/order")" \
    --machine "$(side 100 200 0 0 10 --machine)" || fail "three sides"
row gpt-recipe 'row["ours"] == 2 and row["peer"] == 4 and row["ratio"] == 0.5 and row["unit"] == "ms/step"'
row gpt-recipe 'row["target"] == 0.5 and row["met"] and row["flop"] > 0 and row["machine"]["fma_f32_gflops"] == 200'
row gpt-recipe 'abs(row["percent_of_gemm_peak"] - row["flop"] / 2e-3 / 1e11 * 100) < 0.1'
row gpt-recipe 'abs(row["percent_of_memory_bandwidth"] - row["bytes"] / 2e-3 / 1e10 * 100) < 0.1'
row "gpt-recipe vs compiled" 'row["ratio"] == 0.667 and not row["met"]'
expect "vs eager"
expect "target <= 0.5: met"
expect "target <= 0.5: MISSED"
[ "$(paste -sd' ' "$work/order")" = "1 4 3 1 4 3 3 4 1 1 4 3" ] || fail "order: $(paste -sd' ' "$work/order")"

begin
interleave gpt2-124m-bf16 --rounds 1 --steps 2 --ours "$(side 6 --memory 1048576)" \
    --peer "our f32=$(side 10 --memory 4194304)" --peer "autocast bf16=$(side 8)" --memory-of "our f32" || fail "memory"
row gpt2-124m-bf16 'row["met"] and row["target"] == 0.65 and row["peer_name"] == "our f32"'
row "gpt2-124m-bf16 vs autocast bf16" 'row["ratio"] == 0.75 and "target" not in row'
row "gpt2-124m-bf16 memory" 'row["ours"] == 1 and row["peer"] == 4 and row["met"] and row["unit"] != "ms/step"'
expect "75 % less"

# a peer that fails, hangs, isn't there or answers nonsense is left out
begin
interleave other --rounds 2 --steps 1 --start-limit 2 --ours "$(side 1)" --peer "gone=$work/nothing" \
    --peer "failing=$(side 2 --fail-at 1)" --peer "hanging=$(side 2 --hang-at 1)" \
    --peer "late=$(side 2 --fail-at 3)" --peer "wrong=echo x" --peer "good=$(side 2)" || fail "bad peers"
expect "left out: gone: \`$work/nothing\`: No such file or directory"
expect "left out: failing: "
expect "left out: hanging: not ready within 2 s"
expect "left out: late: "
expect "left out: wrong: answered b'x'"
row "other vs good" 'row["ratio"] == 0.5 and "target" not in row'
[ "$(grep -c '"name"' "$work/out.json")" -eq 1 ] || fail "rows of peers left out"

# ours failing is an error, and nothing is written
begin
! interleave other --rounds 2 --steps 1 --ours "$(side 1 --fail-at 2)" --peer "good=$(side 2)" || fail "ours failing passes"
expect "interleave.py: other: ours: "
[ ! -e "$work/out.json" ] || fail "rows without ours"
! interleave other --ours "$work/nothing" --peer "good=$(side 2)" || fail "ours missing passes"
expect "No such file or directory"
# growth
python3 tests/bench/growth.py --ours "python3 tests/scripts/fake_side.py" --seconds 0.001 --out "$work" \
    --axes width depth --json "$work/out.json" >"$work/log" 2>&1 || fail "growth"
row "growth width" 'row["ours"] == 2 and 1.8 < row["peer"] < 2 and len(row["points"]) == 5 and row["unit"] == "slope"'
row "growth depth" 'row["ours"] == 1 and row["points"][0]["seconds"] > 0'
expect "slope of time 2.00, of the arithmetic 1.93"
expect " x 4.00   x 3.94"
if grep -q "no picture" "$work/log"; then [ ! -e "$work/growth.png" ]; else [ -s "$work/growth.png" ]; fi || fail "picture"

# the formulas at known sizes
python3 - <<'END' || fail "formulas"
import sys
sys.path.insert(0, "tests/bench")
from work import WORK, TARGETS, gpt_parameters, resnet50_layers
assert gpt_parameters(768, 12, 50257, 1024, 1) == 124_439_808
products = sum(c * o * k * k * s * s for c, o, k, s in resnet50_layers()) + 2048 * 1000
assert abs(products / 4.089e9 - 1) < 1e-3, products  # as torchvision says
assert set(TARGETS) - {"gpt2-124m-bf16 memory", "loader", "loader-2"} == set(WORK)
END
echo "all right"
