#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mpirun-or-skip.sh N PROGRAM [ARG...]: runs N ranks on this machine, whatever its number of cores; without mpirun it
# says so and exits with 77, which ctest counts as skipped.
set -eu
n_ranks=$1
shift
if ! command -v mpirun >/dev/null 2>&1; then
    echo "skipped: mpirun is not installed"
    exit 77
fi
exec mpirun --allow-run-as-root --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 -np "$n_ranks" "$@"
