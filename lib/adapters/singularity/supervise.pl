# Runs a container and stays until it has ended: it empties the program's stdout and stderr into files, passes input on,
# and writes down how it ended. It outlives the server. node.pl, terminal.pl, run_program.pl and cgroups.pl stand before
# it.
#
# argv: the beginning of the paths of the container's files; 1 or 0 for each of: it has stdin, its stdin ends with the
# first client that ends it, it has a terminal; the folder in which crun leaves its files; where a socket can be made
# for the terminal; where the container's cgroup lies, or nothing when a manager of cgroups decides; the container's id,
# and crun's words before the verb: its name, `--root`, the folder of what it knows, and others.
#
# It answers on stdout: `started PID`, or `failed WHY`. A start is given up when this process is killed that was asked
# for it, or when it takes too long. The files:
#   .stdout, .stderr   what the program wrote; .stdout is locked as long as this program lives (flock(2))
#   .turns             in which order: each time when it goes from one to the other, the letter of the one that is left
#                      (o or e), seven bytes of 0, and how long that is by then (64 bit, little-endian)
#   .exit              `CODE KILLED`, when it has ended and all of its output is written: 128 + n when signal n ended
#                      it, and whether memory was the reason; `128 0 WHY` when it could not be started
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
# A loaded node may need much longer than the usual tenth of a second for a start. A kubelet waits for two minutes.
my $START_S = 90;
# How often, and how many times, it is tried to end what is left of a container: for a second.
my ($LEFT_PAUSE_S, $LEFT_TRIES) = (0.02, 50);
# Where they are mounted.
my $CGROUPS = '/sys/fs/cgroup';
# Of one in `.turns`.
my $TURN_BYTES = 16;
# Of lseek(2).
my $SEEK_DATA = 3;
# Of flock(2).
my $LOCK_EX = 2;

close_inherited();
my ($answer, $to_answer) = pipe_pair();
# It tells that our caller is gone.
my ($lifeline, $held) = pipe_pair();
my $own = fork // die "no process can be made: $!\n";
if ($own != 0) {
  close $to_answer;
  close $lifeline;
  # Whoever ends the server means no start that is under way.
  $SIG{$_} = 'IGNORE' for qw(TERM INT HUP);
  local $/;
  print readline $answer;
  exit 0;
}
close $answer;
close $held;
leave_streams();
# Open until this program ends, and with it the lock on the output.
my ($exit, $out, $has_started);
my ($setns, $prctl, $setsid) = @{ $CALLS{ machine() } || answer("failed this machine type is not known") };
syscall($setsid);
$0 = "multicri: container $id";
$SIG{$_} = 'IGNORE' for qw(TERM INT HUP QUIT USR1 USR2 PIPE);
become_subreaper() or answer("failed no subreaper can be made: $!");
eval { supervise(); 1 } or do {
  my $why = $@;
  end_children();
  system { $crun[0] } @crun, 'delete', '--force', $id;
  $why =~ s/\s+$//;
  # Whoever asked for it may be gone, and be followed by one that asks how it ended.
  tell_end("128 0 $why") if defined $exit && !$has_started;
  answer("failed $why");
};
exit 0;

# Whoever waits for the end of our caller's streams must not wait for us.
sub leave_streams {
  open STDIN, '<', '/dev/null';
  open STDOUT, '>', '/dev/null';
  open STDERR, '>', '/dev/null';
}

# False when nobody waits for it any more.
sub answer {
  my ($text) = @_;
  $text =~ s/\s+$//;
  my $is_told = defined syswrite $to_answer, $text;
  close $to_answer;
  exit 0 if $text =~ /^failed/;
  return $is_told;
}

