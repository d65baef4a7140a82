# Moves the owners of all files below a folder into a user namespace: so many ids from 0 on become ids from the given
# ones on, and others stay. What files may do beyond their user (capabilities(7)) they may in the namespace. node.pl
# stands before it. argv: the folder, the first user, the first group, how many of each.
my ($folder, $users, $groups, $user_count, $group_count) = @ARGV;

# By machine as in node.pl: the number of fchownat(2), which unlike chown(2) leaves the target of a link alone.
my %FCHOWNAT = (62 => 260, 183 => 54, 243 => 54, 21 => 289, 22 => 291);
# Likewise of getxattr(2) and setxattr(2).
my %XATTR = (62 => [191, 188], 183 => [8, 5], 243 => [8, 5], 21 => [212, 209], 22 => [227, 224]);
my ($AT_FDCWD, $AT_SYMLINK_NOFOLLOW) = (-100, 0x100);
my $SET_ID_BITS = 06000;
# struct vfs_cap_data without and with the user that is its namespace's root (linux/capability.h): a version in the
# uppermost bits of the first number, and then the sets.
my ($CAPABILITIES, $SETS, $BYTES, $OF_NAMESPACE) = ('security.capability', 16, 20, 3 << 24);

my $fchownat = $FCHOWNAT{ machine() } // die "this machine type is not known\n";
my ($getxattr, $setxattr) = @{ $XATTR{ machine() } };
open my $list, '-|', 'find', $folder, '-xdev', '-print0' or die "find cannot be run: $!\n";
local $/ = "\0";
while (defined(my $path = readline $list)) {
  chop $path;
  my (undef, undef, $mode, undef, $user, $group) = lstat $path or next;
  my $capabilities = -f _ ? capabilities_of($path) : undef;
  $user += $users if $user < $user_count;
  $group += $groups if $group < $group_count;
  syscall($fchownat, $AT_FDCWD, $path, $user, $group, $AT_SYMLINK_NOFOLLOW) == 0
    or die "the owner of $path cannot be changed: $!\n";
  # chown(2) has taken them away.
  chmod $mode & 07777, $path if $mode & $SET_ID_BITS && !-l $path;
  next if !defined $capabilities;
  syscall($setxattr, $path, $CAPABILITIES, $capabilities, length $capabilities, 0) == 0
    or die "the capabilities of $path cannot be kept: $!\n";
}
close $list or die "find has failed\n";

# As the namespace's root may give them.
sub capabilities_of {
  my ($path) = @_;
  my $value = "\0" x $BYTES;
  return if syscall($getxattr, $path, $CAPABILITIES, $value, $BYTES) != $BYTES;
  my ($version, $sets) = unpack "V a$SETS", $value;
  return pack "V a$SETS V", $version & 0xffffff | $OF_NAMESPACE, $sets, $users;
}
