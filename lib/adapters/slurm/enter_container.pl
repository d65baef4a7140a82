# Runs one command in a running container, from a job step on the container's node, as the job's user.
#
# Core Perl without a module, because that is all a compute node is sure to have, and because only a process that
# joins the namespaces by itself can hand over an exact environment: nsenter(1) would have to be started with the
# container's LD_PRELOAD, or with secrets in its argv.
#
# stdin: the length of the request in bytes, a newline, the request: NUL-ended fields (see `encodeRequest` in
# exec_frames.ts). After it nothing is read: when stdin ends, nobody waits any more, and the command is killed.
# stdout: the nonce of the request, then frames of a letter, a length (4 bytes, big endian) and that many bytes:
#   s              the command runs
#   o, e           a piece of its stdout, of its stderr
#   x CODE         it ended; 128 + n when signal n ended it
#   t              it ran longer than it may and was killed
#   c              nobody waited any more, and it was killed
#   f KIND TEXT    it does not run; KIND is one of starting, ended, setuid, command, node
# The exit code is always 0, so that srun has nothing to say about it.
use strict;
use warnings;

# Of a read from the command, and of its pieces on the way.
my $PIECE_BYTES = 65536;
# A pipe that is writable takes this much without blocking (PIPE_BUF, pipe(7)).
my $ATOMIC_BYTES = 4096;
# A signal may come just before select() sleeps; then this is how late it is seen. A command closes its streams
# just before it ends, so the first sleeps after that are short.
my ($SHORTEST_SLEEP_S, $LONGEST_SLEEP_S) = (0.001, 0.1);
# What the command left in the background may hold its stdout open; its answer does not wait longer for it.
my $DRAIN_S = 1;
# How often the container is looked for while it starts.
my $LOOK_S = 0.05;
# The numbers of setns(2) and prctl(2) by machine, as the header of an ELF file names it (e_machine, elf(5)).
my %CALLS = (62 => [308, 157], 183 => [268, 167], 243 => [268, 167], 21 => [350, 171], 22 => [339, 172]);
my ($PR_SET_PDEATHSIG, $PR_CAPBSET_DROP, $PR_SET_NO_NEW_PRIVS) = (1, 24, 38);
my ($SIGKILL, $EINTR, $WNOHANG) = (9, 4, 1);

$SIG{PIPE} = 'IGNORE';
binmode STDIN;
binmode STDOUT;

close_inherited();
my ($nonce, $directory, $job, $cwd, $timeout_ms, $wait_ms, $max_output, @argv) = read_request();
my $output = $nonce;
my ($appinit, $program) = find_container();
my ($setns, $prctl) = @{ $CALLS{ machine() } || fail('node', 'what its machine type calls setns(2) is not known') };
my %environment = read_environment();
run_command();

# A file of Slurm's or of the login host's is nothing for a container.
sub close_inherited {
  opendir my $list, '/proc/self/fd' or return;
  my @numbers = grep { /^\d+$/ && $_ > 2 } readdir $list;
  closedir $list;
  for my $number (@numbers) {
    open my $file, '<&=', $number or next;
    close $file;
  }
}

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
  fail('setuid', 'the container runtime there is installed setuid and makes no user namespace');
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
  open my $nothing, '<', '/dev/null' or fail('node', "/dev/null cannot be opened there: $!");
  pipe my $from_stdout, my $to_stdout or fail('node', "no pipe can be made there: $!");
  pipe my $from_stderr, my $to_stderr or fail('node', "no pipe can be made there: $!");
  pipe my $from_start, my $to_start or fail('node', "no pipe can be made there: $!");
  for my $kind (qw(user pid)) {
    join_namespace($namespace{$kind}) or fail('node', "its $kind namespace cannot be joined there: $!");
  }
  my $child = fork // fail('node', "no process can be made there: $!");
  if ($child == 0) {
    become_command($root, $status, [@namespace{qw(ipc uts net cgroup mnt)}], [$nothing, $to_stdout, $to_stderr],
      $to_start);
  }
  close $_ for $to_stdout, $to_stderr, $to_start, values %namespace, $root;
  my $refusal = join '', readline $from_start;
  if ($refusal ne '') {
    waitpid $child, 0;
    fail(split / /, $refusal, 2);
  }
  frame('s', '');
  supervise($child, $from_stdout, $from_stderr);
}

sub join_namespace {
  my ($file) = @_;
  return !defined $file || syscall($setns, fileno $file, 0) == 0;
}

