# Where the kernel keeps the counts of a container's processes (cgroups(7)). node.pl stands before it.

# The folders of the container's cgroups by controllers; version 2, which has one for all, counts as `unified`. Which
# they are, /proc tells of its first process ($told), because a manager such as systemd puts its own names in between.
# Of one that has ended it may tell the root's; then it is where crun was told ($asked, a path, or nothing when a
# manager decides). $root: where cgroups are mounted.
sub cgroup_folders {
  my ($told, $id, $asked, $root) = @_;
  my $is_unified = -e "$root/cgroup.controllers";
  my %folder;
  for (split /\n/, $told) {
    my (undef, $controllers, $path) = split /:/, $_, 3;
    next if index($path // '', $id) < 0;
    if ($controllers ne '') { $folder{$_} = "$root/$_$path" for split /,/, $controllers }
    elsif ($is_unified) { $folder{unified} = "$root$path" }
  }
  return %folder if %folder || $asked eq '';
  return (unified => "$root$asked") if $is_unified;
  return map { $_ => "$root/$_$asked" } qw(memory cpuacct pids);
}

# The file that counts the processes that were killed for memory; nothing where there is none.
sub open_kills {
  my (%folder) = @_;
  my $path = exists $folder{unified} ? "$folder{unified}/memory.events" : ($folder{memory} // '') . '/memory.oom_control';
  open my $file, '<', $path or return;
  return $file;
}

# How many there were; nothing when the file is gone.
sub count_kills {
  my ($file) = @_;
  sysseek $file, 0, 0;
  sysread($file, my $text, $PIECE_BYTES) or return;
  my ($count) = $text =~ /^oom_kill (\d+)/m;
  return $count // 0;
}

# The folders of the container's cgroups in every hierarchy ($root: where they are mounted), also in those that count
# nothing and keep processes only.
sub every_folder {
  my ($root, %folder) = @_;
  return values %folder if exists $folder{unified} || !%folder;
  my ($path) = map { substr $_, length $root } values %folder;
  $path =~ s{^/[^/]+}{};
  opendir my $list, $root or return;
  return grep { -d } map { "$root/$_$path" } grep { !/^\./ } readdir $list;
}

# Kills what is in a cgroup, and removes it once nothing is. Processes of other namespaces are listed as 0.
sub end_cgroup {
  my ($folder) = @_;
  opendir my $list, $folder or return;
  end_cgroup("$folder/$_") for grep { !/^\.\.?$/ && -d "$folder/$_" && !-l "$folder/$_" } readdir $list;
  kill 'KILL', grep { $_ > 0 } split ' ', slurp("$folder/cgroup.procs") // '';
  rmdir $folder;
}
