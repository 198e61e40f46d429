/**
 * What the SSH installer runs in a guest: POSIX sh as root, content to work with dash, bash and busybox alike.
 *
 * Everything lives on one tmpfs, `<base>/portolan-agent`, whose mount point lies on a file system in RAM too, so that the guest's disk sees nothing:
 *   node, agent.mjs, lib/, run   the bundle
 *   unpack/                      what unpacks Node, until it has
 *   bootstrap.json …             injected files, 0600
 *   agent.log                    standard output and error of the agent
 *   process                      "<pid> <start time in ticks since boot>"
 *   freeze-0 …                   a freeze of the agent's: thaw-watchdog.ts says what is in it
 *   operation                    digest of the operation's id, written last
 */

/** Where a mount point may be made, if the guest has a file system in RAM there, in order. */
export const installBases = ['/run', '/dev/shm', '/dev'] as const

const name = 'portolan-agent'

/** `links`: the processes whose link in /proc leads there, or below, by one program for all of them: a guest may have thousands. */
const functions = `
pause() { sleep 0.2 2>/dev/null || sleep 1; }
start_time() {
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  set -- \${stat##*) }
  [ "$1" != Z ] && echo "\${20}"
}
recorded() {
  read -r pid started <"$dir/process" 2>/dev/null || return 1
  [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ] && echo "$pid"
}
mounted() { grep -q " $dir " /proc/self/mounts; }
freezing() {
  for making in "$dir"/freeze-*/making; do
    [ -s "$making" ] || continue
    [ -n "$(links cwd "\${making%/making}")" ] && return 0
  done
  return 1
}
thaw_all() {
  for list in "$dir"/freeze-*/frozen "$dir"/freeze-*/making; do
    [ -f "$list" ] || continue
    while read -r target; do [ -z "$target" ] || fsfreeze --unfreeze "$target" 2>/dev/null; done <"$list"
  done
}
links() {
  ls -l /proc/[0-9]*/"$1" 2>/dev/null | while read -r line; do
    case $line in *" -> $2" | *" -> $2/"*) line=\${line#*/proc/}; echo "\${line%%/*}" ;; esac
  done
}
ours() {
  recorded
  links exe "$dir"
  for freeze in "$dir"/freeze-*; do [ -d "$freeze" ] && links cwd "$freeze"; done
}`

/** Prints `key=value` lines: uid, machine, kernel, memory_kib, missing (a tool), tracefs, base, present (an install, whole or not), installed (an operation's digest whose agent lives). */
export const probeScript = `${functions}
echo "uid=$(id -u)"
echo "machine=$(uname -m)"
echo "kernel=$(uname -r)"
set -- $(grep MemAvailable: /proc/meminfo)
echo "memory_kib=$2"
for tool in grep tar mount umount ls; do command -v $tool >/dev/null 2>&1 || echo "missing=$tool"; done
grep -qw tracefs /proc/filesystems && ! grep -qsF '[confidentiality]' /sys/kernel/security/lockdown && echo "tracefs=yes"
for base in ${installBases.join(' ')}; do
  grep -qE "^[^ ]+ $base (tmpfs|devtmpfs|ramfs) " /proc/self/mounts && echo "base=$base"
  dir=$base/${name}
  [ -e "$dir" ] && echo "present=$dir"
  [ -f "$dir/operation" ] && recorded >/dev/null && echo "installed=$(cat "$dir/operation")"
done
exit 0`

/** Mounts the tmpfs, and unpacks the archive that comes on standard input: the injected files, and the bundle but for Node. `noswap` needs Linux 6.4; with -n, mount keeps no notes in /run. */
export function unpackScript(base: (typeof installBases)[number], sizeBytes: number): string {
  return `umask 077; dir=${base}/${name}
mkdir -m 0700 "$dir" || exit 1
options=mode=0700,nosuid,nodev,exec,size=${Math.ceil(sizeBytes / 1024)}k
mount -n -t tmpfs -o "$options,noswap" ${name} "$dir" 2>/dev/null || mount -n -t tmpfs -o "$options" ${name} "$dir" || exit 1
cd "$dir" && tar xf -`
}

/**
 * Unpacks Node, which comes on standard input, starts the agent, detached, and looks for 0.6 s whether it stays up; `operationDigest` is hexadecimal.
 * Under memory pressure the kernel is to end the agent rather than what the guest is there for.
 */
export function startScript(base: (typeof installBases)[number], operationDigest: string): string {
  return `umask 077; dir=${base}/${name}; cd "$dir" || exit 1
${functions}
./unpack/run node && chmod 700 node && rm -r unpack || exit 1
(
  trap '' HUP
  echo 500 >/proc/self/oom_score_adj
  exec ./run SOURCE "$dir/bootstrap.json" </dev/null >"$dir/agent.log" 2>&1
) </dev/null >/dev/null 2>&1 &
echo "$! $(start_time $!)" >process
for round in 1 2 3; do
  pause
  recorded >/dev/null || { tail -n 20 agent.log >&2; exit 1; }
done
echo ${operationDigest} >operation`
}

/**
 * Ends the agent, thaws what it had frozen, and removes tmpfs and mount point, whatever is there of them. The agent and the watchdogs of its freezes, which
 * outlive it, are asked first and have 5 s; only then is the rest killed. Fails where something is left, and while the kernel still freezes a file system: it would stay frozen once
 * nobody is there who thaws it.
 */
export const removeScript = `${functions}
left=0
for base in ${installBases.join(' ')}; do
  dir=$base/${name}
  [ -e "$dir" ] || continue
  for freeze in "$dir"/freeze-*; do [ -d "$freeze" ] && : >"$freeze/thaw"; done
  asked=$(ours)
  [ -z "$asked" ] || kill -TERM $asked 2>/dev/null
  round=0
  while [ $round -lt 25 ] && [ -n "$(ours)" ]; do pause; round=$((round + 1)); done
  if freezing; then
    echo "the guest's kernel is still freezing $(cat "$making"), which waits for its writers, and is thawed as soon as it is frozen" >&2
    left=1
    continue
  fi
  thaw_all
  for round in 1 2 3 4 5; do
    remaining=$(ours)
    [ -z "$remaining" ] && break
    kill -KILL $remaining 2>/dev/null
    pause
  done
  while mounted; do umount -n "$dir" || umount -n -l "$dir" || break; done
  rmdir "$dir" || left=1
done
exit $left`