# In the new process: does not return. What cannot be done goes to $to_start, which closes when the command begins.
sub become_command {
  my ($root, $status, $namespaces, $stdio, $to_start) = @_;
  my $refuse = sub { syswrite $to_start, join ' ', @_; exit };
  setpgrp 0, 0;
  umask 022;
  for (@$namespaces) { join_namespace($_) or $refuse->('node', "a namespace of it cannot be joined there: $!") }
  chdir $root && chroot '.' or $refuse->('node', "its root cannot be entered there: $!");
  chdir $cwd or $refuse->('command', "its working directory $cwd cannot be entered: $!");
  drop_rights($status);
  # The command ends with this supervisor, however that ends.
  syscall($prctl, $PR_SET_PDEATHSIG, $SIGKILL, 0, 0, 0);
  open STDIN, '<&', $stdio->[0];
  open STDOUT, '>&', $stdio->[1];
  open STDERR, '>&', $stdio->[2];
  $SIG{$_} = 'DEFAULT' for qw(PIPE CHLD TERM);
  %ENV = %environment;
  my $name = $argv[0];
  my @candidates = $name =~ m{/} ? $name : map { ($_ eq '' ? '.' : $_) . "/$name" } split /:/, $ENV{PATH} // '', -1;
  my ($path) = grep { -f $_ && -x _ } @candidates;
  my $unknown = -e $name ? 'it is no executable file' : 'there is no such file';
  $refuse->('command', $name =~ m{/} ? $unknown : 'it is not in PATH, ' . ($ENV{PATH} // 'which is not set'))
    if !defined $path;
  no warnings 'exec';
  exec { $path } @argv;
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

# Passes on what the command writes until it ends, its time is over, or nobody waits any more.
sub supervise {
  my ($child, $from_stdout, $from_stderr) = @_;
  my $deadline = $timeout_ms > 0 ? now() + $timeout_ms / 1000 : undef;
  my %source = (o => $from_stdout, e => $from_stderr);
  my ($left, $code, $drained_at, $terminated) = ($max_output);
  my $nap = $SHORTEST_SLEEP_S;
  $SIG{CHLD} = sub { };
  $SIG{TERM} = sub { $terminated = 1 };
  while (1) {
    if (!defined $code && waitpid($child, $WNOHANG) == $child) {
      $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
      $drained_at = now() + $DRAIN_S;
    }
    last if defined $code && (!%source || now() >= $drained_at);
    my $why = $terminated ? 'c' : !defined $code && defined $deadline && now() >= $deadline ? 't' : undef;
    my ($readers, $writers) = ('', '');
    vec($readers, fileno STDIN, 1) = 1;
    if ($output ne '') {
      vec($writers, fileno STDOUT, 1) = 1;
    } else {
      vec($readers, fileno $_, 1) = 1 for values %source;
    }
    my $sleep = pause(%source ? $LONGEST_SLEEP_S : $nap, $deadline, $drained_at);
    $nap *= 2 if !%source && $nap < $LONGEST_SLEEP_S;
    if (!defined $why && select($readers, $writers, undef, $sleep) > 0) {
      my $ignored;
      $why = 'c' if vec($readers, fileno STDIN, 1) && !sysread STDIN, $ignored, $ATOMIC_BYTES;
      $why = 'c' if vec($writers, fileno STDOUT, 1) && !write_some();
      for my $letter (keys %source) {
        next if !vec($readers, fileno $source{$letter}, 1);
        my $piece;
        if (!sysread $source{$letter}, $piece, $PIECE_BYTES) {
          delete $source{$letter};
        } elsif ($left > 0) {
          $piece = substr $piece, 0, $left;
          $left -= length $piece;
          frame($letter, $piece);
        }
      }
    }
    if (defined $why) {
      kill_all($child) if !defined $code;
      frame($why, '');
      finish();
    }
  }
  frame('x', $code);
  finish();
}

# How long to sleep: not longer than $longest, and not beyond any of the times.
sub pause {
  my ($longest, @times) = @_;
  my ($seconds) = sort { $a <=> $b } $longest, map { $_ - now() } grep { defined } @times;
  return $seconds > 0 ? $seconds : 0;
}

# Ends the command's process group, and what came of it in other groups as long as it can be traced.
sub kill_all {
  my ($child) = @_;
  # Stopped first, because what runs can make another child while it is looked for.
  my (%family, @found);
  for (@found = ($child); @found; @found = grep { !$family{$_} } map { children_of($_) } keys %family) {
    $family{$_} = 1 for @found;
    kill 'STOP', @found;
  }
  kill 'KILL', -$child, keys %family;
  waitpid $child, 0;
}

sub frame {
  my ($letter, $bytes) = @_;
  $output .= $letter . pack('N', length $bytes) . $bytes;
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

sub slurp {
  my ($path) = @_;
  open my $file, '<', $path or return undef;
  local $/;
  return scalar readline $file;
}

# Whether stdin has ended.
sub nobody_waits {
  my ($readers, $ignored) = ('');
  vec($readers, fileno STDIN, 1) = 1;
  return select($readers, undef, undef, 0) > 0 && !sysread STDIN, $ignored, $ATOMIC_BYTES;
}

sub abandon {
  frame('c', '');
  finish();
}

sub sleep_for {
  select undef, undef, undef, $_[0];
}

# The machine type of this node, as the file of this program tells it.
sub machine {
  open my $file, '<:raw', '/proc/self/exe' or return 0;
  read $file, my $header, 20;
  return unpack ord(substr $header, 5, 1) == 2 ? 'x18 n' : 'x18 v', $header;
}

# Seconds on a clock that nobody sets.
sub now {
  my ($seconds) = (slurp('/proc/uptime') // '') =~ /^(\S+)/;
  return $seconds // time;
}
