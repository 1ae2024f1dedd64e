#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a bare Debian 12 root (debootstrap, nothing added) and tries the README's two commands in it on a clone.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: scripts/bare-root.sh [--root DIR] [--mirror URL] [--keep] [quickstart|test]...

Makes a Debian 12 root with debootstrap (minbase, plus git to clone with), clones this repository's HEAD into it, and
runs scripts/quickstart.sh and scripts/test.sh there (or the ones named), each in a root of its own. Needs root.

  --root DIR     where to make the roots (default: a temporary folder; needs about 3 GB)
  --mirror URL   Debian mirror (default: http://deb.debian.org/debian)
  --keep         leave the roots in place
EOF
}

base=
mirror=http://deb.debian.org/debian
keep=no
commands=()
while [ $# -gt 0 ]; do
    case "$1" in
        --root) base=$2; shift ;;
        --mirror) mirror=$2; shift ;;
        --keep) keep=yes ;;
        quickstart | test) commands+=("$1") ;;
        -h | --help) usage; exit 0 ;;
        *) echo "bare-root.sh: unknown argument $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
[ ${#commands[@]} -gt 0 ] || commands=(quickstart test)
[ "$(id -u)" -eq 0 ] || { echo "bare-root.sh: needs root (debootstrap, chroot, mount)" >&2; exit 1; }
source=$(cd "$(dirname "$0")/.." && pwd)
command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap; }
[ -n "$base" ] || base=$(mktemp -d /var/tmp/gradd-root.XXXXXX)
mkdir -p "$base"

unmount() {
    for root in "$base"/*/; do
        for point in data dev sys proc; do
            umount -R -l "$root$point" 2>/dev/null || true
        done
    done
}
finish() {
    unmount
    if [ "$keep" = yes ]; then
        echo "roots kept in $base"
    else
        rm -rf --one-file-system "$base"
    fi
}
trap finish EXIT

echo "== debootstrap bookworm from $mirror"
debootstrap --variant=minbase --include=git,ca-certificates bookworm "$base/clean" "$mirror" >"$base/debootstrap.log" 2>&1 ||
    { tail -n 20 "$base/debootstrap.log" >&2; exit 1; }
# The root reaches packages the way this machine does.
cp /etc/resolv.conf "$base/clean/etc/" 2>/dev/null || true
# Debian's installer writes this file, debootstrap doesn't; without it each look-up of the host's own name waits for DNS.
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$(hostname)" >"$base/clean/etc/hosts"
for file in $(grep -lE 'Acquire::|Proxy' /etc/apt/apt.conf.d/* 2>/dev/null | grep -vE 'gzip|clean|languages|packagekit|appstream|dep11' || true); do
    cp "$file" "$base/clean/etc/apt/apt.conf.d/"
done

result=0
for command in "${commands[@]}"; do
    root=$base/$command
    cp -a "$base/clean" "$root"
    git clone -q "$source" "$root/gradd"
    mount -t proc proc "$root/proc"
    mount -t sysfs sys "$root/sys" 2>/dev/null || true
    mount --rbind /dev "$root/dev"
    mount --make-rslave "$root/dev"
    mkdir -p "$root/data"
    data=${GRADD_DATA:-$source/../shared/data}
    if [ -d "$data" ]; then mount --bind "$data" "$root/data"; fi
    echo "== scripts/$command.sh in a bare root"
    started=$(date +%s)
    if chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 GRADD_DATA=/data \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        bash -c "cd /gradd && scripts/$command.sh"; then
        echo "bare-root: scripts/$command.sh passed in $(($(date +%s) - started)) s"
    else
        echo "bare-root: scripts/$command.sh FAILED" >&2
        result=1
    fi
    unmount
done
exit $result
