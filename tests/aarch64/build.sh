#!/usr/bin/env bash
# Write Python, NumPy and ONNX Runtime for aarch64 to a folder, so that qemu-aarch64 can run them:
#
#     tests/aarch64/build.sh FOLDER
#     CIFAR10_AARCH64=FOLDER make test
#
# Needs Debian's apt and python3. Changes nothing outside of FOLDER.
set -euo pipefail
folder=$(realpath -m "$1")
version=$(/usr/bin/python3 -c 'import sys; print("{}.{}".format(*sys.version_info))') # of Debian, as for aarch64
checkout=$(realpath "$(dirname "$0")/../..")
mkdir -p "$folder"/{debs,site,proc,apt/lists/partial,apt/archives/partial}
touch "$folder/apt/status"

export APT_CONFIG=$folder/apt/config
cat > "$APT_CONFIG" << END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "root";
Dir::State "$folder/apt";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt";
END
apt-get update -qq
(cd "$folder/debs" && apt-get download -qq "python$version-minimal" "libpython$version-minimal" \
    "libpython$version-stdlib" libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5)
for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$folder"; done
ln -sf "python$version" "$folder/usr/bin/python3"

"$checkout/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --target "$folder/site" --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
    --python-version "$version" -c "$checkout/constraints.txt" numpy onnxruntime

# qemu shows the processors of the host, and ONNX Runtime 1.32 crashes on import if /proc/cpuinfo describes x86.
for number in $(seq 0 $(($(nproc --all) - 1))); do
    printf 'processor\t: %d\nFeatures\t: fp asimd crc32 atomics fphp asimdhp asimddp\n' "$number"
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\n'
done > "$folder/proc/cpuinfo"
