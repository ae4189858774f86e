#!/usr/bin/env bash
# What a CUDA device says: tests/gpu, then the speed table; at most six minutes. Results go to $OUT (or the first argument).
# Without a CUDA device both are skipped with a reason. `LIGHTBRAIN_GPU_TESTS=cpu` tries the tests on a CPU, in small.
set -u -o pipefail
cd "$(dirname "$0")/.."
OUT=${1:-${OUT:-gpu-results}}
mkdir -p "$OUT"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
many=$(python3 -c 'import xdist' 2>/dev/null && echo '-n 7')
timeout "${TESTS_S:-150}" python3 -m pytest tests/gpu -rPs -q -p no:cacheprovider $many 2>&1 | tee "$OUT/tests.log" | grep -E '^(bfloat|float|adamw|muon|torch\.|eager|step 0|two|E  |FAILED|ERROR|SKIPPED)|passed|failed|skipped'
timeout "$((${SPEED_S:-140}+60))" python3 bench/gpu_speed.py --seconds "${SPEED_S:-140}" --out "$OUT/speed.json" 2>&1 | tee "$OUT/speed.log"
