# The first process of a pod's process namespace: it takes in orphans and holds the namespace. node.pl stands before it.
# Its root is an empty one of its own, so that /proc/1/root leads a container nowhere: it has a mount namespace of its
# own. It gives up every right, because a container that may trace processes has whatever this one has.
# argv: a folder that its root can be mounted on. It writes a byte to stdout when all that is done.
use strict;

# By machine as in node.pl: the numbers of mount(2), pivot_root(2) and umount2(2).
my %ROOT_CALLS = (
  62 => [165, 155, 166], 183 => [40, 41, 39], 243 => [40, 41, 39], 21 => [21, 203, 52], 22 => [21, 217, 52],
);
# MS_RDONLY, MS_NOSUID, MS_NODEV and MS_NOEXEC.
my $MOUNT_FLAGS = 1 | 2 | 4 | 8;
my $MNT_DETACH = 2;
# Likewise of setgroups(2), setresgid(2) and setresuid(2).
my %USER_CALLS = (
  62 => [116, 119, 117], 183 => [159, 149, 147], 243 => [159, 149, 147], 21 => [81, 169, 164], 22 => [206, 210, 208],
);
my $NOBODY = 65534;
# The kernel has fewer; it refuses those that it does not know.
my $CAPABILITIES = 64;

my ($mount, $pivot_root, $umount) = @{ $ROOT_CALLS{ machine() } || exit 1 };
my ($setgroups, $setresgid, $setresuid) = @{ $USER_CALLS{ machine() } };
my (undef, $prctl) = @{ $CALLS{ machine() } };
$SIG{CHLD} = 'IGNORE';
$SIG{TERM} = sub { exit 0 };
my ($root, $here, $kind, $size) = ($ARGV[0], '.', 'tmpfs', 'size=4k');
syscall($mount, $kind, $root, $kind, $MOUNT_FLAGS, $size) == 0 && chdir $root
  && syscall($pivot_root, $here, $here) == 0 && syscall($umount, $here, $MNT_DETACH) == 0
  && chdir '/' or exit 1;
$0 = 'pause';
syscall $prctl, $PR_CAPBSET_DROP, $_, 0, 0, 0 for 0 .. $CAPABILITIES - 1;
syscall($setgroups, 0, 0) == 0
  && syscall($setresgid, $NOBODY, $NOBODY, $NOBODY) == 0
  && syscall($setresuid, $NOBODY, $NOBODY, $NOBODY) == 0
  && syscall($prctl, $PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
  # Another user's process no longer ends with its parent by itself (prctl(2)).
  && syscall($prctl, $PR_SET_PDEATHSIG, $SIGKILL, 0, 0, 0) == 0 or exit 1;
syswrite STDOUT, '.';
close $_ for *STDIN, *STDOUT, *STDERR;
sleep while 1;
