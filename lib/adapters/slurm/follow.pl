# Follows a job from its own node, for clusters whose login host sees late what a node has written. node.pl and step.pl
# stand before it. It ends when its client goes or Slurm ends the job; what it has not told by then is in the files.

# How late output and status files are seen.
my $LOOK_S = 0.1;
# Slurm ends a job's steps with the job, and calls it completing until they have ended.
my $LAST_WORDS_S = 2;

# The offsets from which output is wanted, by the letters of its frames.
my ($directory, %from);
($directory, @from{qw(o e)}) = @request;
my %name = (o => 'stdout', e => 'stderr');
my %file;
# What was told last of status/start and status/exit.
my $told = "\0";
my $terminated;
$SIG{TERM} = sub { $terminated //= now() };
frame('s', '');
while (1) {
  # In this order: a job that runs again removes its exit file before it writes another start, and what a program
  # wrote is there before its exit file is.
  my $status = join "\0", map { slurp("$directory/status/$_") // '' } qw(start exit);
  my $idle = $output eq '' && !read_output();
  if ($idle && $status ne $told) {
    frame('b', $status);
    $told = $status;
    $idle = 0;
  }
  if (defined $terminated && ($idle || now() > $terminated + $LAST_WORDS_S)) {
    frame('x', 0) if $idle;
    finish() if $idle;
    exit 0;
  }
  my ($readers, $writers) = ('', '');
  vec($readers, fileno STDIN, 1) = 1;
  vec($writers, fileno STDOUT, 1) = 1 if $output ne '';
  next if select($readers, $writers, undef, $output ne '' || $idle ? $LOOK_S : 0) < 1;
  exit 0 if vec($readers, fileno STDIN, 1) && !take_input();
  exit 0 if vec($writers, fileno STDOUT, 1) && !write_some();
}

# True when there was something.
sub read_output {
  my $any = 0;
  for my $letter (sort keys %name) {
    if (!defined $file{$letter}) {
      open $file{$letter}, '<', "$directory/$name{$letter}" or undef $file{$letter};
      next if !defined $file{$letter};
      sysseek $file{$letter}, $from{$letter}, 0;
    }
    my $piece;
    my $length = sysread $file{$letter}, $piece, $PIECE_BYTES;
    # Such as of a file that its server replaced: the next step opens it anew, and the files are followed meanwhile.
    exit 0 if !defined $length && $! != $EINTR;
    next if !$length;
    frame($letter, $piece);
    $any = 1;
  }
  return $any;
}
