# Runs a container and stays until it has ended: it empties the program's stdout and stderr into files, passes input on,
# and writes down how it ended. It outlives the server. node.pl, terminal.pl, run_program.pl and cgroups.pl stand before it.
#
# argv: the beginning of the paths of the container's files; 1 or 0 for each of: it has stdin, its stdin ends with the
# first client that ends it, it has a terminal; the folder in which crun leaves its files; where a socket can be made
# for the terminal; where the container's cgroup lies, or nothing when a manager of cgroups decides; the container's id,
# and crun's words before the verb.
#
# It answers on stdout: `started PID`, or `failed WHY`. The files:
#   .stdout, .stderr   what the program wrote; .stdout is locked as long as this program lives (flock(2))
#   .turns             in which order: each time when it goes from one to the other, the letter of the one that is left
#                      (o or e), seven bytes of 0, and how long that is by then (64 bit, little-endian)
#   .exit              `CODE KILLED`, when it has ended and all of its output is written: 128 + n when signal n ended
#                      it, and whether memory was the reason
# In the folder `input` is a pipe for frames as in step.pl (i, e and w), whole and one at a time, from anybody, and it
# leaves `cgroups`: lines with a controller, as cgroups.pl calls them, and the folder of its cgroup.
my ($files, $has_stdin, $stdin_once, $has_tty, $folder, $socket, $cgroup, $id, @crun) = @ARGV;

# How long output is waited for that somebody else holds open after the end.
my $DRAIN_S = 1;
# So much output may wait for the server, which gives the room of what it has copied back; then the program waits. That
# must be more than the server keeps for itself (COPIED_BYTES).
my $MAX_WAITING_BYTES = 64 << 20;
# How soon a program goes on that had to wait.
my $FULL_PAUSE_S = 0.1;
# Between tries to write its end down.
my $UNWRITTEN_PAUSE_S = 1;
# Where they are mounted.
my $CGROUPS = '/sys/fs/cgroup';
# Of lseek(2).
my $SEEK_DATA = 3;
# Of flock(2).
my $LOCK_EX = 2;

close_inherited();
my ($answer, $to_answer) = pipe_pair();
my $own = fork // die "no process can be made: $!\n";
if ($own != 0) {
  close $to_answer;
  local $/;
  print readline $answer;
  exit 0;
}
close $answer;
leave_streams();
my ($setns, $prctl, $setsid) = @{ $CALLS{ machine() } || answer("failed this machine type is not known") };
syscall($setsid);
$0 = "multicri: container $id";
$SIG{$_} = 'IGNORE' for qw(TERM INT HUP QUIT USR1 USR2 PIPE);
become_subreaper() or answer("failed no subreaper can be made: $!");
eval { supervise(); 1 } or do {
  my $why = $@;
  system { $crun[0] } @crun, 'delete', '--force', $id;
  answer("failed $why");
};
exit 0;

# Whoever waits for the end of our caller's streams must not wait for us.
sub leave_streams {
  open STDIN, '<', '/dev/null';
  open STDOUT, '>', '/dev/null';
  open STDERR, '>', '/dev/null';
}

sub answer {
  my ($text) = @_;
  $text =~ s/\s+$//;
  syswrite $to_answer, $text;
  close $to_answer;
  exit 0 if $text =~ /^failed/;
}

