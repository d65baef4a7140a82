# Starts the first process of a pod's process namespace, which outlives the server. node.pl stands before it.
# argv: the pod's folder, in which `pid` is the file that the namespace is mounted on, and `pause` gets the process id
# of who waits for the first process; the program of that.
my ($folder, $program) = @ARGV;
# How often it is looked whether the namespace is there, and how many times: for ten seconds.
my ($LOOK_S, $TRIES) = (0.001, 10_000);
# A process id and a line break, at most.
my $ID_BYTES = 8;

close_inherited();
my (undef, undef, $setsid) = @{ $CALLS{ machine() } || die "this machine type is not known\n" };
# The disk may be full: a process of which no file tells must not be.
open my $file, '>', "$folder/pause" or die "$folder/pause cannot be written: $!\n";
(syswrite($file, "\n" x $ID_BYTES) // 0) == $ID_BYTES or die "$folder/pause cannot be written: $!\n";
pipe my $ready, my $to_ready or die "no pipe can be made: $!\n";
my $started = fork // die "no process can be made: $!\n";
if ($started == 0) {
  # Whoever waits for the end of our caller's streams must not wait for us.
  open STDIN, '<', '/dev/null';
  open STDOUT, '>&', $to_ready;
  open STDERR, '>', '/dev/null';
  syscall $setsid;
  exec 'unshare', "--pid=$folder/pid", '--fork', '--mount', '--kill-child', 'perl', '-e', $program, $folder;
  exit 1;
}
sysseek $file, 0, 0;
syswrite $file, $started;
close $file;
close $to_ready;
# Until then it has rights that containers could take from it.
sysread $ready, my $byte, 1 or give_up("its first process ended");
# unshare(1) mounts the namespace beside that.
for (1 .. $TRIES) {
  exit 0 if (stat "$folder/pid")[0] != (stat $folder)[0];
  sleep_for($LOOK_S);
}
give_up("its process namespace is not there");

sub give_up {
  kill 'KILL', $started;
  die "$_[0]\n";
}
