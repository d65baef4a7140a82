# The first process of a pod's process namespace: it takes in orphans and holds the namespace. node.pl stands before it.
# Its root is an empty one of its own, so that /proc/1/root leads a container nowhere. The working directory is that
# root, a mount, and this process has a mount namespace of its own.
use strict;

# By machine as in node.pl: the numbers of pivot_root(2) and umount2(2).
my %ROOT_CALLS = (62 => [155, 166], 183 => [41, 39], 243 => [41, 39], 21 => [203, 52], 22 => [217, 52]);
my $MNT_DETACH = 2;

my ($pivot_root, $umount) = @{ $ROOT_CALLS{ machine() } || exit 1 };
$SIG{CHLD} = 'IGNORE';
$SIG{TERM} = sub { exit 0 };
my $here = '.';
syscall($pivot_root, $here, $here) == 0 && syscall($umount, $here, $MNT_DETACH) == 0 or exit 1;
chdir '/';
close $_ for *STDIN, *STDOUT, *STDERR;
$0 = 'pause';
sleep while 1;
