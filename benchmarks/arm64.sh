#!/usr/bin/env bash
# The embedded model on 64-bit ARM without a board: every bundle is verified in a Debian for arm64 whose processor QEMU
# emulates, as a Raspberry Pi Zero 2 W (Cortex-A53), 4 (A72) and 5 (A76: int8 dot products).
#
#     apt-get install debootstrap qemu-user-static binfmt-support
#     benchmarks/arm64.sh FOLDER [RELEASE]               as root, in the clone's environment; FOLDER takes 2 GB
#
# Answers and how many convolutions run in int8 are those of the runtimes' own ARM kernels; time means nothing there.
# RELEASE is bookworm unless another is named. Ten minutes of two cores.
set -euo pipefail
folder=$(mkdir -p "${1:?give a folder}" && cd "$1" && pwd)
release=${2:-bookworm}
here=$(cd "$(dirname "$0")/.." && pwd)
root=$folder/$release

if [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
  echo "arm64 programs do not run here; apt-get install qemu-user-static binfmt-support." >&2
  exit 3
fi

# emulated PROCESSOR COMMAND...: run a command of the system for ARM.
emulated() {
  QEMU_CPU=$1 chroot "$root" /usr/bin/env -i QEMU_CPU="$1" HOME=/opt LANG=C.UTF-8 \
    PATH=/opt/venv/bin:/usr/bin:/bin PIP_CERT=/etc/ssl/certs/ca-certificates.crt "${@:2}"
}

if [ ! -e "$root/installed" ]; then
  debootstrap --arch=arm64 --variant=minbase --include=python3-venv,ca-certificates,libgomp1 "$release" "$root"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  cp /etc/resolv.conf "$root/etc/"
  # OpenVINO looks up the cores here, and crashes where it finds none; these say they are Cortex-A76.
  for ((core = 0; core < $(nproc); core++)); do
    at=$root/sys/devices/system/cpu/cpu$core
    mkdir -p "$at/topology" "$at/regs/identification"
    echo "$core" | tee "$at"/topology/{core_id,core_cpus_list,thread_siblings_list} > /dev/null
    echo 0 > "$at/topology/physical_package_id"
    printf '%x\n' $((1 << core)) | tee "$at"/topology/{core_cpus,thread_siblings} > /dev/null
    echo 0x00000000414fd0b1 > "$at/regs/identification/midr_el1"
  done
  echo "0-$(($(nproc) - 1))" | tee "$root"/sys/devices/system/cpu/{possible,present,online} > /dev/null
  touch "$root/installed"
fi
trap 'umount "$root/proc" "$root/dev"' EXIT
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
[ -e "$root/opt/venv/bin/pip" ] || emulated max python3 -m venv /opt/venv
rm -f "$root"/opt/*.whl
pip wheel -q --no-deps -w "$root/opt" "$here"
wheel=$(cd "$root/opt" && echo rtmw_edge-*.whl)
emulated max pip install -q --no-cache-dir "/opt/$wheel[openvino,tflite,ncnn]"
emulated max pip install -q --no-cache-dir --no-deps --force-reinstall "/opt/$wheel"

for precision in fp32 int8; do
  for target in onnx openvino tflite ncnn; do
    bundle=$target-$precision
    rtmw-edge export rtmw-n-256x192 --target "$target" --precision "$precision" --out "$folder/$bundle"
    rm -rf "$root/opt/$bundle"
    cp -r "$folder/$bundle" "$root/opt/"
    for processor in cortex-a53 cortex-a72 cortex-a76; do
      echo "== $bundle on $processor"
      emulated "$processor" rtmw-edge verify "/opt/$bundle" || echo "exit code $?"
    done
  done
done
