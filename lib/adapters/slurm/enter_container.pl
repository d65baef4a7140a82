# Runs one command in a running container, from a job step on the container's node, as the job's user. step.pl stands
# before it.
#
# Only a process that joins the namespaces by itself can hand over an exact environment: nsenter(1) would have to be
# started with the container's LD_PRELOAD, or with secrets in its argv.

# How often the container is looked for while it starts.
my $LOOK_S = 0.05;

# $stdio: `none` for an empty stdin, `pipe` for one that is sent, `tty` for a terminal.
my ($directory, $job, $cwd, $timeout_ms, $wait_ms, $max_output, $stdio, @argv) = @request;
my ($appinit, $program) = find_container();
my ($setns, $prctl, $setsid) = @{ $CALLS{ machine() } || fail('node', 'what its machine type calls setns(2) is not known') };
my %environment = read_environment();
run_command();

# The container's init process and its program, once both are there.
sub find_container {
  my $give_up = time + $wait_ms / 1000;
  while (1) {
    abandon() if nobody_waits();
    my @found = look_for_container();
    return @found if @found;
    fail('starting', 'its program is not there yet, or not any more') if time >= $give_up;
    sleep_for($LOOK_S);
  }
}

# The job wrote the process id of the Apptainer it started. Of its children the one in another pid namespace is the
# container's init process, and of that one's children the oldest is the program.
sub look_for_container {
  my $start = slurp("$directory/status/start");
  my ($parent) = ($start // '') =~ /^pid=(\d+)$/m or return;
  fail('ended', 'its processes are gone') if !is_of_job($parent);
  opendir my $status, "$directory/status" or return;
  fail('node', 'it is the ranks of an MPI job, each in a container of its own') if grep { /^ranks\./ } readdir $status;
  my $own = readlink '/proc/self/ns/pid';
  my $hidden = 0;
  for my $child (children_of($parent)) {
    my $namespace = readlink "/proc/$child/ns/pid";
    if (!defined $namespace) {
      $hidden ||= -e "/proc/$child";
      next;
    }
    next if $namespace eq $own;
    my $exe = readlink "/proc/$child/exe";
    my ($oldest) = sort { started($a) <=> started($b) } children_of($child);
    # Before it becomes the program it is a copy of the init process.
    my $exe_of_oldest = defined $oldest ? readlink "/proc/$oldest/exe" : undef;
    return if !defined $exe || !defined $exe_of_oldest || $exe_of_oldest eq $exe;
    fail_setuid() if $> != 0 && (readlink("/proc/$child/ns/user") // '') eq readlink '/proc/self/ns/user';
    return ($child, $oldest);
  }
  fail_setuid() if $hidden && (slurp("/proc/$parent/comm") // '') =~ /^starter/;
  return;
}

sub fail_setuid {
  fail('setuid', 'the container runtime there is installed setuid, so that nobody but root may enter its containers; '
    . 'where the kernel lets users make namespaces, export APPTAINER_USERNS=1 (SINGULARITY_USERNS=1) in CLUSTER_CONFIG');
}

# A process id may have been given to a process of somebody else since. The environment that Slurm gave to the
# batch script, which is the parent, names its job.
sub is_of_job {
  my ($process) = @_;
  my ($parent) = (slurp("/proc/$process/status") // '') =~ /^PPid:\s*(\d+)$/m or return 0;
  return ("\0" . (slurp("/proc/$parent/environ") // '')) =~ /\0SLURM_JOB_ID=\Q$job\E\0/;
}

# The children of all its threads: a Go program forks from any of them.
sub children_of {
  my ($process) = @_;
  opendir my $threads, "/proc/$process/task" or return;
  return map { split ' ', slurp("/proc/$process/task/$_/children") // '' } grep { /\d/ } readdir $threads;
}

# When a process started, in clock ticks; the name in the second field may hold blanks and parentheses.
sub started {
  my ($rest) = (slurp("/proc/$_[0]/stat") // '') =~ /.*\) (.*)/s;
  return defined $rest ? (split ' ', $rest)[19] : 9e99;
}

# What the program has, and above it, exactly as they were set, the variables of pod and image: a program may have
# replaced itself by another with a changed environment, or may have written its title over it.
sub read_environment {
  my %variables;
  for (split /\0/, slurp("/proc/$program/environ") // '') {
    $variables{$1} = $2 if /\A([^=]+)=(.*)\z/s;
  }
  my $file = slurp("$directory/env") // fail('node', "the file env in $directory cannot be read there");
  my $word = qr/(?:'[^']*'|\\')+/;
  pos($file) = 0;
  while ($file =~ /\Gexport APPTAINERENV_(\w+)=($word)\n/gc) {
    # Apptainer appends to this one.
    $variables{$1} = unquoted($2) if $1 ne 'LD_LIBRARY_PATH' || !exists $variables{$1};
  }
  if ($file =~ /\Gmulticri_argv_environment=\(/gc) {
    while ($file =~ /\G ?($word)/gc) {
      my ($name, $value) = split /=/, unquoted($1), 2;
      $variables{$name} = $value;
    }
  }
  return %variables;
}

sub unquoted {
  my ($word) = @_;
  $word =~ s/'([^']*)'|\\(')/$1 \/\/ $2/gse;
  return $word;
}

sub run_command {
  # Joined by this process too, in order to be allowed to: what it forks is then in the container's pid namespace.
  my %namespace;
  for my $kind (qw(user pid ipc uts net cgroup mnt)) {
    my $theirs = readlink "/proc/$appinit/ns/$kind";
    fail('ended', 'its processes are gone') if !defined $theirs;
    next if $theirs eq readlink "/proc/self/ns/$kind";
    open $namespace{$kind}, '<', "/proc/$appinit/ns/$kind"
      or fail('node', "its $kind namespace cannot be opened there: $!");
  }
  opendir my $root, "/proc/$appinit/root" or fail('ended', "its root cannot be opened: $!");
  my $status = slurp("/proc/$appinit/status") // fail('ended', 'its processes are gone');
  my $pipes = $stdio eq 'tty' ? terminal("/proc/$appinit/root") : pipes();
  pipe my $from_start, my $to_start or fail('node', "no pipe can be made there: $!");
  for my $kind (qw(user pid)) {
    join_namespace($namespace{$kind}) or fail('node', "its $kind namespace cannot be joined there: $!");
  }
  my $child = fork // fail('node', "no process can be made there: $!");
  if ($child == 0) {
    become_command($root, $status, [@namespace{qw(ipc uts net cgroup mnt)}], $pipes->{theirs}, $to_start);
  }
  close $_ for @{ $pipes->{theirs} }, $to_start, values %namespace, $root;
  my $refusal = join '', readline $from_start;
  if ($refusal ne '') {
    waitpid $child, 0;
    fail(split / /, $refusal, 2);
  }
  frame('s', '');
  relay(
    child => $child, timeout_ms => $timeout_ms, max_output => $max_output || undef,
    sink => $pipes->{sink}, end_input => $pipes->{end_input}, sources => $pipes->{sources},
  );
}

# The command's stdin, stdout and stderr, and our ends of them.
sub terminal {
  my ($root) = @_;
  my ($ours, $theirs) = open_terminal($root) or fail('node', "no terminal can be made there: $!");
  $resize = sub { set_size($ours, @_) };
  $resize->(@size) if @size;
  $environment{TERM} //= 'xterm';
  return { theirs => [$theirs, $theirs, $theirs], sources => { o => $ours }, sink => $ours, end_input => sub { } };
}

# As `terminal`, without one.
sub pipes {
  my $make = sub { pipe my $from, my $to or fail('node', "no pipe can be made there: $!"); return ($from, $to) };
  my ($from_stdin, $sink);
  if ($stdio eq 'none') {
    open $from_stdin, '<', '/dev/null' or fail('node', "/dev/null cannot be opened there: $!");
  } else {
    ($from_stdin, $sink) = $make->();
  }
  my ($from_stdout, $to_stdout) = $make->();
  my ($from_stderr, $to_stderr) = $make->();
  return {
    theirs => [$from_stdin, $to_stdout, $to_stderr],
    sources => { o => $from_stdout, e => $from_stderr },
    sink => $sink,
    end_input => sub { close $_[0] },
  };
}

sub join_namespace {
  my ($file) = @_;
  return !defined $file || syscall($setns, fileno $file, 0) == 0;
}

# In the new process: does not return. What cannot be done goes to $to_start, which closes when the command begins.
sub become_command {
  my ($root, $status, $namespaces, $files, $to_start) = @_;
  my $refuse = sub { syswrite $to_start, join ' ', @_; exit };
  if ($stdio eq 'tty') { take_terminal($setsid, $files->[0]) }
  else { setpgrp 0, 0 }
  umask 022;
  for (@$namespaces) { join_namespace($_) or $refuse->('node', "a namespace of it cannot be joined there: $!") }
  chdir $root && chroot '.' or $refuse->('node', "its root cannot be entered there: $!");
  chdir $cwd or $refuse->('command', "its working directory $cwd cannot be entered: $!");
  drop_rights($status);
  # The command ends with this supervisor, however that ends.
  syscall($prctl, $PR_SET_PDEATHSIG, $SIGKILL, 0, 0, 0);
  open STDIN, '<&', $files->[0];
  open STDOUT, '>&', $files->[1];
  open STDERR, '>&', $files->[2];
  $SIG{$_} = 'DEFAULT' for qw(PIPE CHLD TERM);
  %ENV = %environment;
  my $name = $argv[0];
  my @candidates = $name =~ m{/} ? $name : map { ($_ eq '' ? '.' : $_) . "/$name" } split /:/, $ENV{PATH} // '', -1;
  my ($path) = grep { -f $_ && -x _ } @candidates;
  my $unknown = -e $name ? 'it is no executable file' : 'there is no such file';
  $refuse->('command', $name =~ m{/} ? $unknown : 'it is not in PATH, ' . ($ENV{PATH} // 'which is not set'))
    if !defined $path;
  # The refusal tells it.
  local $^W = 0;
  { exec { $path } @argv }
  $refuse->('command', "$!");
}

# Nothing may gain rights that the program cannot gain either.
sub drop_rights {
  my ($status) = @_;
  my ($bounds) = $status =~ /^CapBnd:\s*([0-9a-f]{16})$/m;
  for my $capability (0 .. 63) {
    next if !defined $bounds || vec(scalar reverse(pack 'H16', $bounds), $capability, 1);
    syscall($prctl, $PR_CAPBSET_DROP, $capability, 0, 0, 0);
  }
  syscall($prctl, $PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) if $status =~ /^NoNewPrivs:\s*1$/m;
}

