#!/bin/sh
# The proof that a fresh clone sets itself up on a bare machine: a minimal Debian 12 in a directory, with nothing but Node 18, npm, git and sudo of its own, in which a user who is not root
# types the README's commands. Needs root, debootstrap and the network; takes about ten minutes. Not part of `npm test`: it installs a whole system.
#   test/setup/bare-machine.sh <directory for the system; kept, and used again> [command, such as: npm run demo -- --tiny]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
bare=$1
shift
[ $# -gt 0 ] || set -- npm run setup

mkdir -p "$bare/etc"
cp /etc/resolv.conf "$bare/etc/resolv.conf"
if [ ! -e "$bare/home/walker" ]; then
  debootstrap --variant=minbase bookworm "$bare" ${DEBIAN_MIRROR:-}
  chroot "$bare" sh -c 'apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends nodejs npm git sudo ca-certificates'
  chroot "$bare" useradd --create-home --shell /bin/bash walker
  echo 'walker ALL=(ALL) NOPASSWD: ALL' >"$bare/etc/sudoers.d/walker"
  printf '127.0.0.1 localhost %s\n' "$(uname -n)" >"$bare/etc/hosts"
  # What this machine trusts, and how it asks for names, is not what is tested.
  cp /etc/ssl/certs/ca-certificates.crt "$bare/etc/ssl/certs/"
  echo 'cafile=/etc/ssl/certs/ca-certificates.crt' >"$bare/home/walker/.npmrc"
fi
rm -rf "$bare/home/walker/portolan"
git clone --quiet "$root" "$bare/home/walker/portolan"
chroot "$bare" chown -R walker: /home/walker

# Its own mounts and processes: all of it ends with this command.
exec unshare --mount --pid --fork --kill-child --propagation private sh -c '
  bare=$1
  shift
  mount --bind "$bare" "$bare"
  mount -t proc proc "$bare/proc"
  mount -t sysfs sysfs "$bare/sys"
  mount --rbind /dev "$bare/dev"
  for directory in run tmp; do mount -t tmpfs -o mode=1777 tmpfs "$bare/$directory"; done
  exec chroot "$bare" su --login walker --command "cd portolan && $*"
' sh "$bare" "$@"
