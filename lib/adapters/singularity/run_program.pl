# How a program is run in a container by crun(1) so that this process, which is not its parent, sees its end: crun
# leaves as soon as the program runs, and what it leaves behind becomes ours. node.pl and terminal.pl stand before it.

# By machine as in node.pl: the number of recvmsg(2). pidfd_open(2) has one number everywhere.
my %RECVMSG = (62 => 47, 183 => 212, 243 => 212, 21 => 342, 22 => 372);
my $PIDFD_OPEN = 434;
my $PR_SET_CHILD_SUBREAPER = 36;
my ($AF_UNIX, $STREAM) = (1, 1);
# What crun says at most of why it failed.
my $WORDS_BYTES = 4096;
# A process that has executed nothing since its parent made it (sched.h of the kernel).
my $PF_FORKNOEXEC = 0x40;
# How often it is looked whether a program has begun, and how many times: for ten seconds.
my ($BEGIN_LOOK_S, $BEGIN_TRIES) = (0.001, 10_000);

sub become_subreaper {
  my (undef, $prctl) = @{ $CALLS{ machine() } || return };
  return syscall($prctl, $PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0;
}

# Starts crun with its files; returns its process id. What it says goes to the file that --log names.
sub start_crun {
  my ($stdin, $stdout, $stderr, @crun) = @_;
  my $child = fork // die "no process can be made: $!\n";
  if ($child == 0) {
    open STDIN, '<&', $stdin;
    open STDOUT, '>&', $stdout;
    open STDERR, '>&', $stderr;
    $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP QUIT USR1 USR2 PIPE CHLD);
    no warnings 'exec';
    exec { $crun[0] } @crun;
    exit 127;
  }
  return $child;
}

# Waits until the process is the program and no longer crun, which executes nothing before: a signal that came then
# would be lost, since the kernel drops what the first process of a namespace does not handle (pid_namespaces(7)). One
# that has ended is waited for no more.
sub await_program {
  my ($process) = @_;
  for (my $left = $BEGIN_TRIES; $left > 0; $left--) {
    # Behind the name, which may hold anything (proc_pid_stat(5)).
    my ($state, $flags) = (slurp("/proc/$process/stat") // '') =~ /^.*\) (\S)(?: \S+){5} (\d+)/s;
    return if !defined $flags || $state eq 'Z' || !($flags & $PF_FORKNOEXEC);
    sleep_for($BEGIN_LOOK_S);
  }
}

# What crun wrote into its log, on one line.
sub last_words {
  my ($log) = @_;
  my $words = substr slurp($log) // '', 0, $WORDS_BYTES;
  $words =~ s/^\S+: //mg if $words =~ /^\d{4}-\S+Z: /m;
  $words =~ s/\s*\n\s*/; /g;
  $words =~ s/[;\s]+$//;
  return $words if $words ne '';
  # On a full disk it cannot.
  my $file;
  open $file, '>>', $log and defined syswrite $file, "\n" or return "$log cannot be written: $!";
  return 'crun did not say why';
}

# A socket on which crun hands over the terminal that it made (--console-socket).
sub listen_for_terminal {
  my ($path) = @_;
  unlink $path;
  my $socket;
  socket($socket, $AF_UNIX, $STREAM, 0) && bind($socket, pack 'S a108', $AF_UNIX, $path) && listen($socket, 1)
    or die "no socket can be made at $path for its terminal: $!\n";
  return $socket;
}

# Our side of the terminal (SCM_RIGHTS, unix(7); struct msghdr, recvmsg(2)), which crun sends before it leaves.
sub take_handed_over {
  my ($socket, $path) = @_;
  unblock($socket);
  accept(my $from, $socket) or return;
  unblock($from);
  unlink $path;
  my ($text, $control) = ("\0" x 64, "\0" x 64);
  my $piece = pack 'P Q', $text, 64;
  my $message = pack 'Q L x4 P Q P Q l x4', 0, 0, $piece, 1, $control, 64, 0;
  return if syscall($RECVMSG{ machine() } // return, fileno $from, $message, 0) < 1;
  my ($length, $level, $type, $number) = unpack 'Q l l l', $control;
  return if $length < 20 || $level != 1 || $type != 1;
  open my $terminal, '+<&=', $number or return;
  return $terminal;
}

# The process id that crun wrote.
sub id_in {
  my ($path) = @_;
  my ($id) = (slurp($path) // '') =~ /^(\d+)/;
  return $id;
}

# A file that can be read from when the process has ended.
sub end_of {
  my ($process) = @_;
  # A string would be passed as its address.
  my $number = syscall $PIDFD_OPEN, $process + 0, 0;
  return if $number < 0;
  open my $end, '<&=', $number or return;
  return $end;
}

sub pipe_pair {
  pipe my $from, my $to or die "no pipe can be made: $!\n";
  return ($from, $to);
}

sub write_all {
  my ($file, $bytes) = @_;
  while ($bytes ne '') {
    my $written = syswrite $file, $bytes;
    if (defined $written) { substr $bytes, 0, $written, '' }
    elsif ($! != $EINTR) { return }
  }
}
