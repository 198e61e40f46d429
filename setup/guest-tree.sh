#!/bin/sh
# Builds the Debian 12 tree that both guest images and the landing image are made from, as a tar archive. Runs as root, in a mount namespace of its own.
#   guest-tree.sh <build directory> <cache of .deb files> <packages, comma separated> <overlay directory> <out.tar>
# DEBIAN_MIRROR may name another mirror; debootstrap's own default is used otherwise.
set -eu
build=$1 debs=$2 packages=$3 overlay=$4 out=$5
tree=$build/tree

# All in RAM where there is plenty: unpacking fsyncs each file, which costs more than everything else.
available=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
if [ "$available" -gt 4000000 ]; then mount -t tmpfs -o size=3g,mode=755 guest-tree "$build"; fi

mkdir -p "$tree" "$debs"
debootstrap --foreign --variant=minbase --cache-dir="$debs" --include="$packages" bookworm "$tree" ${DEBIAN_MIRROR:-}

# The overlay comes before the packages are configured, so that the kernel's first initramfs is already the small one.
cp --recursive --preserve=mode "$overlay/." "$tree/"
mkdir -p "$tree/etc/dpkg/dpkg.cfg.d"
echo force-unsafe-io >"$tree/etc/dpkg/dpkg.cfg.d/while-building"

DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$tree" /debootstrap/debootstrap --second-stage
rm -rf "$tree/etc/dpkg/dpkg.cfg.d/while-building" "$tree"/var/cache/apt/*.bin "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*_Packages "$tree"/etc/ssh/ssh_host_*
tar --create --file "$out" --numeric-owner --xattrs --directory "$tree" .
