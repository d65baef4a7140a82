# Tells what containers use: for each list of cgroups that its arguments name (supervise.pl leaves them), lines of its
# place among them, the name of a file there, and a line of that. node.pl stands before it.
my %FILES = (
  unified => [
    qw(memory.current memory.peak memory.swap.current memory.swap.max memory.events memory.stat cpu.stat pids.current
      pids.max cpu.pressure memory.pressure io.pressure)
  ],
  memory => [
    qw(memory.usage_in_bytes memory.max_usage_in_bytes memory.failcnt memory.kmem.usage_in_bytes memory.stat)
  ],
  cpuacct => [qw(cpuacct.usage cpuacct.usage_user cpuacct.usage_sys)],
  cpu => [qw(cpu.stat)],
  pids => [qw(pids.current pids.max)],
);

for my $index (0 .. $#ARGV) {
  for (split /\n/, slurp($ARGV[$index]) // '') {
    my ($kind, $folder) = split / /, $_, 2;
    for my $name (@{ $FILES{$kind} // [] }) {
      print "$index $name $_\n" for split /\n/, slurp("$folder/$name") // '';
    }
    next if $kind ne 'unified' && $kind ne 'pids';
    my $processes = () = (slurp("$folder/cgroup.procs") // next) =~ /\n/g;
    print "$index processes $processes\n";
  }
}
