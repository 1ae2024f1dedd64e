#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every job of configs/jobs/ is really run, for a few steps: by 1 worker, and by 2 that are paused and resumed on the
# way. Both give the same parameters, and the training loss falls. So do jobs with token shards, 16 bits and moving
# averages. Data that isn't beside the repository is made by make_data.py; jobs whose data is missing are named.
#   ONLY  a regular expression: the cases that are run
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
jobs=$source_root/configs/jobs
data=$work/data

mkdir -p "$data"
python3 "$here/make_data.py" "$data"
for folder in mnist shakespeare fsdd; do
    [ ! -e "$GRADD_DATA/$folder" ] || ln -s "$(realpath "$GRADD_DATA/$folder")" "$data/$folder"
done
export GRADD_DATA=$data
shards=$work/shards
mkdir "$shards"
if [ -e "$data/shakespeare" ]; then # as nanoGPT has them
    head -c 300000 "$data/shakespeare/input.txt" >"$work/text"
    "$bin/grad-worker" --tokenize "$source_root/configs/tokenizers/shakespeare.json" "$work/text" |
        python3 -c 'import array, sys; array.array("H", map(int, sys.stdin)).tofile(sys.stdout.buffer)' >"$shards/train.bin"
fi

names=()
declare -A job_of steps_of sets_of alone_of
# A case: name, job file, what it needs below GRADD_DATA ("-": nothing), steps, then settings.
add() {
    local name=$1 file=$2 need=$3 steps=$4
    shift 4
    [[ $name =~ ${ONLY:-.} ]] || return 0
    if [ "$need" != - ] && [ ! -e "$data/$need" ]; then
        missing+=("$name (no $need)")
        return 0
    fi
    names+=("$name")
    job_of[$name]=$jobs/$file.yaml
    steps_of[$name]=$steps
    sets_of[$name]=$(printf '%s\n' "$@")
}
missing=()
gpt=(model.with.width=64 model.with.layers=2 training.schedule.cosine.warmup=5)
tokens="tokens: {path: $shards/train.bin, format: nanogpt, tokenizer: $source_root/configs/tokenizers/shakespeare.json}"

add quickstart quickstart - 80 "${gpt[@]}"
add shakespeare-char shakespeare-char shakespeare/input.txt 80 "${gpt[@]}"
add shakespeare-bpe shakespeare-bpe shakespeare/input.txt 60 "${gpt[@]}"
add shakespeare-lstm shakespeare-lstm shakespeare/input.txt 60 model.with.width=64 training.schedule.cosine.warmup=5
add mnist-mlp mnist-mlp mnist/train-images-idx3-ubyte.gz 300
add mnist-cnn mnist-cnn mnist/train-images-idx3-ubyte.gz 30 training.schedule.cosine.warmup=5
add cifar10-resnet cifar10-resnet - 30 training.batch=16
add image-folder image-folder - 4 training.batch=4 training.microbatches=2
add spoken-digits spoken-digits fsdd 40 training.batch=10
add table-regression table-regression - 1000
add digits-backwards digits-backwards - 60
add text-classes text-classes - 60
add tokens shakespeare-bpe shakespeare/input.txt 60 "${gpt[@]}" "data.train={$tokens}" "data.validation={$tokens}"
add bf16 shakespeare-char shakespeare/input.txt 60 "${gpt[@]}" training.precision=bf16
add f16 shakespeare-char shakespeare/input.txt 60 "${gpt[@]}" training.precision=f16
add average mnist-mlp mnist/train-images-idx3-ubyte.gz 300 "training.average={decay: 0.9}"
[ ${#names[@]} -gt 0 ] || fail "no case is left"
for file in "$jobs"/*.yaml; do
    file=$(basename "$file" .yaml)
    [[ " ${names[*]} ${missing[*]} " == *" $file "* ]] || [ -n "${ONLY:-}" ] || fail "configs/jobs/$file.yaml isn't among the cases"
done

run() { # name, workers → id
    local name=$1 steps=${steps_of[$1]} arguments=() set
    while read -r set; do
        [ -z "$set" ] || arguments+=(--set "$set")
    done <<<"${sets_of[$name]}"
    submit --name "$name-$2" "${job_of[$name]}" --set training.epochs=null --set training.steps="$steps" \
        --set training.log_every=$((steps / 100 + 1)) --set resources.workers="$2" --set parallel.data="$2" --set checkpoint.every="$steps" \
        --set evaluation.every="$steps" --set evaluation.batches=1 --set generate=null "${arguments[@]}"
}
falls() { # id: the mean of the last sixth of the losses is below that of the first; few losses say nothing
    "$bin/gradctl" metrics "$1" -n loss -o csv | awk -F, '
        NR > 1 { loss[++n] = $3 }
        END {
            for (i = 1; i <= int((n + 5) / 6); i++) { first += loss[i]; last += loss[n + 1 - i]; count++ }
            printf "%.3f to %.3f", first / count, last / count
            exit !(n < 10 || last < first)
        }'
}

daemon_start --slots 2
for name in "${names[@]}"; do
    alone_of[$name]=$(run "$name" 1)
done
for name in "${names[@]}"; do
    succeed "${alone_of[$name]}" 120
done
say "with 1 worker: ${#names[@]} jobs"
for name in "${names[@]}"; do
    id=$(run "$name" 2)
    wait_for "$id" '.state | IN("STARTING", "RUNNING")' 60 # paused while it starts, it stops behind its first step
    "$bin/gradctl" pause "$id" >/dev/null || fail "$name had ended before it was paused: it needs more steps"
    wait_for "$id" '.state == "PAUSED"' 60
    step=$(field "$id" .step)
    [ "$step" -gt 0 ] || fail "$name was paused before its first step"
    "$bin/gradctl" resume "$id" >/dev/null
    sha=$(field "${alone_of[$name]}" .parameters_sha256)
    [[ "$sha" =~ ^[0-9a-f]{64}$ ]] || fail "$name: no parameters_sha256 (\"$sha\")"
    losses=$(falls "${alone_of[$name]}") || fail "$name: the loss doesn't fall: $losses"
    succeed "$id" 120
    same "$name: parameters of 2 workers, paused at step $step" "$(field "$id" .parameters_sha256)" "$sha"
    say "$name: loss $losses; ${sha:0:16}… by 1 worker and by 2 that paused at step $step of ${steps_of[$name]}"
done
[ ${#missing[@]} -eq 0 ] || say "not run: ${missing[*]}"
figure "${#names[@]} jobs, the same bits by 1 and 2 workers"
