# Follows the output of a job's program, from now on, and passes input to it through the named pipe that job_stdio.pl
# reads. node.pl and step.pl stand before it.

# How late output is seen.
my $LOOK_S = 0.02;
# A frame goes into the pipe whole, because several clients may be attached.
my $FRAME_BYTES = $ATOMIC_BYTES - 5;
my $O_CREAT = 0100;

# $has_input: whether the program has a stdin, or a terminal; $gives_input: whether the client has a stdin, whose end
# counts.
my ($directory, $has_input, $gives_input) = @request;
my %file = (o => follow('stdout'), e => follow('stderr'));
my $pipe;
sysopen $pipe, "$directory/stdin", $O_RDWR | $O_NONBLOCK or fail('node', "its pipe stdin cannot be opened there: $!")
  if $has_input;
# What goes into the pipe next.
my $frame = '';
my $told_end = 0;
frame('s', '');
attend();

sub follow {
  my ($name) = @_;
  sysopen my $file, "$directory/$name", $O_CREAT or fail('node', "its $name cannot be read there: $!");
  sysseek $file, 0, 2;
  return $file;
}

sub attend {
  my $terminated;
  $SIG{TERM} = sub { $terminated = 1 };
  while (1) {
    # Looked for before the output is read: what was written before is then read too.
    my $ended = -e "$directory/status/exit";
    my $idle = $output eq '' && !read_output();
    if ($idle && ($ended || $terminated)) {
      frame($ended ? 'x' : 'c', $ended ? 0 : '');
      finish();
    }
    take(length $to_pass) if !$has_input;
    next_frame() if $has_input && $frame eq '';
    my ($readers, $writers) = ('', '');
    vec($readers, fileno STDIN, 1) = 1;
    vec($writers, fileno STDOUT, 1) = 1 if $output ne '';
    vec($writers, fileno $pipe, 1) = 1 if $frame ne '';
    next if select($readers, $writers, undef, $idle ? $LOOK_S : 0) < 1;
    if (vec($readers, fileno STDIN, 1) && !take_input()) {
      leave();
    }
    leave() if vec($writers, fileno STDOUT, 1) && !write_some();
    if ($frame ne '' && vec($writers, fileno $pipe, 1) && syswrite $pipe, $frame) { $frame = '' }
  }
}

# True when there was something.
sub read_output {
  my $any = 0;
  for my $letter (sort keys %file) {
    my $piece;
    my $length = sysread $file{$letter}, $piece, $PIECE_BYTES;
    next if !$length;
    frame($letter, $piece);
    $any = 1;
  }
  return $any;
}

# Sets $frame to what the program is told next, if there is something.
sub next_frame {
  if (@size) {
    $frame = input_frame('w', "@size");
    @size = ();
  } elsif ($to_pass ne '') {
    my $bytes = substr $to_pass, 0, $FRAME_BYTES;
    $frame = input_frame('i', $bytes);
    take(length $bytes);
  } elsif ($input_ended && $gives_input && !$told_end++) {
    $frame = input_frame('e', '');
  }
}

sub input_frame {
  my ($letter, $bytes) = @_;
  return $letter . pack('N', length $bytes) . $bytes;
}

# The client is gone, and what it has not said any more it never will.
sub leave {
  syswrite $pipe, input_frame('e', '') if $has_input && $gives_input && !$told_end;
  abandon();
}
