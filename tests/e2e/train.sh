#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# train.sh shakespeare | mnist | mlp: trains a job of configs/jobs and checks the figure it is held to. The first two
# are the whole published runs; mlp is one epoch of mnist-mlp.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
extra=()
case "${1:-}" in
    shakespeare) job=shakespeare-char data=shakespeare/input.txt metric=validation_loss relation='<=' goal=1.90 ;;
    mnist) job=mnist-cnn data=mnist/train-images-idx3-ubyte.gz metric=validation_accuracy relation='>=' goal=0.990 ;;
    mlp)
        job=mnist-mlp data=mnist/train-images-idx3-ubyte.gz metric=validation_accuracy relation='>=' goal=0.955
        extra=(--set training.epochs=1)
        ;;
    *)
        echo "usage: train.sh shakespeare | mnist | mlp" >&2
        exit 2
        ;;
esac
need_data "$data"
daemon_start --slots 2
started=$(now_ms)
id=$(submit "$source_root/configs/jobs/$job.yaml" "${extra[@]}")
succeed "$id" "${LIMIT:-1500}"
value=$(field "$id" ".metrics.$metric")
say "$job: $metric $value at step $(field "$id" .step) (goal $relation $goal), $((($(now_ms) - started) / 1000)) s, two workers, sha $(field "$id" .parameters_sha256)"
figure "$metric $(printf %.4f "$value")"
awk -v value="$value" "BEGIN { exit !(value != \"null\" && value $relation $goal) }" || fail "$metric is $value, not $relation $goal"