sub supervise {
  my $starter = "$folder/starter";
  open my $number, '>', $starter or die "$starter cannot be written: $!\n";
  print $number getppid;
  close $number or die "$starter cannot be written: $!\n";
  sysopen my $frames, "$folder/input", $O_RDWR | $O_NONBLOCK or die "its pipe for input cannot be opened: $!\n"
    if $has_stdin || $has_tty;
  open $out, '>>', "$files.stdout" or die "$files.stdout cannot be written: $!\n";
  flock $out, $LOCK_EX or die "its output cannot be locked: $!\n";
  open my $err, '>>', "$files.stderr" or die "$files.stderr cannot be written: $!\n";
  open my $turns, '>>', "$files.turns" or die "$files.turns cannot be written: $!\n";
  # The disk may be full when it ends: what tells that has its room from now on.
  open my $roomy, '+>', "$files.exit.new" or die "$files.exit.new cannot be written: $!\n";
  write_down($roomy, '255 0') or die "$files.exit.new cannot be written: $!\n";
  $exit = $roomy;
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
  await_crun(start_crun($stdin, $stdout, $stderr, @crun, @run, $id));
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
  unlink $starter;
  answer("started $program") or die "its start was given up\n";
  $has_started = 1;
  close $lifeline;
  tell_end(keep($program, $end, $frames, $sink, \%source, { out => $out, err => $err }, $turns, \%cgroups));
}

# Waits until crun has started the program, which a hook or a file system can hold for ever.
sub await_crun {
  my ($crun) = @_;
  my $end = end_of($crun) // die "crun cannot be watched: $!\n";
  my $until = now() + $START_S;
  my $ready;
  while (1) {
    my $left = $until - now();
    die "crun did not start it within $START_S s\n" if $left <= 0;
    $ready = '';
    vec($ready, fileno $_, 1) = 1 for $end, $lifeline;
    last if select($ready, undef, undef, $left) > 0;
  }
  die "its start was given up\n" if !vec($ready, fileno $end, 1);
  waitpid $crun, 0;
  die last_words("$folder/log") . "\n" if $? != 0;
}

# Ends crun and what it began; whatever loses its parent becomes ours, so that there is no other way out.
sub end_children {
  for (my $left = $LEFT_TRIES; $left > 0; $left--) {
    kill 'KILL', grep { (slurp("/proc/$_/stat") // '') =~ /^.*\) \S $$ /s } map { m{(\d+)$} } glob '/proc/[0-9]*';
    my $ended;
    do { $ended = waitpid -1, $WNOHANG } while $ended > 0;
    return if $ended < 0;
    sleep_for($LEFT_PAUSE_S);
  }
}

# Ends what the program left behind in its cgroup; that is crun's to do, unless somebody removed what it knows.
sub end_left {
  my ($cgroups) = @_;
  my $is_known = -e "$crun[2]/$id";
  system { $crun[0] } @crun, 'delete', '--force', $id;
  return if $is_known;
  my @folders = every_folder($CGROUPS, %$cgroups);
  for (my $left = $LEFT_TRIES; $left > 0 && grep { -d } @folders; $left--) {
    end_cgroup($_) for @folders;
    sleep_for($LEFT_PAUSE_S);
  }
}

sub tell_end {
  my ($text) = @_;
  until (write_down($exit, $text) && rename "$files.exit.new", "$files.exit") {
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
  my ($program, $end, $frames, $sink, $source, $file, $turns, $cgroups) = @_;
  my $kills = open_kills(%$cgroups);
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
    # What is there of both may be of any order; most programs write of what failed last.
    for my $name (sort { $b cmp $a } keys %$source) {
      next if !vec($readers, fileno $source->{$name}, 1);
      my $piece;
      my $length = sysread $source->{$name}, $piece, $PIECE_BYTES;
      # A terminal that nobody has any more gives an error.
      if ($length) {
        # Before the bytes: who sees them can know their order.
        write_turn($turns, $turn, -s $file->{$turn}) if $name ne $turn;
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
      end_left($cgroups);
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

# One that a full disk tears must not shift those behind it.
sub write_turn {
  my ($turns, $name, $length) = @_;
  write_all($turns, pack 'a x7 Q<', $name, $length);
  my $torn = (-s $turns) % $TURN_BYTES;
  truncate $turns, (-s $turns) - $torn if $torn;
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
