#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A gRPC client that isn't ours (Python's grpcio, by reflection only) lists the services, submits a job and follows it.
# The virtual environment is kept in build/venv-grpc (GRADD_GRPC_VENV).
. "$(dirname "$0")/lib.sh"
venv=${GRADD_GRPC_VENV:-$source_root/build/venv-grpc}

client_ready() { "$venv/bin/python" -c 'import grpc, grpc_reflection' 2>/dev/null; }
if ! client_ready; then
    command -v python3 >/dev/null || skip "no python3"
    python3 -m venv "$venv" >"$work/venv.log" 2>&1 || skip "cannot make a virtual environment: $(tail -n 1 "$work/venv.log")"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 20 grpcio grpcio-reflection \
        >"$work/pip.log" 2>&1 || skip "cannot install grpcio: $(tail -n 1 "$work/pip.log")"
    client_ready || skip "grpcio does not work here"
fi

mkdir -p "$work/data"
for i in $(seq 400); do echo "the quick brown fox jumps over the lazy dog $i times"; done >"$work/data/text.txt"
cat >"$work/job.yaml" <<EOF
name: reflection
seed: 1
resources: {workers: 1, device: cpu, threads: 1}
model:
  layers:
    - embedding: {count: 256, width: 16}
    - linear: {out: 256}
data:
  train: {text: {path: data/text.txt, tokens: bytes, context: 16}}
training:
  steps: 1000
  batch: 4
  optimizer: {sgd: {lr: 0.1}}
EOF

daemon_start --slots 1
"$venv/bin/python" "$here/reflection_client.py" "$GRADD_ADDRESS" "$work/job.yaml" training.steps=20 | tee "$work/out" ||
    fail "the client failed"
for service in gradd.v1.Gradd grpc.health.v1.Health grpc.reflection.v1.ServerReflection \
    grpc.reflection.v1alpha.ServerReflection; do
    grep -qE "^services:.* $service( |\$)" "$work/out" || fail "$service is not listed"
done
grep -qx 'health: SERVING' "$work/out" || fail "health is not SERVING"
grep -qE '^state: SUCCEEDED, step 20, parameters_sha256 [0-9a-f]{64}$' "$work/out" || fail "no end of the job"
grep -q '^unknown job: NOT_FOUND: ' "$work/out" || fail "an unknown job is not NOT_FOUND"
note "reflection only: listed, submitted, followed to the end"
