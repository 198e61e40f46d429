/**
 * The script that freezes, and thaws when nobody renews. It runs as a process of its own, forked before the first freeze, since a frozen root can block every
 * thread of the agent; it needs nothing but sh, sleep and fsfreeze. Time is the guest's uptime: the wall clock may be set while it waits.
 *
 * The agent's death is no reason to thaw before the lease lapses: the control plane, which doesn't see it at once, may suspend and commit on the strength of that lease.
 *
 * The kernel may take long to freeze a file system: it first writes back what is dirty, and waits for its writers. Nobody can break that off, and ending who asked leaves it frozen once
 * it is done. So a child asks, and the script looks at lease and thaw meanwhile: it thaws at once what is frozen already, and the last one as soon as the kernel lets go.
 *
 * Arguments: directory for its files (tmpfs), mount points innermost first. Files in the directory:
 *   lease   by the agent: the uptime, in hundredths of a second, until which the freeze is wanted
 *   thaw    by the agent, or by whoever removes it: asks to thaw now
 *   ack     the lease that it has read: until then it will not thaw by itself
 *   result  `frozen`, or `failed <mount point>`
 *   void    written BEFORE anything is thawed, with the reason; never removed while the freeze's directory is there
 *   frozen  mount points that are frozen, one a line, in the order in which they are to be thawed
 *   making  the mount point that the kernel is freezing, or nothing: what a clean-up must thaw too, once it is done, if this was killed
 *   ended   the exit code of what asks the kernel
 */
export const thawWatchdogScript = `
cd "$1" || exit 1
shift
echo -1000 >/proc/self/oom_score_adj 2>/dev/null
trap '' HUP INT TERM PIPE
uptime() { read -r now _ </proc/uptime; now=\${now%.*}\${now#*.}; }
wanted() { lease=0; read -r lease 2>/dev/null <lease; uptime; [ "$now" -lt "$lease" ]; }
over() { if [ -e thaw ]; then why='thawed on request'; elif wanted; then return 1; else why='the lease lapsed'; fi; }
say() { echo "$1" >result.new && mv result.new result; }
thaw() {
  echo "$1" >void.new && mv void.new void
  # Side by side: an inner one, whose disk is a file of an outer one, may have to wait for that.
  while read -r mount; do
    [ -n "$mount" ] && fsfreeze --unfreeze "$mount" 2>>errors &
  done <frozen
  if [ -n "$making" ]; then
    until [ -s ended ]; do sleep 0.1; done
    read -r code <ended
    # One that another froze is that one's; of an asker that was killed nobody knows.
    { [ "$code" -eq 0 ] || [ "$code" -gt 128 ]; } && fsfreeze --unfreeze "$making" 2>>errors
  fi
  wait
  : >frozen
  : >making
  exit 0
}
sleep 0
making=
order=
: >frozen
for mount in "$@"; do
  over && { say "failed lease"; thaw "$why while freezing"; }
  making=$mount
  printf '%s\\n' "$making" >making
  : >ended
  { fsfreeze --freeze "$making" 2>>errors; echo $? >ended; } &
  until [ -s ended ]; do
    over && { say "failed lease"; thaw "$why while freezing"; }
    sleep 0.05
  done
  read -r code <ended
  [ "$code" = 0 ] || { say "failed $making"; thaw "freezing failed"; }
  order="$making
$order"
  printf '%s' "$order" >frozen
  making=
  : >making
done
say frozen
acked=
while :; do
  over && thaw "$why"
  [ "$lease" = "$acked" ] || { echo "$lease" >ack.new && mv ack.new ack && acked=$lease; }
  sleep 0.1
done
`
