#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Bad input of every kind, each with its whole message: bad/NAME.yaml, and bad/NAME.expected with what `submit` prints
# (refused) or bad/NAME.reason with why the job failed. The daemon stays up, and no process is left behind.
# UPDATE=yes writes the expected files anew (look at the difference before you commit it).
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
ctl=$bin/gradctl
allow_warning 'job [0-9]+ is FAILED'

# ---- data: 16 images of 4 x 4 ----
folder=$work/bad
cp -r "$here/bad" "$folder"
cd "$folder"
image_header='\0\0\10\3\0\0\0\20\0\0\0\4\0\0\0\4'
{ printf "$image_header"; head -c 256 "$source_root/LICENSE"; } >images.idx
{ printf "$image_header"; head -c 250 "$source_root/LICENSE"; } >truncated.idx
gzip -c images.idx | head -c 120 >truncated.idx.gz
{ printf '\0\0\10\1\0\0\0\20'; printf '\1\2\3\4\5\6\7\0\1\2\3\4\5\6\7\0'; } >labels.idx
{ printf '\0\0\10\1\0\0\0\20'; printf '\1\2\3\4\5\6\7\310\1\2\3\4\5\6\7\0'; } >labels-200.idx
{ printf '\0\0\10\1\0\0\0\17'; printf '\1\2\3\4\5\6\7\0\1\2\3\4\5\6\7'; } >labels-15.idx
cp images.idx secret.idx
chmod 000 secret.idx
mkdir folder
cp images.idx folder

# ---- data of other formats, each damaged in its own way ----
corpus=$source_root/tests/fuzz/corpus
image_files=$source_root/tests/golden/images
mkdir -p jpeg/cat jpeg/dog png/cat png/dog no-image/cat no-image/dog empty-classes/cat empty-classes/dog sound/one sound/two
cp "$image_files/grey.jpg" jpeg/cat/1.jpg
head -c 300 "$image_files/photo.jpg" >jpeg/dog/2.jpg
cp "$image_files/grey.png" png/cat/1.png
head -c 60 "$image_files/photo.png" >png/dog/2.png
cp "$image_files/grey.png" no-image/cat/1.png
echo 'not an image' >no-image/dog/2.png
cp "$corpus/wav/mono" sound/one/1.wav
head -c 40 "$corpus/wav/mono" >sound/two/2.wav
npy_put() { # file, dtype, shape, bytes as printf takes them
    local header
    header=$(printf "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }" "$2" "$3")
    printf '\223NUMPY\1\0\166\0%-117s\n' "$header" >"$1"
    # shellcheck disable=SC2059 # they are escapes
    printf "$4" >>"$1"
}
one='\0\0\200\077'
npy_put good.npy '<f4' '4, 1' "$one$one$one$one"
npy_put cut.npy '<f4' '4, 1' "$one$one$one"
npy_put nan.npy '<f4' '4, 1' "$one$one\\0\\0\\300\\177$one"
npy_put labels.npy '|u1' '4,' '\0\1\0\1'
npy_put negative.npy '|i1' '4,' '\0\1\0\377'
npy_put nothing.npy '<f4' '0, 1' ''
printf 'x,y\n1,2\n2,4\n3,6\n4,8\n' >good.csv
printf 'x,y\n1,2\n2,4\nthree,6\n4,8\n' >text.csv
printf 'x,y\n1,2\n2,4\nnan,6\n4,8\n' >nan.csv
printf 'x,y\n1,2\n2,4\n3,6,7\n4,8\n' >columns.csv
printf 'x,y\n' >header.csv
head -c 3000 "$corpus/cifar/ten" >cut.cifar
head -c 1030 "$corpus/tokens/llmc" >cut.bin
head -c 500 "$source_root/configs/tokenizers/shakespeare.json" >cut.json
head -c 80 "$corpus/safetensors/small" >cut.safetensors
cp "$corpus/safetensors/small" other.safetensors
{ printf "$image_header"; head -c 256 /dev/zero; } >blank.idx

checked=0
compare() { # what, got (a file), expected (a file in the repository)
    sed -i "s|$folder|@|g" "$2"
    [ "${UPDATE:-no}" != yes ] || cp "$2" "$3"
    diff -u --label "expected: $(basename "$3")" --label "got: $1" "$3" "$2" >&2 || fail "$1: another message"
    checked=$((checked + 1))
}
alive() {
    [ "$("$ctl" info -o json | jq .pid)" = "$daemon" ] || fail "$1: the daemon isn't the one it was"
}
expected_kind() { # name → expected | reason
    if [ -f "$here/bad/$1.reason" ]; then echo reason; else echo expected; fi
}

daemon_start --slots 2

