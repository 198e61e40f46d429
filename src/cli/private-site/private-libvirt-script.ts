/**
 * The first process of a private libvirt's PID and mount namespaces. `$1` is the site's directory; standard input stays open as long as the owner lives.
 *
 * Root's libvirtd has fixed paths, so ours are mounted over them, seen by this process tree only. sysfs is mounted anew because it shows the network
 * namespace that it was mounted in; the machine's own service managers are hidden, since libvirtd would hand its virtual machines to them. When this process ends, whatever the reason, the kernel kills everything in its PID namespace: libvirtd,
 * its DHCP servers, and its virtual machines. It also reaps what daemonises, without which libvirt would wait for its dead QEMUs.
 */
export const privateLibvirtScript = `
set -e
exec 3<&0 </dev/null
umount --recursive --lazy /sys || true
mount -t sysfs sysfs /sys
for service in /run/dbus /run/systemd; do
  if [ -d "$service" ]; then mount -t tmpfs tmpfs "$service"; fi
done
for pair in run:/run/libvirt lib:/var/lib/libvirt etc:/etc/libvirt log:/var/log/libvirt cache:/var/cache/libvirt; do
  mkdir -p "$1/\${pair%%:*}" "\${pair#*:}"
  mount --bind "$1/\${pair%%:*}" "\${pair#*:}"
done
mkdir -p /etc/libvirt/qemu/networks /var/lib/libvirt/dnsmasq
libvirtd --config "$1/libvirtd.conf" --pid-file /run/libvirt/libvirtd.pid 3<&- &
daemon=$!
{ cat <&3 >/dev/null; kill -KILL "$daemon"; } &
exec 3<&-
wait "$daemon"
`

/** Nobody but root may open the socket: it lies in a directory of ours and asks for no password. */
export const libvirtdConfiguration = `
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_rw_perms = "0700"
unix_sock_ro_perms = "0700"
`

/**
 * Everything runs as root of this namespace, since a security driver, other users and cgroups would have to be those of the machine. QEMU writes its logs itself,
 * so that no virtlogd is needed.
 */
export const qemuConfiguration = `
user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
`
