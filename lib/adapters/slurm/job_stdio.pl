# Gives a program that a job starts its stdin, and its terminal, and lets both be reached while it runs. node.pl and
# terminal.pl stand before it, and a line that sets
#   $has_stdin    whether bytes can be sent to it
#   $stdin_once   whether its stdin ends with the first client that ends it
#   $has_tty      whether it runs on a terminal, whose output goes to the file stdout
#
# argv: the number of a file to tell lines to, then the program and its arguments, which this process becomes. Another
# process of this program stays beside it: the keeper. Its id is told as `stdio=` when it writes output, which must
# not be missed at the end. It reads the named pipe `stdin` in
# the working directory, where attach.pl writes frames as step.pl tells them (i, e and w), whole and one at a time.
use strict;
use warnings;

# How late it is seen that the program has ended, which nothing tells when it has no terminal.
my $LOOK_S = 1;

my ($tell, @command) = @ARGV;
sysopen my $frames, 'stdin', $O_RDWR | $O_NONBLOCK or die "cannot open the pipe stdin: $!\n";
my ($ours, $theirs);
if ($has_tty) {
  ($ours, $theirs) = open_terminal('') or die "no terminal can be made: $!\n";
} elsif ($has_stdin) {
  pipe $theirs, $ours or die "no pipe can be made: $!\n";
}
my $program = $$;
my $keeper = start_keeper();
open my $lines, '>>&=', $tell or die "cannot tell the keeper's id: $!\n";
syswrite $lines, "stdio=$keeper\n" if $has_tty;
# Of the program's own files only these.
fcntl $lines, 2, 1;
my (undef, undef, $setsid) = @{ $CALLS{ machine() } || die "what this machine type calls setsid(2) is not known\n" };
take_terminal($setsid, $theirs) if $has_tty;
open STDIN, '<&', $theirs;
if ($has_tty) {
  open STDOUT, '>&', $theirs;
  open STDERR, '>&', $theirs;
}
exec { $command[0] } @command;
die "cannot run $command[0]: $!\n";

# By a process in between, so that the keeper is no child of what this process becomes.
sub start_keeper {
  pipe my $from, my $to or die "no pipe can be made: $!\n";
  my $between = fork // die "no process can be made: $!\n";
  if ($between == 0) {
    my $child = fork // exit 1;
    if ($child == 0) {
      close $theirs;
      close $to;
      keep();
      exit 0;
    }
    syswrite $to, $child;
    exit 0;
  }
  close $to;
  waitpid $between, 0;
  my $id;
  sysread $from, $id, 32 or die "the keeper cannot be started\n";
  close $ours;
  return $id;
}

# Passes on what comes until the program has ended and all of its output was written.
sub keep {
  $SIG{$_} = 'IGNORE' for qw(TERM INT HUP QUIT USR1 USR2 PIPE);
  open my $output, '>>', 'stdout' or return;
  open STDIN, '<', '/dev/null';
  # The program's output ends with the program.
  open STDOUT, '>', '/dev/null';
  open STDERR, '>', '/dev/null';
  unblock($ours);
  my ($unread, $to_pass, $input_open) = ('', '', $has_stdin);
  while (1) {
    my ($readers, $writers) = ('', '');
    # One frame at a time is held; the rest waits in the pipe, and its writers with it.
    vec($readers, fileno $frames, 1) = 1 if length $unread < $ATOMIC_BYTES;
    vec($readers, fileno $ours, 1) = 1 if $has_tty;
    vec($writers, fileno $ours, 1) = 1 if defined $ours && $to_pass ne '';
    if (select($readers, $writers, undef, $LOOK_S) < 1) {
      return if !$has_tty && !-e "/proc/$program";
      next;
    }
    sysread $frames, $unread, $ATOMIC_BYTES, length $unread if vec($readers, fileno $frames, 1);
    if ($has_tty && vec($readers, fileno $ours, 1)) {
      my $piece;
      my $length = sysread $ours, $piece, $PIECE_BYTES;
      # A terminal that nobody has any more gives an error.
      return if !$length && (defined $length || $! != $EAGAIN && $! != $EINTR);
      write_all($output, $piece) if $length;
    }
    if (defined $ours && vec($writers, fileno $ours, 1)) {
      my $written = syswrite $ours, $to_pass;
      if (defined $written) { substr $to_pass, 0, $written, '' }
      elsif ($! != $EAGAIN && $! != $EINTR) { ($to_pass, $input_open) = ('', 0) }
    }
    while ($to_pass eq '' && length $unread >= 5) {
      my ($letter, $size) = unpack 'a N', $unread;
      last if length $unread < 5 + $size;
      my $bytes = substr $unread, 5, $size;
      substr $unread, 0, 5 + $size, '';
      if ($letter eq 'i') { $to_pass = $bytes if $input_open }
      elsif ($letter eq 'w') { set_size($ours, split / /, $bytes) if $has_tty }
      elsif ($letter eq 'e' && $stdin_once && $input_open) {
        $input_open = 0;
        # A terminal is told by its character for that (EOF, termios(3)).
        if ($has_tty) { $to_pass = "\x04" }
        else { undef $ours }
      }
    }
  }
}

sub write_all {
  my ($file, $bytes) = @_;
  while ($bytes ne '') {
    my $written = syswrite $file, $bytes;
    if (defined $written) { substr $bytes, 0, $written, '' }
    elsif ($! != $EINTR) { return }
  }
}
