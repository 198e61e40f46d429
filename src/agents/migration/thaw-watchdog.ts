/**
 * The script that freezes, and thaws when nobody renews. It runs as a process of its own, forked before the first freeze, since a frozen root can block every
 * thread of the agent; it needs nothing but sh, sleep and fsfreeze. Time is the guest's uptime: the wall clock may be set while it waits.
 *
 * The agent's death is no reason to thaw before the lease lapses: the control plane, which doesn't see it at once, may suspend and commit on the strength of that lease.
 *
 * Arguments: directory for its files (tmpfs), file of what is frozen, mount points innermost first. The second file lists mount points frozen
 * so far, one a line: what a clean-up must thaw if both the agent and this were killed. Files in the directory:
 *   lease   by the agent: the uptime, in hundredths of a second, until which the freeze is wanted
 *   thaw    by the agent, or by whoever removes it: asks to thaw now
 *   ack     the lease that it has read: until then it will not thaw by itself
 *   result  `frozen`, or `failed <mount point>`
 *   void    written BEFORE anything is thawed, with the reason; never removed while the freeze's directory is there
 */
export const thawWatchdogScript = `
cd "$1" || exit 1
frozen=$2
shift 2
echo -1000 >/proc/self/oom_score_adj 2>/dev/null
trap '' HUP INT TERM PIPE
uptime() { read -r now _ </proc/uptime; now=\${now%.*}\${now#*.}; }
wanted() { lease=0; read -r lease 2>/dev/null <lease; uptime; [ "$now" -lt "$lease" ]; }
thaw() {
  echo "$1" >void.new && mv void.new void
  order=
  while read -r line; do order="$line
$order"; done <"$frozen"
  echo "$order" | while read -r mount; do
    [ -n "$mount" ] && fsfreeze --unfreeze "$mount" 2>>errors
  done
  : >"$frozen"
  exit 0
}
sleep 0
: >"$frozen"
for mount in "$@"; do
  wanted || { echo "failed lease" >result.new; mv result.new result; thaw "the lease lapsed while freezing"; }
  echo "$mount" >>"$frozen"
  fsfreeze --freeze "$mount" 2>>errors || {
    echo "failed $mount" >result.new; mv result.new result
    thaw "freezing failed"
  }
done
echo frozen >result.new && mv result.new result
acked=
while :; do
  [ -e thaw ] && thaw "thawed on request"
  wanted || thaw "the lease lapsed"
  [ "$lease" = "$acked" ] || { echo "$lease" >ack.new && mv ack.new ack && acked=$lease; }
  sleep 0.1
done
`
