#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy over all C sources; what hasn't changed since it last passed is not looked at again.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/check-tidy.sh [--preset NAME] [FILE...]

Needs a configured preset (default: dev) for its compile commands, and configures it when it isn't. Results of files
that pass are remembered in build/tidy, by the contents of the file, of all headers and of .clang-tidy.
END
}
preset=dev
files=()
while [ $# -gt 0 ]; do
    case "$1" in
        --preset) preset=${2:?--preset needs a name}; shift ;;
        -h | --help) usage; exit 0 ;;
        *) files+=("$1") ;;
    esac
    shift
done
cd "$(dirname "$0")/.."
command -v clang-tidy >/dev/null || scripts/deps.sh --checks
# generated headers have to be there
scripts/build.sh "$preset" --target gradd_messages gradd_rpc_messages >/dev/null
if [ ${#files[@]} -eq 0 ]; then
    # engine/cpu/vec is written in GCC's vector extensions, some of which clang doesn't know
    mapfile -t files < <(git ls-files '*.c' | grep -v '^engine/cpu/vec/' | grep -Fxf <(sed -nE "s|^ *\"file\": \"$PWD/(.*)\",?$|\1|p" "build/$preset/compile_commands.json"))
fi

memory=build/tidy
mkdir -p "$memory"
headers=$(git ls-files -z '*.h' '*.def' '*.proto' .clang-tidy | xargs -0 cat | sha256sum | cut -c1-32)
export headers memory preset
check_one() {
    local file=$1 key log
    key=$memory/$( { echo "$headers $file"; cat "$file"; } | sha256sum | cut -c1-40)
    [ ! -f "$key" ] || return 0
    log=$(mktemp)
    # -w: warnings are the compiler's business
    if clang-tidy -p "build/$preset" --quiet --extra-arg=-w --warnings-as-errors='*' "$file" >"$log" 2>/dev/null; then
        : >"$key"
        rm -f "$log"
        return 0
    fi
    cat "$log"
    rm -f "$log"
    return 1
}
export -f check_one
status=0
printf '%s\0' "${files[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c 'check_one "$1"' _ {} || status=1
if [ "$status" -ne 0 ]; then
    echo "check-tidy: see above; a check that is wrong here is switched off in .clang-tidy, with its reason" >&2
    exit 1
fi
echo "check-tidy: ${#files[@]} sources, all right"