sub supervise {
  sysopen my $frames, "$folder/input", $O_RDWR | $O_NONBLOCK or die "its pipe for input cannot be opened: $!\n"
    if $has_stdin || $has_tty;
  open my $out, '>>', "$files.stdout" or die "$files.stdout cannot be written: $!\n";
  flock $out, $LOCK_EX or die "its output cannot be locked: $!\n";
<<<<<<< HEAD
  open my $err, '>>', "$files.stderr" or die "its output cannot be written: $!\n";
  open my $turns, '>>', "$files.turns" or die "its output cannot be written: $!\n";
=======
  open my $err, '>>', "$files.stderr" or die "$files.stderr cannot be written: $!\n";
>>>>>>> work-c
  # The disk may be full when it ends: what tells that has its room from now on.
  open my $exit, '+>', "$files.exit.new" or die "$files.exit.new cannot be written: $!\n";
  write_down($exit, '255 0') or die "$files.exit.new cannot be written: $!\n";
  open my $null, '+<', '/dev/null' or die "/dev/null cannot be opened: $!\n";
  my ($stdin, $stdout, $stderr, $sink, %source, $console) = ($null, $null, $null);
  my @run = ('--log', "$folder/log", 'run', '--detach', '--bundle', $folder, '--pid-file', "$folder/pid");
  if ($has_tty) {
    $console = listen_for_terminal($socket);
    push @run, '--console-socket', $socket;
  } else {
    ($source{out}, $stdout) = pipe_pair();
    ($source{err}, $stderr) = pipe_pair();
    ($stdin, $sink) = pipe_pair() if $has_stdin;
  }
  unlink "$folder/log";
  waitpid start_crun($stdin, $stdout, $stderr, @crun, @run, $id), 0;
  die last_words("$folder/log") . "\n" if $? != 0;
  my $terminal = $has_tty ? take_handed_over($console, $socket) : undef;
  if ($has_tty) {
    $source{out} = $sink = $terminal // die "its terminal was not handed over\n";
  }
  close $_ for grep { defined && $_ != $null } $stdin, $stdout, $stderr;
  my $program = id_in("$folder/pid") // die "its process id is not known\n";
  my $end = end_of($program) // die "its process cannot be watched: $!\n";
  my %cgroups = cgroup_folders(slurp("/proc/$program/cgroup") // '', $id, $cgroup, $CGROUPS);
  open my $list, '>', "$folder/cgroups" or die "$folder/cgroups cannot be written: $!\n";
  print $list map { "$_ $cgroups{$_}\n" } sort keys %cgroups;
  close $list or die "$folder/cgroups cannot be written: $!\n";
  await_program($program);
  answer("started $program");
  my $status = keep($program, $end, $frames, $sink, \%source, { out => $out, err => $err }, $turns, open_kills(%cgroups));
  until (write_down($exit, $status) && rename "$files.exit.new", "$files.exit") {
    # Somebody who removed the container's files waits for no end.
    last if !-e "$files.exit.new";
    sleep_for($UNWRITTEN_PAUSE_S);
  }
}

# False when the file does not hold the text.
sub write_down {
  my ($file, $text) = @_;
  return sysseek($file, 0, 0) && (syswrite($file, $text) // 0) == length $text && truncate $file, length $text;
}

# Passes bytes on until the program has ended and its output was written; returns what `.exit` holds.
sub keep {
  my ($program, $end, $frames, $sink, $source, $file, $turns, $kills) = @_;
  my ($unread, $to_pass, $kill_count, $status, $drained_at) = ('', '', 0);
  my $turn = 'out';
  # Of version 2 the file is watched: a manager may remove the cgroup as soon as the program has ended.
  my $look_at_kills = sub {
    my $count = defined $kills ? count_kills($kills) : 0;
    if (defined $count) { $kill_count = $count }
    else { undef $kills }
  };
  $look_at_kills->();
  unblock($_) for grep { defined } $sink, values %$source;
  my $is_bounded = can_have_holes("$files.stdout");
  while (1) {
    return $status if defined $status && (!%$source || now() >= $drained_at);
    my ($readers, $writers, $changes) = ('', '', '');
    vec($changes, fileno $kills, 1) = 1 if defined $kills;
    vec($readers, fileno $end, 1) = 1 if !defined $status;
    vec($readers, fileno $frames, 1) = 1 if defined $frames && length $unread < $ATOMIC_BYTES;
    my @full;
    if ($is_bounded && !defined $status) {
      @full = grep { waiting_bytes($file->{$_}) >= $MAX_WAITING_BYTES } keys %$source;
      @full = keys %$source if waiting_bytes($turns) >= $MAX_WAITING_BYTES;
    }
    vec($readers, fileno $_, 1) = 1 for values %$source;
    vec($readers, fileno $source->{$_}, 1) = 0 for @full;
    vec($writers, fileno $sink, 1) = 1 if defined $sink && $to_pass ne '';
    my $wait = defined $drained_at ? $drained_at - now() : @full ? $FULL_PAUSE_S : undef;
    next if select($readers, $writers, $changes, defined $wait && $wait < 0 ? 0 : $wait) < 0;
    $look_at_kills->() if defined $kills && vec($changes, fileno $kills, 1);
    # What is there of both may be of any order.
    for my $name (sort { ($b eq $turn) <=> ($a eq $turn) } keys %$source) {
      next if !vec($readers, fileno $source->{$name}, 1);
      my $piece;
      my $length = sysread $source->{$name}, $piece, $PIECE_BYTES;
      # A terminal that nobody has any more gives an error.
      if ($length) {
        # Before the bytes: who sees them can know their order.
        write_all($turns, pack 'a x7 Q<', $turn, -s $file->{$turn}) if $name ne $turn;
        $turn = $name;
        write_all($file->{$name}, $piece);
      }
      elsif (defined $length || $! != $EAGAIN && $! != $EINTR) { delete $source->{$name} }
    }
    # Others whose parents ended became ours too.
    while ((my $ended = waitpid -1, $WNOHANG) > 0) {
      next if $ended != $program;
      my $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
      $look_at_kills->();
      $status = "$code " . ($kill_count > 0 ? 1 : 0);
      undef $kills;
      # What it left behind in its cgroup ends with it.
      system { $crun[0] } @crun, 'delete', '--force', $id;
      $drained_at = now() + $DRAIN_S;
    }
    sysread $frames, $unread, $ATOMIC_BYTES, length $unread if defined $frames && vec($readers, fileno $frames, 1);
    if (defined $sink && vec($writers, fileno $sink, 1)) {
      my $written = syswrite $sink, $to_pass;
      if (defined $written) { substr $to_pass, 0, $written, '' }
      elsif ($! != $EAGAIN && $! != $EINTR) { ($to_pass, $sink) = ('', undef) }
    }
    while ($to_pass eq '' && length $unread >= 5) {
      my ($letter, $size) = unpack 'a N', $unread;
      last if length $unread < 5 + $size;
      my $bytes = substr $unread, 5, $size;
      substr $unread, 0, 5 + $size, '';
      if ($letter eq 'i') { $to_pass = $bytes if defined $sink && $has_stdin }
      elsif ($letter eq 'w') { set_size($sink, split / /, $bytes) if $has_tty && defined $sink }
      elsif ($letter eq 'e' && $stdin_once && defined $sink) {
        # A terminal is told by its character for that (EOF, termios(3)).
        if ($has_tty) { $to_pass = "\x04" }
        else { close $sink; undef $sink }
      }
    }
  }
}

# Whether the room of a part of the file can be given back: a file system that cannot would never have any again. There
# is nothing yet where it tries.
sub can_have_holes {
  return system('fallocate', '--punch-hole', '--offset', $MAX_WAITING_BYTES * 1024, '--length', 4096, $_[0]) == 0;
}

# Of a file, from where its room was not given back.
sub waiting_bytes {
  my ($file) = @_;
  my $begin = sysseek $file, 0, $SEEK_DATA;
  return defined $begin ? (-s $file) - $begin : 0;
}
