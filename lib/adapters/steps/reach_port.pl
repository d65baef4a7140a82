# Connects to a port of the network that it runs in. step.pl stands before it.
my ($AF_INET, $AF_INET6, $SOCK_STREAM, $SHUT_WR) = (2, 10, 1, 1);

# $by_name: 1 when the address of the node's name is tried too. In a network that is not the node's, that one is
# outside.
my ($port, $by_name) = @request;
my $socket = reach();
frame('s', '');
relay(sources => { o => $socket }, sink => $socket, end_input => sub { shutdown $_[0], $SHUT_WR });

# A program may listen on loopback alone, of either kind, or on the node's address alone (struct sockaddr_in, ip(7);
# struct sockaddr_in6, ipv6(7)).
sub reach {
  my $why;
  for my $addresses (\&loopbacks, $by_name ? \&named : ()) {
    for ($addresses->()) {
      my ($family, $address) = @$_;
      my $tried;
      return $tried if socket($tried, $family, $SOCK_STREAM, 0) && connect $tried, $address;
      $why //= "$!";
    }
  }
  fail('ended', "nothing there takes connections to the port $port: $why");
}

sub loopbacks {
  return (
    [ $AF_INET, pack 'S n a4 x8', $AF_INET, $port, "\x7f\0\0\1" ],
    [ $AF_INET6, pack 'S n N a16 N', $AF_INET6, $port, 0, "\0" x 15 . "\1", 0 ],
  );
}

sub named {
  my ($name) = (slurp('/proc/sys/kernel/hostname') // '') =~ /(\S+)/;
  my (undef, undef, undef, undef, @own) = defined $name ? gethostbyname $name : ();
  return map { [ $AF_INET, pack 'S n a4 x8', $AF_INET, $port, $_ ] } grep { length == 4 } @own;
}
