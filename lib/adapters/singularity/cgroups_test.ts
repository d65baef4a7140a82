import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import nodeProgram from "../steps/node.pl" with { type: "text" };
import cgroupsProgram from "./cgroups.pl" with { type: "text" };

const ID = "3f".repeat(32);
const SCOPE = `/kubepods.slice/kubepods-burstable.slice/multicri-${ID}.scope`;

/** Runs Perl behind cgroups.pl. */
async function perl(program: string, args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await new Deno.Command("perl", {
    args: ["-w", "-e", nodeProgram + cgroupsProgram + program, ...args],
  }).output();
  assertEquals(new TextDecoder().decode(stderr), "");
  return new TextDecoder().decode(stdout);
}

/** A folder in which cgroups may be mounted. */
async function withRoot(
  files: Readonly<Record<string, string>>,
  use: (root: string) => Promise<void>,
): Promise<void> {
  const root = await Deno.makeTempDir();
  try {
    for (const [name, text] of Object.entries(files)) {
      await Deno.mkdir(join(root, name, ".."), { recursive: true });
      await Deno.writeTextFile(join(root, name), text);
    }
    await use(root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

interface Case {
  what: string;
  /** As /proc tells. */
  told: string;
  /** As crun was told. */
  asked: string;
  isUnified: boolean;
  /** By controller, below where cgroups are mounted. */
  folders: Record<string, string>;
}

const CASES: Case[] = [
  {
    what: "version 2 under systemd",
    told: `0::${SCOPE}/container\n`,
    asked: "",
    isUnified: true,
    folders: { unified: `${SCOPE}/container` },
  },
  {
    what: "version 2 without a manager",
    told: `0::/multicri/${ID}\n`,
    asked: `/multicri/${ID}`,
    isUnified: true,
    folders: { unified: `/multicri/${ID}` },
  },
  {
    what: "version 1 under systemd",
    told: `4:pids:${SCOPE}\n3:memory:${SCOPE}\n2:cpu,cpuacct:${SCOPE}\n` +
      `1:name=systemd:${SCOPE}\n0::/system.slice/multicri.service\n`,
    asked: "",
    isUnified: false,
    folders: {
      cpu: `/cpu${SCOPE}`,
      cpuacct: `/cpuacct${SCOPE}`,
      memory: `/memory${SCOPE}`,
      "name=systemd": `/name=systemd${SCOPE}`,
      pids: `/pids${SCOPE}`,
    },
  },
  {
    what: "version 1 of a program that has ended",
    told: "4:pids:/\n3:memory:/\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n",
    asked: `/multicri/${ID}`,
    isUnified: false,
    folders: {
      cpuacct: `/cpuacct/multicri/${ID}`,
      memory: `/memory/multicri/${ID}`,
      pids: `/pids/multicri/${ID}`,
    },
  },
  {
    what: "nothing of a program that has ended under systemd",
    told: "3:memory:/\n0::/\n",
    asked: "",
    isUnified: false,
    folders: {},
  },
];

for (const { what, told, asked, isUnified, folders } of CASES) {
  Deno.test(`cgroup_folders() finds ${what}`, () =>
    withRoot(isUnified ? { "cgroup.controllers": "cpu memory pids\n" } : {}, async (root) => {
      const program =
        'my %folders = cgroup_folders(@ARGV); print map { "$_ $folders{$_}\\n" } keys %folders;';
      const lines = (await perl(program, [told, ID, asked, root])).split("\n").slice(0, -1);
      const found = lines.map((line) => line.split(" "));
      const expected = Object.entries(folders).map(([kind, path]) => [kind, root + path]);
      assertEquals(Object.fromEntries(found), Object.fromEntries(expected));
    }));
}

/** Files of the kernel as they were found. */
const KILLS: [what: string, kind: string, name: string, text: string, count: string][] = [
  [
    "version 2",
    "unified",
    "memory.events",
    "low 0\nhigh 0\nmax 47\noom 3\noom_kill 2\noom_group_kill 0\n",
    "2",
  ],
  [
    "version 2 before any",
    "unified",
    "memory.events",
    "low 0\nhigh 0\nmax 9\noom 0\noom_kill 0\n",
    "0",
  ],
  [
    "version 1",
    "memory",
    "memory.oom_control",
    "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "1",
  ],
  [
    "version 1 of an old kernel",
    "memory",
    "memory.oom_control",
    "oom_kill_disable 0\nunder_oom 0\n",
    "0",
  ],
  ["a controller that is off", "unified", "cgroup.events", "populated 1\n", "none"],
];

for (const [what, kind, name, text, count] of KILLS) {
  Deno.test(`count_kills() counts the processes that were killed for memory in ${what}`, () =>
    withRoot({ [name]: text }, async (root) => {
      const program =
        "my $file = open_kills(@ARGV); print defined $file ? count_kills($file) : 'none';";
      assertEquals(await perl(program, [kind, root]), count);
    }));
}

Deno.test("every_folder() finds a cgroup in each hierarchy of version 1, also in those that count nothing", () =>
  withRoot({
    [`memory/multicri/${ID}/cgroup.procs`]: "",
    [`systemd/multicri/${ID}/cgroup.procs`]: "",
    "pids/other/cgroup.procs": "",
  }, async (root) => {
    const program =
      "my ($root, $at) = @ARGV; print join ' ', sort(every_folder($root, memory => $at));";
    const found = await perl(program, [root, `${root}/memory/multicri/${ID}`]);
    assertEquals(found, `${root}/memory/multicri/${ID} ${root}/systemd/multicri/${ID}`);
  }));

Deno.test("end_cgroup() kills what is in a cgroup and in those below it, and no process 0", () =>
  withRoot({ "group/cgroup.procs": "0\n", "group/below/other": "" }, async (root) => {
    const program = `my ($root) = @ARGV;
my $child = fork // die;
if (!$child) { sleep 1000; exit }
open my $list, '>', "$root/group/below/cgroup.procs"; print $list "0\\n$child\\n"; close $list;
end_cgroup("$root/group");
waitpid $child, 0;
print $? & 127;`;
    assertEquals(await perl(program, [root]), "9");
  }));
