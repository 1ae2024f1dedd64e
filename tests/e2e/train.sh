#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# train.sh shakespeare | mnist: the whole published runs; prints and checks the figure.
. "$(dirname "$0")/lib.sh"
case "${1:-}" in
    shakespeare) job=shakespeare-char data=shakespeare/input.txt metric=validation_loss; good() { awk "BEGIN{exit !($1 <= 1.90)}"; } goal="≤ 1.90" ;;
    mnist) job=mnist-cnn data=mnist metric=validation_accuracy; good() { awk "BEGIN{exit !($1 >= 0.99)}"; } goal="≥ 0.990" ;;
    *) echo "usage: train.sh shakespeare | mnist" >&2; exit 2 ;;
esac
[ -e "$GRADD_DATA/$data" ] || skip "no $data in GRADD_DATA ($GRADD_DATA)"
daemon_start --slots 2
started=$(now_ms)
id=$(submit "$source_root/configs/jobs/$job.yaml")
succeed "$id" "${LIMIT:-1500}"
value=$(field "$id" ".metrics.$metric")
note "$job: $metric $value at step $(field "$id" .step) (goal $goal), $((($(now_ms) - started) / 1000)) s, two workers, sha $(field "$id" .parameters_sha256)"
good "$value" || fail "$metric is $value, not $goal"
