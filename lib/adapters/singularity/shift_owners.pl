# Moves the owners of all files below a folder into a user namespace: so many ids from 0 on become ids from the given ones
# on, and others stay. node.pl stands before it. argv: the folder, the first user, the first group, how many of each.
my ($folder, $users, $groups, $user_count, $group_count) = @ARGV;

# By machine as in node.pl: the number of fchownat(2), which unlike chown(2) leaves the target of a link alone.
my %FCHOWNAT = (62 => 260, 183 => 54, 243 => 54, 21 => 289, 22 => 291);
my ($AT_FDCWD, $AT_SYMLINK_NOFOLLOW) = (-100, 0x100);
my $SET_ID_BITS = 06000;

my $fchownat = $FCHOWNAT{ machine() } // die "this machine type is not known\n";
open my $list, '-|', 'find', $folder, '-xdev', '-print0' or die "find cannot be run: $!\n";
local $/ = "\0";
while (defined(my $path = readline $list)) {
  chop $path;
  my (undef, undef, $mode, undef, $user, $group) = lstat $path or next;
  $user += $users if $user < $user_count;
  $group += $groups if $group < $group_count;
  syscall($fchownat, $AT_FDCWD, $path, $user, $group, $AT_SYMLINK_NOFOLLOW) == 0
    or die "the owner of $path cannot be changed: $!\n";
  # chown(2) has taken them away.
  chmod $mode & 07777, $path if $mode & $SET_ID_BITS && !-l $path;
}
close $list or die "find has failed\n";
