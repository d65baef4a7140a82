# Tells what went through networks: for each network namespace that its arguments name, its place among them and what
# the kernel says of the interfaces in it. One that is gone is left out. node.pl stands before it.
my ($setns) = @{ $CALLS{ machine() } || die "what this machine type calls setns(2) is not known\n" };
my $CLONE_NEWNET = 0x40000000;

for my $index (0 .. $#ARGV) {
  open my $namespace, '<', $ARGV[$index] or next;
  syscall($setns, fileno $namespace, $CLONE_NEWNET) == 0 or next;
  print "pod $index\n", slurp('/proc/net/dev') // '';
}
