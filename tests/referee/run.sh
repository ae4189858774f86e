#!/usr/bin/env bash
# Outside programs referee what LightBrain computes: bash tests/referee/run.sh [FOLDER]
# FOLDER (a temporary one if none is given) gets an environment that stands on the packages of the active python, and in it the
# referees: lm-evaluation-harness, transformers, ONNX Runtime, tokenizers, TransformerLens, and through npm llama.cpp.
# Referees that cannot be had end it with 75. Only llama.cpp, where npm does not bring it, is left out, and said.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ $# -gt 0 ]; then mkdir -p "$1"; WORK=$(cd "$1" && pwd); else WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT; fi
limit() { if command -v timeout > /dev/null; then timeout "$@"; else shift; "$@"; fi; }     # seconds, command
fail() { echo "REFEREES NOT RUN: $1" >&2; exit 75; }

packages=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
listed=$(python -c 'from configparser import ConfigParser
ini = ConfigParser(delimiters="="); ini.read("settings.ini", encoding="utf-8")
print(*(ini["DEFAULT"]["export_requirements"]+ini["DEFAULT"]["eval_requirements"]).split())')
python -m venv "$WORK/venv"
. "$WORK/venv/bin/activate"
echo "import site; site.addsitedir('$packages')" > "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
# shellcheck disable=SC2086
limit 420 pip install -q --retries 1 --disable-pip-version-check $listed onnxruntime transformers "transformer-lens>=4.3" pytest pytest-xdist ||
    fail "pip could not install them; is there a network?"

export LIGHTBRAIN_REFEREES=all LIGHTBRAIN_LLAMA=$WORK/npm why=
if ! command -v node > /dev/null || ! command -v npm > /dev/null; then why="no node here"
elif ! limit 180 npm install --silent --prefix "$WORK/npm" --ignore-scripts --omit=optional --no-audit --no-fund --fetch-retries 1 \
    node-llama-cpp@3 "@node-llama-cpp/linux-$(node -p process.arch)@3"; then why="npm could not install it; is there a network?"; fi
if [ -n "$why" ]; then export LIGHTBRAIN_REFEREES=pip; unset LIGHTBRAIN_LLAMA; echo "llama.cpp: NOT RUN, $why"; fi
PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 python -m pytest tests/referee
if [ -n "$why" ]; then echo "llama.cpp: NOT RUN, $why"; fi
