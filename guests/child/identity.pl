# Gives a forked child its own identity in the kernel: random state, host name, machine id, hardware address, clock. Started before the fork, since a
# process started after it would cost more than all of this. Reads lines from the first FIFO, answers each in the second with "ok" or "failed <why>":
#   identity <uuid> <name in hex> <MAC address, or -> <entropy in hex> <milliseconds since 1970, or "early">
#   clock <milliseconds since 1970>
# "early" sets the clock as far back as the kernel lets: to just after the time since the machine began.
use strict;

my ($ask_path, $answer_path) = @ARGV;
# Both ways, so that neither open waits for the other side, and no end of file comes while it is away.
open(my $ask, '+<', $ask_path) or die "identity: $ask_path: $!\n";
open(my $answer, '+<', $answer_path) or die "identity: $answer_path: $!\n";
open(my $random, '+<', '/dev/random') or die "identity: /dev/random: $!\n";
socket(my $socket, 2, 2, 0) or die "identity: socket: $!\n";    # AF_INET, SOCK_DGRAM

my ($SYS_settimeofday, $SYS_sethostname) = (164, 170);
my ($RNDADDENTROPY, $RNDRESEEDCRNG, $SIOCSIFHWADDR) = (0x40085203, 0x5207, 0x8924);

sub put {
    my ($path, $text) = @_;
    open(my $file, '>', $path) or die "$path: $!\n";
    syswrite($file, $text);
    close($file);
}

sub set_clock {
    my ($when) = @_;
    if ($when eq 'early') {
        open(my $uptime, '<', '/proc/uptime') or die "uptime: $!\n";
        $when = (split(' ', <$uptime>))[0] * 1000 + 60_000;
    }
    syscall($SYS_settimeofday, pack('qq', int($when / 1000), ($when % 1000) * 1000), 0) == 0 or die "clock: $!\n";
}

sub take_identity {
    my ($id, $name, $mac, $entropy, $when) = @_;
    $name = pack('H*', $name);
    $entropy = pack('H*', $entropy);
    # The whole of it is new to this machine: 8 bits a byte.
    ioctl($random, $RNDADDENTROPY, pack('ii', 8 * length($entropy), length($entropy)) . $entropy) or die "entropy: $!\n";
    ioctl($random, $RNDRESEEDCRNG, 0) or die "reseed: $!\n";
    syscall($SYS_sethostname, $name, length($name)) == 0 or die "host name: $!\n";
    put('/run/hostname', "$name\n");
    put('/run/portolan/boot-id', "$id\n");
    (my $machine_id = $id) =~ tr/-//d;
    put('/run/machine-id', "$machine_id\n");
    if ($mac ne '-' and -e '/sys/class/net/eth0') {
        my $bytes = pack('H2' x 6, split(/:/, $mac));
        ioctl($socket, $SIOCSIFHWADDR, pack('a16 S a14', 'eth0', 1, $bytes)) or die "MAC address: $!\n";
    }
    set_clock($when);
}

$| = 1;
my $buffer = '';
while (sysread($ask, $buffer, 65536, length($buffer))) {
    while ($buffer =~ s/^([^\n]*)\n//) {
        my ($what, @arguments) = split(' ', $1);
        eval { $what eq 'clock' ? set_clock(@arguments) : take_identity(@arguments); 1 };
        my $why = $@;
        $why =~ tr/\n/ /;
        syswrite($answer, $why eq '' ? "ok\n" : "failed $why\n");
    }
}