# ---- refused at submit, with file:line:column ----
for file in *.yaml; do
    name=${file%.yaml}
    [ "$(expected_kind "$name")" = expected ] && [ "$name" != good ] && [[ $name != anomaly* ]] || continue
    [ "$name" != unreadable ] || [ "$(id -u)" -ne 0 ] || continue
    code=0
    "$ctl" submit "$file" >"$work/out" 2>"$work/err" || code=$?
    same "$name: exit code" "$code" 5
    [ ! -s "$work/out" ] || fail "$name: submit prints $(cat "$work/out")"
    compare "$name" "$work/err" "$here/bad/$name.expected"
    same "$name: exit code of validate" "$(code_of "$ctl" validate "$file")" 5
    alive "$name"
done
same "no job was made" "$("$ctl" list -o json)" "[]"
say "$checked files refused, each with its message"

# ---- a file that the daemon's user may not read; root may, so then the daemon is another user's ----
if [ "$(id -u)" -ne 0 ]; then
    say "as an ordinary user: unreadable.yaml was among them"
elif command -v setpriv >/dev/null; then
    mkdir -m 700 "$work/nobody"
    chown 65534:65534 "$work/nobody"
    chmod 711 "$work"
    (cd / && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$bin/gradd" --state-dir "$work/nobody" \
        --listen "unix:$work/nobody/gradd.sock" 2>"$work/nobody.log") &
    helpers+=($!)
    for _ in $(seq 100); do
        "$ctl" --address "unix:$work/nobody/gradd.sock" info >/dev/null 2>&1 && break
        sleep 0.05
    done
    "$ctl" --address "unix:$work/nobody/gradd.sock" submit unreadable.yaml >"$work/out" 2>"$work/err" || true
    compare unreadable "$work/err" "$here/bad/unreadable.expected"
    say "a file that may not be read"
fi

# ---- what is no job at all ----
head -c 100000 /dev/zero | tr '\0' '[' >deep.yaml
head -c 100000 /dev/zero | tr '\0' '{' >deep-maps.yaml
head -c 300000 /dev/zero | tr '\0' 'x' >large.yaml
printf 'name: "a\0b"\n' >zero-byte.yaml
: >empty.yaml
refused() { # file, message
    local code=0
    "$ctl" submit "$1" >"$work/out" 2>"$work/err" || code=$?
    same "$1: message" "$(sed "s|$folder|@|g" "$work/err")" "$2"
    same "$1: exit code" "$code" 5
    alive "$1"
    checked=$((checked + 1))
}
refused deep.yaml "deep.yaml:1:33: nested deeper than 32 levels"
refused deep-maps.yaml "deep-maps.yaml:1:2: a key must be text, not a map"
refused large.yaml "gradctl: large.yaml: larger than 256 KiB"
refused zero-byte.yaml "gradctl: zero-byte.yaml: not a text file"
refused empty.yaml "empty.yaml: the file is empty"
refused not-there.yaml "gradctl: not-there.yaml: No such file or directory"
refused folder "gradctl: folder: Is a directory"
say "100 KB of brackets and other files that are no job"

# ---- bytes that are no RPC, on the daemon's socket ----
if command -v python3 >/dev/null; then
    python3 - "$state/gradd.sock" <<'END'
import os, socket, sys
for size in (0, 1, 24, 100000):
    for head in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(sys.argv[1])
            try:
                s.sendall(head + os.urandom(size))
            except OSError:
                pass
END
    alive "bytes that are no RPC"
    say "bytes that are no RPC"
fi

# ---- taken, and failed by the workers for good, in the first attempt ----
failed_job() { # id, name: its reason against the file
    ends "$1" FAILED 60
    field "$1" .reason >"$work/reason"
    compare "$2" "$work/reason" "$here/bad/$2.reason"
    same "$2: attempts" "$(field "$1" .attempt)" 1
    processes_gone "$1" 5
    alive "$2"
}
for file in *.yaml; do
    name=${file%.yaml}
    [ "$(expected_kind "$name")" = reason ] && [ "$name" != vanished ] || continue
    failed_job "$(submit "$file")" "$name"
done
cp good.yaml vanished.yaml
mv images.idx kept.idx
cp kept.idx images.idx
blocker=$(submit "$here/jobs/small.yaml" --set training.steps=1000000)
wait_for "$blocker" '.step >= 1' 60
id=$(submit vanished.yaml)
rm images.idx
"$ctl" cancel "$blocker" >/dev/null
failed_job "$id" vanished
mv kept.idx images.idx
say "jobs with bad data or a bad model, each with its reason"

# ---- what became infinite first; its value and place are the kernels' ----
anomaly() { # name, pattern
    local id
    id=$(submit "$1.yaml")
    ends "$id" FAILED 60
    # shellcheck disable=SC2053 # a pattern
    [[ "$(field "$id" .reason)" == $2 ]] || fail "$1 says: $(field "$id" .reason)"
    checked=$((checked + 1))
}
anomaly anomaly "rank ?: step 2, microbatch ?: forward of linear made * of its output \[2, 10], inputs \[2, 16], \[10, 16], \[10]; in head (linear) at anomaly.yaml:3"
anomaly anomaly-backward "rank ?: step 1, microbatch ?: backward of layer_norm made * of the gradient of input 0, inputs \[2, 16], \[16], \[16], output \[2, 16]; its forward was in first (layer_norm) at anomaly-backward.yaml:7"
say "anomaly mode names the layer and the op"

# ---- what one cannot ask for ----
same "resume of a job without a checkpoint" "$("$ctl" resume "$id" 2>&1 || true)" "gradctl: job $id is FAILED and has no checkpoint to go on from"
same "pause of a job that failed" "$("$ctl" pause "$id" 2>&1 || true)" "gradctl: job $id is FAILED; only a job that waits or runs can be paused"
same "an id that is no number" "$("$ctl" show '../../etc' 2>&1 || true)" "gradctl: no job ../../etc: ids are numbers"
same "a number without a job" "$("$ctl" show 4711 2>&1 || true)" "gradctl: no job 4711"
same "--set of what isn't there" "$("$ctl" submit --set training.stepz=4 good.yaml 2>&1 || true)" \
    '--set training.stepz: unknown key "stepz" in training; did you mean "steps"?'

# ---- a second daemon on the same state folder ----
code=0
"$bin/gradd" --state-dir "$state" --listen "unix:$work/second.sock" 2>"$work/second" || code=$?
same "exit code of a second daemon" "$code" 1
same "message of a second daemon" "$(sed 's/^[^ ]* //' "$work/second")" "error gradd: another gradd (pid $daemon) has the state folder $state"
alive "a second daemon"
refused_daemon() { # exit code, message, arguments
    local expected=$1 message=$2 code=0
    shift 2
    "$bin/gradd" "$@" 2>"$work/second" || code=$?
    same "gradd $*: exit code" "$code" "$expected"
    same "gradd $*: message" "$(sed 's/^20[^ ]* //' "$work/second")" "$message"
}
refused_daemon 2 "gradd: --slots 0: must be a number from 1 to 1000000" --state-dir "$work/other" --slots 0
refused_daemon 2 "gradd: unexpected argument start; see gradd --help" start
: >"$work/plain"
refused_daemon 1 "error gradd: $work/plain is not a folder" --state-dir "$work/plain"
say "a second daemon, and daemons with wrong arguments"

# ---- a corrupt newest checkpoint: the one before, and the same bits ----
checkpoint_job() { # name
    submit --name "$1" "$here/jobs/small.yaml" --set training.steps=6000 --set checkpoint.every=50 --set evaluation.every=6000
}
id=$(checkpoint_job undisturbed)
succeed "$id" 120
reference=$(field "$id" .parameters_sha256)
damage() { # file, how
    case "$2" in
        flip) printf '\x5a' | dd of="$1" bs=1 seek=$(($(stat -c %s "$1") - 1001)) conv=notrunc status=none ;;
        cut) truncate -s -100 "$1" ;;
        garbage) head -c 300 /dev/urandom >"$1" ;;
        remove) rm "$1" ;;
    esac
}
id=$(checkpoint_job corrupt)
at=0
for how in "model.safetensors flip" "optimizer.safetensors cut" "manifest.json garbage" "model.safetensors remove"; do
    wait_for "$id" ".state == \"RUNNING\" and .step >= $((at + 60))" 60
    "$ctl" pause "$id" >/dev/null
    wait_for "$id" '.state == "PAUSED"' 30
    at=$(field "$id" .step)
    before=$(field "$id" '.checkpoints[-2].step')
    damage "$(field "$id" '.checkpoints[-1].path')/${how% *}" "${how#* }"
    "$ctl" resume "$id" >/dev/null
    wait_for "$id" '.state == "RUNNING"' 60
    "$ctl" watch -o json "$id" >"$work/events" &
    sleep 0.5
    kill $! 2>/dev/null || true
    note=$(jq -r 'select(.reason != null and (.reason | contains("is corrupt"))) | .reason' "$work/events" | tail -n 1)
    [[ "$note" == "checkpoint step-$at is corrupt ("*"); falling back to step-$before" ]] ||
        fail "$how at step $at: the events don't tell: \"$note\""
    say "$note"
done
succeed "$id" 120
same "parameters after four corrupt checkpoints" "$(field "$id" .parameters_sha256)" "$reference"
same "attempts" "$(field "$id" .attempt)" 5
alive "the end"
say "$checked messages compared; same daemon, same bits"
figure "$checked messages and more"
