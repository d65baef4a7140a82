# Runs a command in a container for a client. node.pl, step.pl, terminal.pl and run_program.pl stand before it; step.pl
# tells how it is asked and how it answers.
#
# $stdio: `none` for an empty stdin, `pipe` for one that is sent, `tty` for a terminal. $process: crun's file that says
# what is run (--process), with the command's environment; it goes as soon as it was read. $folder: where our own
# files of this command begin.
my ($stdio, $timeout_ms, $max_output, $process, $socket, $id, @crun) = @request;

become_subreaper() or fail('node', "no subreaper can be made: $!");
my ($null, $stdin, $stdout, $stderr, $sink, %source, $console);
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
  1;
} or fail('node', "$@");
my $runs = run_crun($stdin, $stdout, $stderr, @crun, @exec, $id);
my $words = $runs ? '' : last_words("$process.log");
my $terminal = $runs && $console ? take_handed_over($console, $socket) : undef;
my $child = $runs ? id_in("$process.pid") : undef;
unlink $process, map { "$process.$_" } qw(log pid);
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

# Those that kill_all of step.pl looks for.
sub children_of {
  my ($process) = @_;
  opendir my $threads, "/proc/$process/task" or return;
  return map { split ' ', slurp("/proc/$process/task/$_/children") // '' } grep { /\d/ } readdir $threads;
}
