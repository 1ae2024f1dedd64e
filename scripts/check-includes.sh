#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Who may include whom, and the one home of each third-party header.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/check-includes.sh [FILE...]

Checks every #include of the C sources (default: all in git):
  engine/base   base            proto    base, proto
  engine        base, engine    worker   base, engine, collectives, proto
  collectives   base, gradd/    daemon   base, proto
and that a third-party header is only included in its home (mpi.h in collectives/mpi.c, grpc in proto/rpc*, …).
tests/ may include anything.
END
}
case "${1:-}" in
    -h | --help) usage; exit 0 ;;
esac
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || mapfile -t files < <(git ls-files '*.c' '*.h' '*.cu' '*.cuh')
[ $# -eq 0 ] || files=("$@")

# folder → folders it may include; the first fit counts
allowed() {
    case "$1" in
        engine/base/*) echo "engine/base" ;;
        engine/*) echo "engine" ;;
        collectives/*) echo "engine/base engine/include collectives" ;;
        proto/*) echo "engine/base proto" ;;
        worker/*) echo "engine collectives proto worker" ;;
        daemon/*) echo "engine/base proto daemon" ;;
        *) echo "" ;;
    esac
}

# header → pattern of the files it may stand in; empty: no third-party header of ours
home_of() {
    case "$1" in
        nccl.h) echo "collectives/nccl.c" ;;
        mpi.h) echo "collectives/mpi.c" ;;
        grpc/*) echo "proto/rpc*" ;;
        yaml.h) echo "proto/yaml.c" ;;
        protobuf-c/*) echo "proto/*" ;;
        dnnl*.h | dnnl/* | oneapi/* | cblas.h | omp.h) echo "engine/cpu/*" ;;
        cuda*.h | cublas*.h | cudnn*.h) echo "engine/cuda/*" ;;
        sqlite3.h) echo "daemon/store*.c" ;;
        openssl/*) echo "engine/base/hash.c" ;;
        zlib.h) echo "worker/data/* engine/io/zip*.c" ;;
        jpeglib.h | jerror.h) echo "worker/data/jpeg.c" ;;
        samplerate.h) echo "worker/data/resample.c" ;;
        FLAC/*) echo "worker/data/sound_flac.c" ;;
        sndfile.h) echo "worker/data/sound_other.c tests/worker/test_sound.c" ;;
        png.h) echo "worker/data/png.c" ;;
        pcre2.h) echo "worker/data/pattern.c" ;;
        utf8proc.h) echo "worker/data/unicode.c" ;;
        jansson.h) echo "engine/io/* worker/* daemon/*" ;;
        cmocka.h) echo "tests/*" ;;
        *) echo "" ;;
    esac
}

set -f # the patterns above are for names, not for the file system
n_bad=0
complain() {
    echo "$1:$2: $3" >&2
    n_bad=$((n_bad + 1))
}

check_own() { # file line name
    local file=$1 line=$2 name=$3 target="" folder
    for folder in "$(dirname "$file")" . engine engine/include; do
        if [ -f "$folder/$name" ]; then
            target=$folder/$name
            break
        fi
    done
    case "$name" in
        *.pb-c.h | rpc_descriptor_set.h) target=proto/$name ;;
    esac
    if [ -z "$target" ]; then
        complain "$file" "$line" "\"$name\" isn't in the tree (third-party headers stand in <>)"
        return
    fi
    target=${target#./}
    for folder in $(allowed "$file"); do
        case "$target" in
            "$folder"/*) return ;;
        esac
    done
    complain "$file" "$line" "${file%%/*}/ may not include $target (allowed: $(allowed "$file"))"
}

check_foreign() { # file line name
    local file=$1 line=$2 name=$3 home pattern
    home=$(home_of "$name")
    [ -n "$home" ] || return 0
    for pattern in $home; do
        # shellcheck disable=SC2053 # the right side is a pattern
        [[ $file == $pattern ]] && return 0
    done
    complain "$file" "$line" "<$name> has its home in $home"
}

n_files=0
for file in "${files[@]}"; do
    case "$file" in
        tests/* | build/*) continue ;;
    esac
    n_files=$((n_files + 1))
    while IFS=: read -r line text; do
        name=${text#*[\"<]}
        name=${name%%[\">]*}
        if [[ $text == *\"* ]]; then
            check_own "$file" "$line" "$name"
        else
            check_foreign "$file" "$line" "$name"
        fi
    done < <(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]' "$file")
done
if [ "$n_bad" -gt 0 ]; then
    echo "check-includes: $n_bad wrong includes" >&2
    exit 1
fi
echo "check-includes: $n_files files, all right"
