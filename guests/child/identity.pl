# Gives a forked child its own identity in the kernel, for a runtime that can't call it: random state, host name, ids, hardware address, clock. Started before the fork, since a
# process started after it would cost more than all of this; and what is unpacked here runs for the first time in each child, so it does little else than call the kernel.
#
# Reads from the first FIFO and answers each request in the second with "ok" or "failed <why>". A request is at most a page, so that it is written and read whole:
#   "I" 1 byte, lengths of what follows (3 bytes, each a 16-bit number big-endian): the structure that RNDADDENTROPY takes, host name, the structure that SIOCSIFHWADDR takes or nothing;
#       then machine id (33 bytes, with its newline), boot id (37 bytes, with its newline), struct timeval (16 bytes), and those three
#   "C" 1 byte, struct timeval (16 bytes): sets the clock only
use strict;

my ($ask_path, $answer_path, $machine_id_path, $boot_id_path) = @ARGV;
# Both ways, so that neither open waits for the other side, and no end of file comes while it is away.
open(my $ask, '+<', $ask_path) or die "identity: $ask_path: $!\n";
open(my $answer, '+<', $answer_path) or die "identity: $answer_path: $!\n";
open(my $random, '+<', '/dev/random') or die "identity: /dev/random: $!\n";
open(my $machine_id, '+<', $machine_id_path) or die "identity: $machine_id_path: $!\n";
open(my $boot_id, '+<', $boot_id_path) or die "identity: $boot_id_path: $!\n";
socket(my $socket, 2, 2, 0) or die "identity: socket: $!\n";    # AF_INET, SOCK_DGRAM

my ($SYS_settimeofday, $SYS_sethostname) = (164, 170);
my ($RNDADDENTROPY, $RNDRESEEDCRNG, $SIOCSIFHWADDR) = (0x40085203, 0x5207, 0x8924);

sub take_identity {
    my ($entropy_length, $name_length, $address_length) = unpack('x n3', $_[0]);
    my $at = 7 + 33 + 37 + 16;
    ioctl($random, $RNDADDENTROPY, my $entropy = substr($_[0], $at, $entropy_length)) or return "entropy: $!";
    ioctl($random, $RNDRESEEDCRNG, 0) or return "reseeding: $!";
    syscall($SYS_sethostname, my $name = substr($_[0], $at + $entropy_length, $name_length), $name_length) == 0 or return "host name: $!";
    sysseek($machine_id, 0, 0);
    syswrite($machine_id, $_[0], 33, 7) or return "machine id: $!";
    sysseek($boot_id, 0, 0);
    syswrite($boot_id, $_[0], 37, 40) or return "boot id: $!";
    if ($address_length) {
        ioctl($socket, $SIOCSIFHWADDR, my $address = substr($_[0], $at + $entropy_length + $name_length, $address_length)) or return "MAC address: $!";
    }
    return set_clock(substr($_[0], 77, 16));
}

sub set_clock {
    return syscall($SYS_settimeofday, $_[0], 0) == 0 ? '' : "clock: $!";
}

while (sysread($ask, my $request, 4096)) {
    my $why = ord($request) == 73 ? take_identity($request) : set_clock(substr($request, 1));
    syswrite($answer, $why eq '' ? 'ok' : "failed $why");
}
