import { assert, assertEquals } from "@std/assert";
import { enteringCommand, startScript } from "./hosts.ts";
import { run } from "./process.ts";

const plan = {
  name: "n1",
  folder: "/cache/it's here/hosts/n1",
  base: "/cache/root",
  binds: [
    { source: "/a b", target: "/opt/x", readOnly: true },
    { source: "/c", target: "/home", readOnly: false },
  ],
  cgroup: "lab-n1",
};

Deno.test("startScript() is valid sh, and quotes paths", async () => {
  const script = startScript(plan, [
    { controllers: "memory", mountName: "memory", ownFolder: "/sys/fs/cgroup/memory" },
    { controllers: "", mountName: "unified", ownFolder: "/sys/fs/cgroup/unified" },
  ]);
  assertEquals(await run(["sh", "-n"], { stdin: script }), { code: 0, stdout: "", stderr: "" });
  const lines = [
    `cd '/cache/it'\\''s here/hosts/n1/root'`,
    "mkdir -p 'opt/x' && mount --bind -o ro '/a b' 'opt/x'",
    "mkdir -p 'home' && mount --bind '/c' 'home'",
    "mkdir -p sys/fs/cgroup/memory && mount -t cgroup -o memory cgroup sys/fs/cgroup/memory",
    "mkdir -p sys/fs/cgroup/unified && mount -t cgroup2 cgroup sys/fs/cgroup/unified",
  ];
  for (const line of lines) assert(script.includes(`\n${line}\n`), `${line} in:\n${script}`);
});

Deno.test("enteringCommand() keeps arguments as single words, and the environment out of them", () => {
  const host = { place: plan, init: { pid: 77, startTicks: "1" }, cgroups: ["/cg/n1"] };
  const { argv, env } = enteringCommand(host, ["printf", "%s", "$x 'y'"], {
    user: "jorge",
    cwd: "/tmp/a b",
    env: { X: "secret", LANG: "C" },
  });
  assertEquals(argv.slice(0, 3), ["sh", "-c", `echo $$ > '/cg/n1/cgroup.procs' && exec "$@"`]);
  for (const word of ["--target=77", "--reuid=jorge"]) assert(argv.includes(word), word);
  assertEquals(argv.slice(-6), ["env", "--chdir=/tmp/a b", "--", "printf", "%s", "$x 'y'"]);
  assert(!argv.join(" ").includes("secret"), "everyone can read argv");
  assertEquals([env.X, env.LANG, env.HOME, env.USER], ["secret", "C", "/home/jorge", "jorge"]);
});
