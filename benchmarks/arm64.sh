#!/usr/bin/env bash
# The embedded model on 64-bit ARM without a board: a Debian for arm64 whose processor QEMU emulates joins a sweep of
# this machine twice, as "pi4" (Cortex-A72: no int8 dot product) and "pi5" (Cortex-A76), the way a board would.
#
#     apt-get install debootstrap qemu-user-static binfmt-support
#     benchmarks/arm64.sh FOLDER [bookworm]              as root, in the clone's environment; FOLDER takes 2 GB
#
# Answers, accuracy and how many convolutions run in int8 are those of the runtimes' own ARM kernels. The times mean
# nothing: what takes long emulated need not on the board. It takes half an hour and goes on where it was stopped.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
release=${2:-bookworm}
here=$(cd "$(dirname "$0")/.." && pwd)
root=$folder/$release
address=tcp://127.0.0.1:8786

if [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
  echo "arm64 programs do not run here; apt-get install qemu-user-static binfmt-support." >&2
  exit 3
fi

# emulated PROCESSOR COMMAND...: run a command of the system for ARM.
emulated() {
  QEMU_CPU=$1 chroot "$root" /usr/bin/env -i QEMU_CPU="$1" HOME=/root LANG=C.UTF-8 \
    PATH=/root/venv/bin:/usr/bin:/bin PIP_CERT=/etc/ssl/certs/ca-certificates.crt "${@:2}"
}

end() {
  pkill -f "rtmw-edge worker $address" || true
  wait
  umount "$root/proc" "$root/dev" 2> /dev/null || true
}
trap end EXIT

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
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
[ -e "$root/root/venv" ] || emulated max python3 -m venv /root/venv
rm -f "$root"/root/*.whl
pip wheel -q --no-deps -w "$root/root" "$here"
wheel=$(cd "$root/root" && echo rtmw_edge-*.whl)
emulated max pip install -q --no-cache-dir "/root/$wheel[openvino,tflite,ncnn,fleet]"
emulated max pip install -q --no-cache-dir --no-deps --force-reinstall "/root/$wheel"

for board in pi4:cortex-a72 pi5:cortex-a76; do
  emulated "${board#*:}" rtmw-edge worker "$address" --board "${board%:*}" --cache "/root/${board%:*}" \
    > "$folder/${board%:*}.log" 2>&1 &
done
rtmw-edge sweep "$here/benchmarks/arm64.toml" --out "$folder/sweep" --listen "$address"
rtmw-edge results export "$folder/sweep" --markdown
