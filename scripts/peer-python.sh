#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the path of a Python that has PyTorch: $GRADD_PEER_PYTHON, else build/bench-venv, made at the first run.
set -euo pipefail

cd "$(dirname "$0")/.."
python=${GRADD_PEER_PYTHON:-}
if [ -z "$python" ]; then
    python=$PWD/build/bench-venv/bin/python
    if ! "$python" -c 'import torch, numpy, safetensors' 2>/dev/null; then
        echo "installing PyTorch 2.13.0 into build/bench-venv (once)" >&2
        scripts/deps.sh --bench >&2
        python3 -m venv build/bench-venv >&2
        "$python" -m pip install -q torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu 2>/dev/null ||
            "$python" -m pip install -q torch==2.13.0 >&2
        "$python" -m pip install -q numpy safetensors >&2
    fi
fi
echo "$python"
