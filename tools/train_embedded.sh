#!/usr/bin/env bash
# Both embedded models by one training that goes on from the shipped 3D weights: in float, then with quantization, and
# the 2D form of what came out. A step that was stopped goes on where it stood when the same line is run again.
#
#     STEPS=3800 LR=2.5e-3 tools/train_embedded.sh runs/embedded --device cuda --workers 15 \
#       --set batch=768 --set reuse=20 --set window=4096
#     python tools/release_model.py runs/embedded/3d --training "..."    # and runs/embedded/2d
#
# What follows the folder goes to the float training; 3,800 steps of 768 are eight minutes of an H200 with 16 cores. The
# one with quantization takes steps of 32, 900 of them half an hour of two cores; options of its own are in QAT_OPTIONS
# (for a GPU: "--device cuda --workers 15 --set batch=256 --set reuse=8 --set lr=1e-4 --set precision=fp32").
# Without a GPU: --threads 2 --workers 1 alone.
set -euo pipefail
out=$1
shift
here=$(cd "$(dirname "$0")/.." && pwd)
variant=rtmw3d-n-256x192
steps=${STEPS:-1500}

python -m rtmw_edge train $variant --weights "$here/rtmw_edge/models/weights/$variant.safetensors" --out "$out/float" \
  --set "steps=$steps" --set "late=$((steps / 4))" --set "lr=${LR:-1e-3}" --set warmup=60 --set ema_decay=0.998 \
  --set part_weights.face=1.0 --set part_weights.left_hand=2.0 --set part_weights.right_hand=2.0 "$@"
python -m rtmw_edge qat $variant --weights "$out/float/weights.safetensors" --out "$out/3d" \
  --set "steps=${QAT_STEPS:-900}" ${QAT_OPTIONS:-}
python "$here/tools/convert_axes.py" "$out/3d" rtmw-n-256x192 "$out/2d"
