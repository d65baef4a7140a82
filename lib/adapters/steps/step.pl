# What every program beside a container, as a step of its job or on the node itself, begins with: how it is asked, how
# it answers, and how bytes pass through it in both directions. The program itself follows in the same text.
# node.pl stands before it.
#
# stdin: the length of the request in bytes, a newline, the request: NUL-ended fields (see `encodeFields` in
# frames.ts). What may follow are frames of a letter, a length (4 bytes, big endian) and that many bytes:
#   i              bytes for the other side
#   e              no more of them come
#   w COLUMNS ROWS the size of the terminal
# When stdin ends, nobody waits any more, and what was begun is ended. So that this is always noticed, stdin is always
# read: no more bytes are sent than were taken (k) and a window beyond that (INPUT_WINDOW_BYTES in step_input.ts).
# stdout: the nonce of the request, then frames of the same form, each with a newline behind it, at which srun gives on
# what it has (srun(1), --unbuffered: with that, it would make a terminal):
#   s              what was asked for has begun
#   o, e           a piece of its output, of its errors
#   k COUNT        so many more bytes of input were taken
#   b START\0EXIT   the job's status files changed
#   z              no more output comes, but input is still taken
#   x CODE         it ended; 128 + n when signal n ended it
#   t              it ran longer than it may and was killed
#   c              nobody waited any more, and it was ended
#   f KIND TEXT    it does not begin; KIND is one of starting, ended, setuid, command, node
# The exit code is always 0, so that srun has nothing to say about it.
# A signal may come just before select() sleeps; then this is how late it is seen. A command closes its streams
# just before it ends, so the first sleeps after that are short.
my ($SHORTEST_SLEEP_S, $LONGEST_SLEEP_S) = (0.001, 0.1);
# What a command left in the background may hold its stdout open; its answer does not wait longer for it.
my $DRAIN_S = 1;
# So long the end of what was killed is waited for.
my $KILL_WAIT_S = 1;
# Input that was taken is told in portions of this size, or when there is no more.
my $TAKEN_BYTES = 65536;
$SIG{PIPE} = 'IGNORE';
binmode STDIN;
binmode STDOUT;

close_inherited();
my ($nonce, @request) = read_request();
my $output = $nonce;
# Of stdin: what is no whole frame yet, what is still to be passed on, and whether all of it has come.
my ($unread, $to_pass, $input_ended) = ('', '', 0);
# The terminal's size as it came last, which may be before there is one, and what sets it.
my (@size, $resize);

sub read_request {
  my ($length, $byte, $request) = ('', '', '');
  while (sysread(STDIN, $byte, 1) && $byte ne "\n") { $length .= $byte }
  while (length $request < $length) {
    sysread(STDIN, $request, $length - length $request, length $request) or exit 0;
  }
  my @fields = split /\0/, $request, -1;
  pop @fields;
  return @fields;
}

