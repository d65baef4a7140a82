# What our programs beside containers have in common; it stands before all of them.
#
# Core Perl without a module, because that is all a compute node is sure to have. Tests run it with -w: the module
# `warnings` would take as long to load as the rest, for each probe.
use strict;

# Of a read from a source, and of its pieces on the way.
my $PIECE_BYTES = 65536;
# A pipe that is writable takes this much without blocking, and whole (PIPE_BUF, pipe(7)).
my $ATOMIC_BYTES = 4096;
# The numbers of setns(2), prctl(2) and setsid(2) by machine, as the header of an ELF file names it (e_machine, elf(5)).
my %CALLS = (
  62 => [308, 157, 112], 183 => [268, 167, 157], 243 => [268, 167, 157], 21 => [350, 171, 66], 22 => [339, 172, 66],
);
my ($PR_SET_PDEATHSIG, $PR_CAPBSET_DROP, $PR_SET_NO_NEW_PRIVS) = (1, 24, 38);
my ($SIGKILL, $EINTR, $EAGAIN, $WNOHANG) = (9, 4, 11, 1);
my ($F_GETFL, $F_SETFL, $O_RDWR, $O_NOCTTY, $O_NONBLOCK) = (3, 4, 2, 0400, 04000);

sub slurp {
  my ($path) = @_;
  open my $file, '<', $path or return undef;
  local $/;
  return scalar readline $file;
}

# What whoever started us has open, Slurm or a server, is nothing for a container, nor for what outlives him.
sub close_inherited {
  opendir my $list, '/proc/self/fd' or return;
  my @numbers = grep { /^\d+$/ && $_ > 2 } readdir $list;
  closedir $list;
  for my $number (@numbers) {
    open my $file, '<&=', $number or next;
    close $file;
  }
}

sub sleep_for {
  select undef, undef, undef, $_[0];
}

sub unblock {
  my ($file) = @_;
  my $flags = fcntl($file, $F_GETFL, 0) // return;
  fcntl $file, $F_SETFL, $flags | $O_NONBLOCK;
}

# The machine type of this node, as the file of this program tells it.
sub machine {
  open my $file, '<:raw', '/proc/self/exe' or return 0;
  read $file, my $header, 20;
  return unpack ord(substr $header, 5, 1) == 2 ? 'x18 n' : 'x18 v', $header;
}

# Seconds on a clock that nobody sets.
sub now {
  my ($seconds) = (slurp('/proc/uptime') // '') =~ /^(\S+)/;
  return $seconds // time;
}
