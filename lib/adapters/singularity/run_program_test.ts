import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import nodeProgram from "../steps/node.pl" with { type: "text" };
import terminalProgram from "../steps/terminal.pl" with { type: "text" };
import runProgram from "./run_program.pl" with { type: "text" };

/**
 * Makes a child that executes the program $1 as soon as it is let, or ends, and prints what is at its place when it was
 * waited for, and whether it had to be looked for again. $2: `before` when it is let before the first look, `meanwhile` when
 * after the second, `never` when it ends instead.
 */
const WAIT = `
my ($path, $when) = @ARGV;
my ($gate, $keeper) = pipe_pair();
my $child = fork;
if ($child == 0) {
  close $keeper;
  my $is_let = sysread $gate, my $word, 1;
  exit 0 if !$is_let;
  exec { $path } $path, 1000;
}
close $gate;
my $looks = 0;
sub state_of { (slurp("/proc/$child/stat") // '') =~ /^.*\\) (\\S)/s ? $1 : '' }
sub has_begun { return (readlink("/proc/$child/exe") // '') eq $path }
sub let { syswrite $keeper, 'x' }
my $really = \\&sleep_for;
{
  no warnings 'redefine';
  *sleep_for = sub { $looks++; let() if $looks == 2; $really->(@_) };
}
if ($when eq 'before') { let(); $really->(0.01) until has_begun() }
if ($when eq 'never') { close $keeper; $really->(0.01) until state_of() eq 'Z' }
await_program($child);
print has_begun() ? 'program' : state_of(), $looks >= 2 ? ' later' : ' at once';
kill 'KILL', $child;
waitpid $child, 0;
`;

for (
  const [what, when, told] of [
    ["waits no longer for a program that is called like crun", "before", "program at once"],
    ["waits until the program has replaced what it was made by", "meanwhile", "program later"],
    ["waits no longer for one that has ended", "never", "Z at once"],
  ] as const
) {
  Deno.test(`await_program ${what}`, async () => {
    const folder = await Deno.realPath(await Deno.makeTempDir({ prefix: "run-program-" }));
    try {
      const path = join(folder, "crun");
      await Deno.copyFile("/bin/sleep", path);
      const { stdout, stderr } = await new Deno.Command("perl", {
        args: ["-w", "-e", nodeProgram + terminalProgram + runProgram + WAIT, path, when],
      }).output();
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      assertEquals([text(stdout), text(stderr)], [told, ""]);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}
