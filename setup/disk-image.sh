#!/bin/sh
# Makes a raw disk image that boots by itself: MBR partition table, GRUB, and one ext4 file system with the Debian tree in it.
# Needs no loop device. Runs as root, in a mount namespace of its own.
#   disk-image.sh <build directory> <tree.tar> <overlay directory> <customise script> <size in MiB> <out.raw>
# The overlay's files are laid over the tree, then the customise script runs inside it, with ROOT_UUID set.
set -eu
build=$1 treeTar=$2 overlay=$3 customise=$4 sizeMib=$5 out=$6
tree=$build/tree
ROOT_UUID=$(cat /proc/sys/kernel/random/uuid)
export ROOT_UUID

available=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
if [ "$available" -gt 3000000 ]; then mount -t tmpfs -o size=2g,mode=755 disk-image "$build"; fi

mkdir -p "$tree"
tar --extract --file "$treeTar" --numeric-owner --xattrs --directory "$tree"
cp --recursive --preserve=mode,timestamps,links "$overlay/." "$tree/"
LC_ALL=C chroot "$tree" sh -eu <"$customise"

# The file system starts at 1 MiB, where the partition table below says.
truncate --size "${sizeMib}M" "$out"
mke2fs -q -t ext4 -U "$ROOT_UUID" -L portolan-guest -E offset=1048576,lazy_itable_init=1 -m 0 -d "$tree" "$out" "$(( (sizeMib - 1) * 1024 ))k"

# GRUB: the first sector loads the core image from the sectors behind it, up to the partition.
cat >"$build/core.cfg" <<'CONFIG'
set root=(hd0,msdos1)
set prefix=(hd0,msdos1)/boot/grub
configfile /boot/grub/grub.cfg
CONFIG
grub-mkimage -O i386-pc -d /usr/lib/grub/i386-pc -c "$build/core.cfg" -p '(hd0,msdos1)/boot/grub' -o "$build/core.img" \
  biosdisk part_msdos ext2 normal configfile linux
dd if=/usr/lib/grub/i386-pc/boot.img of="$out" bs=440 count=1 conv=notrunc status=none
dd if="$build/core.img" of="$out" bs=512 seek=1 conv=notrunc status=none

# One active Linux partition from sector 2048 to the end. CHS fields are "use LBA".
sectors=$(( sizeMib * 2048 - 2048 ))
{
  printf '\200\376\377\377\203\376\377\377\000\010\000\000'
  printf "$(printf '\\%03o\\%03o\\%03o\\%03o' $(( sectors & 255 )) $(( sectors >> 8 & 255 )) $(( sectors >> 16 & 255 )) $(( sectors >> 24 & 255 )))"
} | dd of="$out" bs=1 seek=446 conv=notrunc status=none
printf '\125\252' | dd of="$out" bs=1 seek=510 conv=notrunc status=none
