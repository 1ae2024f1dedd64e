#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A gRPC client that isn't ours (Python grpcio, reflection only) submits a job and follows it to its end.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
python=
for candidate in python3 /usr/bin/python3; do
    if [ -z "$python" ] && "$candidate" -c 'import grpc, google.protobuf' 2>/dev/null; then python=$candidate; fi
done
[ -n "$python" ] || skip "python3-grpcio and python3-protobuf are not installed"
daemon_start --slots 2
"$python" "$here/reflection_client.py" "$GRADD_ADDRESS" "$here/jobs/small.yaml" || fail "the client failed"
port=$((20000 + RANDOM % 20000))
daemon_stop
"$bin/gradd" --state-dir "$state" --listen "127.0.0.1:$port" --slots 2 2>>"$work/gradd.log" &
daemon=$!
for _ in $(seq 200); do
    "$bin/gradctl" --address "127.0.0.1:$port" info >/dev/null 2>&1 && break
    sleep 0.05
done
"$python" "$here/reflection_client.py" "127.0.0.1:$port" "$here/jobs/small.yaml" || fail "the client failed over TCP"
say "a foreign client over a unix socket and over TCP"
figure "2 jobs followed to their end"
