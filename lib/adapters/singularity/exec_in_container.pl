# Runs a command in a container for a client. node.pl, step.pl, terminal.pl and run_program.pl stand before it; step.pl
# tells how it is asked and how it answers.
#
# $stdio: `none` for an empty stdin, `pipe` for one that is sent, `tty` for a terminal. $process: crun's file that says
# what is run (--process), with the command's environment; it goes as soon as it was read. $oom_score: how readily the
# kernel kills it for memory.
my ($stdio, $timeout_ms, $max_output, $process, $oom_score, $socket, $id, @crun) = @request;

become_subreaper() or fail('node', "no subreaper can be made: $!");
my ($null, $stdin, $stdout, $stderr, $sink, %source, $console, $starting);
open $null, '+<', '/dev/null' or fail('node', "/dev/null cannot be opened: $!");
($stdin, $stdout, $stderr) = ($null, $null, $null);
my @exec = ('--log', "$process.log", 'exec', '--detach', '--process', $process, '--pid-file', "$process.pid");
eval {
  if ($stdio eq 'tty') {
    $console = listen_for_terminal($socket);
    push @exec, '--tty', '--console-socket', $socket;
  } else {
    ($source{o}, $stdout) = pipe_pair();
    ($source{e}, $stderr) = pipe_pair();
    ($stdin, $sink) = pipe_pair() if $stdio eq 'pipe';
  }
  # crun sets that of a container alone; a command has its parent's (proc_pid_oom_score_adj(5)).
  my $own_score = slurp('/proc/self/oom_score_adj');
  set_oom_score($oom_score);
  $starting = start_crun($stdin, $stdout, $stderr, @crun, @exec, $id);
  set_oom_score($own_score);
  1;
} or fail('node', "$@");
my $runs = starts($starting);
my $words = $runs ? '' : last_words("$process.log");
my $terminal = $runs && $console ? take_handed_over($console, $socket) : undef;
my $child = $runs ? id_in("$process.pid") : undef;
remove_files();
fail('command', $words) if !$runs;
fail('node', 'its process id is not known') if !defined $child;
close $_ for grep { $_ != $null } $stdin, $stdout, $stderr;
if ($stdio eq 'tty') {
  fail('node', 'its terminal was not handed over') if !defined $terminal;
  $source{o} = $sink = $terminal;
  $resize = sub { set_size($terminal, @_) };
  $resize->(@size) if @size;
}
frame('s', '');
relay(
  child => $child, timeout_ms => $timeout_ms, max_output => $max_output || undef, sources => \%source, sink => $sink,
  end_input => $stdio eq 'tty' ? sub { } : sub { close $_[0] },
);

# Waits until crun has left; true when the command runs. A container that is frozen, or whose image does not answer,
# holds crun: it may take as long as the command, and not longer than somebody waits.
sub starts {
  my ($crun) = @_;
  my $end = end_of($crun) // give_up('f', "node its start cannot be watched: $!");
  my $deadline = $timeout_ms ? now() + $timeout_ms / 1000 : undef;
  while (waitpid($crun, $WNOHANG) != $crun) {
    my $readers = '';
    vec($readers, fileno $_, 1) = 1 for $end, *STDIN;
    my $count = select $readers, undef, undef, defined $deadline ? pause($timeout_ms / 1000, $deadline) : undef;
    give_up('c', '') if $count > 0 && vec($readers, fileno STDIN, 1) && !take_input();
    give_up('t', '') if defined $deadline && now() >= $deadline;
  }
  return $? == 0;
}

# The kernel may forbid it (CAP_SYS_RESOURCE); the command runs all the same.
sub set_oom_score {
  my ($score) = @_;
  open my $file, '>', '/proc/self/oom_score_adj' or return;
  syswrite $file, $score;
}

sub give_up {
  my ($letter, $text) = @_;
  kill_all(children_of($$));
  remove_files();
  frame($letter, $text);
  finish();
}

sub remove_files {
  unlink $process, $socket, map { "$process.$_" } qw(log pid);
}

# Those that kill_all of step.pl looks for.
sub children_of {
  my ($process) = @_;
  opendir my $threads, "/proc/$process/task" or return;
  return map { split ' ', slurp("/proc/$process/task/$_/children") // '' } grep { /\d/ } readdir $threads;
}