# Passes bytes on in both directions until a process has ended, its time is over, or nobody waits any more; ends with
# a frame that tells. What it is given:
#   sources      handles to read from, by the letters of their frames
#   sink         where input goes; without one it is dropped
#   end_input    called when all input was passed on
#   child        the process; without one it ends with both directions
#   timeout_ms   how long the process may run; 0: as long as it likes
#   max_output   what is beyond that is dropped; without it nothing is
sub relay {
  my (%given) = @_;
  my ($child, $sink, %source) = ($given{child}, $given{sink}, %{ $given{sources} });
  my $deadline = $given{timeout_ms} ? now() + $given{timeout_ms} / 1000 : undef;
  my ($left, $code, $drained_at, $terminated, $told_end) = ($given{max_output});
  my $nap = $SHORTEST_SLEEP_S;
  $SIG{CHLD} = sub { };
  $SIG{TERM} = sub { $terminated = 1 };
  unblock($_) for grep { defined } $sink, values %source;
  while (1) {
    if (defined $child && !defined $code && waitpid($child, $WNOHANG) == $child) {
      $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
      $drained_at = now() + $DRAIN_S;
    }
    last if defined $code && (!%source || $output eq '' && now() >= $drained_at);
    if (!defined $sink) {
      take(length $to_pass);
    } elsif ($input_ended && $to_pass eq '') {
      $given{end_input}->($sink);
      undef $sink;
    }
    if (!defined $child && !%source) {
      frame('z', '') if !$told_end++;
      last if !defined $sink;
    }
    my $why = $terminated ? 'c' : !defined $code && defined $deadline && now() >= $deadline ? 't' : undef;
    my ($readers, $writers) = ('', '');
    vec($readers, fileno STDIN, 1) = 1;
    vec($writers, fileno $sink, 1) = 1 if defined $sink && $to_pass ne '';
    if ($output ne '') {
      vec($writers, fileno STDOUT, 1) = 1;
    } else {
      vec($readers, fileno $_, 1) = 1 for values %source;
    }
    my $waits_for_end = defined $child && !%source;
    my $sleep = pause($waits_for_end ? $nap : $LONGEST_SLEEP_S, $deadline, $drained_at);
    $nap *= 2 if $waits_for_end && $nap < $LONGEST_SLEEP_S;
    if (!defined $why && select($readers, $writers, undef, $sleep) > 0) {
      $why = 'c' if vec($readers, fileno STDIN, 1) && !take_input();
      $why = 'c' if vec($writers, fileno STDOUT, 1) && !write_some();
      undef $sink if defined $sink && vec($writers, fileno $sink, 1) && !pass_some($sink);
      for my $letter (keys %source) {
        next if !vec($readers, fileno $source{$letter}, 1);
        my ($piece, $length);
        $length = sysread $source{$letter}, $piece, $PIECE_BYTES;
        next if !defined $length && ($! == $EAGAIN || $! == $EINTR);
        if (!$length) {
          delete $source{$letter};
          next;
        }
        # Who reads slowly loses nothing of what was written before the end.
        $drained_at = now() + $DRAIN_S if defined $drained_at && !defined $left;
        if (defined $left) {
          $piece = substr $piece, 0, $left;
          $left -= length $piece;
        }
        frame($letter, $piece) if $piece ne '';
      }
    }
    if (defined $why) {
      kill_all($child) if defined $child && !defined $code;
      frame($why, '');
      finish();
    }
  }
  frame('x', $code // 0);
  finish();
}

# Reads what came on stdin. False when it has ended.
sub take_input {
  my $length = sysread STDIN, $unread, $PIECE_BYTES, length $unread;
  return !defined $length && $! == $EINTR if !$length;
  while (length $unread >= 5) {
    my ($letter, $size) = unpack 'a N', $unread;
    last if length $unread < 5 + $size;
    my $bytes = substr $unread, 5, $size;
    substr $unread, 0, 5 + $size, '';
    if ($letter eq 'i') { $to_pass .= $bytes }
    elsif ($letter eq 'e') { $input_ended = 1 }
    elsif ($letter eq 'w') {
      @size = split / /, $bytes;
      $resize->(@size) if defined $resize;
    }
  }
  return 1;
}

# False when nothing can be passed on any more.
sub pass_some {
  my ($sink) = @_;
  my $written = syswrite $sink, $to_pass, $PIECE_BYTES;
  return $! == $EAGAIN || $! == $EINTR if !defined $written;
  take($written);
  return 1;
}

# So many bytes of the input were passed on, or dropped.
my $taken = 0;
sub take {
  my ($count) = @_;
  substr $to_pass, 0, $count, '';
  $taken += $count;
  return if $taken == 0 || $taken < $TAKEN_BYTES && $to_pass ne '';
  frame('k', $taken);
  $taken = 0;
}

# How long to sleep: not longer than $longest, and not beyond any of the times.
sub pause {
  my ($longest, @times) = @_;
  my ($seconds) = sort { $a <=> $b } $longest, map { $_ - now() } grep { defined } @times;
  return $seconds > 0 ? $seconds : 0;
}

# Ends the process groups of commands, and what came of them in other groups as long as it can be traced.
sub kill_all {
  my (@commands) = @_;
  # Stopped first, because what runs can make another child while it is looked for.
  my (%family, @found);
  for (@found = @commands; @found; @found = grep { !$family{$_} } map { children_of($_) } keys %family) {
    $family{$_} = 1 for @found;
    kill 'STOP', @found;
  }
  kill 'KILL', (map { -$_ } @commands), keys %family;
  # What hangs in the kernel ends when it can; nobody waits for that.
  my $deadline = now() + $KILL_WAIT_S;
  for my $command (@commands) {
    sleep_for($SHORTEST_SLEEP_S) while waitpid($command, $WNOHANG) == 0 && now() < $deadline;
  }
}

sub frame {
  my ($letter, $bytes) = @_;
  $output .= $letter . pack('N', length $bytes) . "$bytes\n";
}

sub fail {
  my ($kind, $text) = @_;
  frame('f', "$kind $text");
  finish();
}

sub finish {
  while ($output ne '' && write_some()) { }
  exit 0;
}

# False when nobody can be written to.
sub write_some {
  my $written = syswrite STDOUT, $output, $ATOMIC_BYTES;
  return $! == $EINTR if !defined $written;
  substr $output, 0, $written, '';
  return 1;
}

# Whether stdin has ended.
sub nobody_waits {
  my $readers = '';
  vec($readers, fileno STDIN, 1) = 1;
  return select($readers, undef, undef, 0) > 0 && !take_input();
}

sub abandon {
  frame('c', '');
  finish();
}
