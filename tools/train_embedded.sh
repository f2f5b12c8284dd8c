#!/usr/bin/env bash
# Both embedded models by one training that goes on from the shipped 3D weights: in float, then with quantization, and
# the 2D form of what came out. A step that was stopped goes on where it stood when the same line is run again.
#
#     STEPS=1400 LR=2.5e-3 tools/train_embedded.sh runs/embedded --device cuda --workers 15 --set batch=768 --set reuse=8.0
#     python tools/release_model.py runs/embedded/3d --training "..."    # and runs/embedded/2d
#
# What follows the folder goes to both trainings; 1,400 steps of 768 are seven and a half minutes of an H100 with 16
# cores. Without a GPU: --threads 2 --workers 1 alone.
set -euo pipefail
out=$1
shift
here=$(cd "$(dirname "$0")/.." && pwd)
variant=rtmw3d-n-256x192

python -m rtmw_edge train $variant --weights "$here/rtmw_edge/models/weights/$variant.safetensors" --out "$out/float" \
  --set "steps=${STEPS:-1500}" --set "late=$((${STEPS:-1500} * 6 / 10))" --set "lr=${LR:-1e-3}" --set warmup=60 --set ema_decay=0.998 "$@"
python -m rtmw_edge qat $variant --weights "$out/float/weights.safetensors" --out "$out/3d" \
  --set "steps=${QAT_STEPS:-600}" "$@"
python "$here/tools/convert_axes.py" "$out/3d" rtmw-n-256x192 "$out/2d"
