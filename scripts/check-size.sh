#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A file has at most 800 lines, a function at most 80.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/check-size.sh [FILE...]

Checks the C sources and scripts in git (or the files named), and that no compiled program is in git. Exceptions stand in scripts/size-exceptions.txt:
  path reason            the file may be longer
  path:function reason   the function may be longer
An exception without a reason, or that isn't needed any more, is an error too.
END
}
case "${1:-}" in
    -h | --help) usage; exit 0 ;;
esac
cd "$(dirname "$0")/.."
all=no
if [ $# -eq 0 ]; then
    all=yes
    mapfile -t files < <(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.sh' '*.py' 'scripts/*' | sort -u)
else
    files=("$@")
fi
if [ "$all" = yes ]; then
    # a program that was compiled by hand
    programs=$(git ls-files -z | xargs -0 grep -lasP '\A\x7fELF' || true)
    if [ -n "$programs" ]; then
        printf '%s: a compiled program is no source\n' "$programs" >&2
        exit 1
    fi
fi
existing=()
for file in "${files[@]}"; do
    [ ! -f "$file" ] || existing+=("$file")
done

awk -v all="$all" '
    function complain(text) { print text > "/dev/stderr"; n_bad++ }
    FILENAME == "scripts/size-exceptions.txt" && FNR == NR {
        if ($0 ~ /^#/ || NF == 0) next
        if (NF < 2) complain(FILENAME ":" FNR ": an exception needs its reason")
        excepted[$1] = FNR
        next
    }
    function finish_file() {
        if (name == "") return
        if (n_lines > 800) {
            if (name in excepted) used[name] = 1
            else complain(name ": " n_lines " lines; at most 800")
        }
    }
    FNR == 1 { finish_file(); name = FILENAME; n_files++; begin = 0; is_c = name ~ /\.(c|h|cu|cuh)$/ }
    { n_lines = FNR }
    is_c && /^[A-Za-z_].*[A-Za-z0-9_]\(/ && !/;[ ]*$/ {
        text = $0
        sub(/\(.*/, "", text)
        sub(/.*[^A-Za-z0-9_]/, "", text)
        candidate = text
    }
    is_c && /^\{[ ]*$/ { begin = FNR; next }
    is_c && /^\}/ && begin > 0 {
        n_functions++
        length_of = FNR - begin + 1
        key = name ":" candidate
        if (length_of > 80) {
            if (key in excepted) used[key] = 1
            else complain(name ":" begin ": " candidate " has " length_of " lines; at most 80")
        }
        begin = 0
    }
    END {
        finish_file()
        if (all == "yes")
            for (key in excepted)
                if (!(key in used)) complain("scripts/size-exceptions.txt:" excepted[key] ": " key " needs no exception")
        if (n_bad > 0) { print "check-size: " n_bad " problems" > "/dev/stderr"; exit 1 }
        print "check-size: " n_files " files, " n_functions " functions, all right"
    }
' scripts/size-exceptions.txt "${existing[@]}"
