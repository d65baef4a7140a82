# Terminals for programs. step.pl stands before it.

# The numbers of these calls (ioctl_tty(2)); POWER has its own.
my ($TIOCGPTN, $TIOCSPTLCK, $TIOCSWINSZ) =
  machine() == 21 ? (0x40045430, 0x80045431, 0x80087467) : (0x80045430, 0x40045431, 0x5414);
my $TIOCSCTTY = 0x540e;

# Both sides of a new terminal: ours, and that of the program. Of the files of terminals under $root, where the program
# finds its own by name, or else of this node's.
sub open_terminal {
  my ($root) = @_;
  for ([ "$root/dev/pts/ptmx", "$root/dev/pts" ], [ '/dev/ptmx', '/dev/pts' ]) {
    my ($multiplexer, $folder) = @$_;
    sysopen my $ours, $multiplexer, $O_RDWR | $O_NOCTTY or next;
    my ($number, $unlocked) = (pack('i', 0), pack('i', 0));
    ioctl($ours, $TIOCSPTLCK, $unlocked) && ioctl($ours, $TIOCGPTN, $number) or next;
    sysopen my $theirs, "$folder/" . unpack('i', $number), $O_RDWR | $O_NOCTTY or next;
    return ($ours, $theirs);
  }
  return;
}

sub set_size {
  my ($terminal, $columns, $rows) = @_;
  my $size = pack 'S4', $rows, $columns, 0, 0;
  ioctl $terminal, $TIOCSWINSZ, $size;
}

# Makes the terminal this process's own, in a session of its own.
sub take_terminal {
  my ($setsid, $terminal) = @_;
  syscall($setsid);
  ioctl $terminal, $TIOCSCTTY, 0;
}
