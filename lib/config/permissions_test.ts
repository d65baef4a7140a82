import { assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { readClusters } from "./clusters.ts";
import { parseInvocation } from "./flags.ts";
import {
  commandPermissionFlags,
  HELP_PERMISSION_FLAGS,
  permissionFlags,
  sitePermissionFlags,
} from "./permissions.ts";

const PROBE = fromFileUrl(new URL("test_permission_probe.ts", import.meta.url));

function flagsFor(args: string[]): string[] {
  const invocation = parseInvocation(args, () => undefined);
  if (invocation.kind !== "serve") throw new Error("expected a configuration");
  return permissionFlags(invocation.config, readClusters(invocation.config));
}

/** Which of `tries` a program with these flags may do. */
async function permitted(flags: readonly string[], tries: readonly string[]): Promise<string[]> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-config", ...flags, PROBE, ...tries],
  }).output();
  const text = new TextDecoder().decode(stdout);
  if (text === "") throw new Error(new TextDecoder().decode(stderr));
  return JSON.parse(text);
}

Deno.test("permissionFlags() permits the server's own paths, programs and hosts, and nothing else", async () => {
  const parent = await Deno.makeTempDir({ prefix: "permissions-" });
  const directory = join(parent, `it's "odd" $HOME`);
  await Deno.mkdir(directory);
  const at = (name: string) => join(directory, name);
  for (const name of ["root", "state", "cache", "logs", "kubelet", "kubelet/pods", "beside"]) {
    await Deno.mkdir(at(name));
  }
  const flags = flagsFor([
    `--root-dir=${at("root")}`,
    `--state-dir=${at("state")}`,
    `--resources-cache-path=${at("cache")}`,
    `--pod-logs-dir=${at("logs")}`,
    `--kubelet-root-dir=${at("kubelet")}`,
    `--socket-path=${at("cri.sock")}`,
    `--remote-runtime-endpoints=default:${at("containerd.sock")}`,
    "--allowed-clusters=login.example,[2001:db8::1]:2222",
  ]);
  const allowed = [
    ...["root", "state", "cache", "logs"].flatMap((name) => [
      `read:${at(name)}`,
      `write:${at(`${name}/file`)}`,
    ]),
    `read:${at("kubelet/pods/file")}`,
    `write:${at("kubelet/pods/file")}`,
    `read:${at("cri.sock")}`,
    `write:${at("cri.sock")}`,
    `read:${at("containerd.sock")}`,
    `write:${at("containerd.sock")}`,
    "read:/run/systemd/system",
    "read:/etc/containers/certs.d/r.example/ca.crt",
    "read:/etc/docker/certs.d",
    "env:PATH",
    "env:CRI_SLURM_MOUNT_PATH",
    `net:login.example:22`,
    "net:127.0.0.1:10010",
    "net:[2001:db8::1]:2222",
  ];
  const refused = [
    `read:${directory}`,
    `read:${at("beside")}`,
    `write:${at("beside/file")}`,
    `read:${at("kubelet")}`,
    `read:${at("kubelet/file")}`,
    `write:${at("kubelet/file")}`,
    "read:/etc/shadow",
    "read:/proc/self/environ",
    "run:sh",
    "run:/bin/sh",
    "env:LD_PRELOAD",
    "env:AWS_SECRET_ACCESS_KEY",
    "net:login.example:80",
    "net:127.0.0.1:10011",
    "net:other.example:22",
    "net:169.254.169.254:80",
    "sys:hostname",
    "ffi:/lib/x86_64-linux-gnu/libc.so.6",
  ];
  try {
    assertEquals(await permitted(flags, [...refused, ...allowed]), allowed);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});

Deno.test("permissionFlags() permits what pod networks need when they are enabled, and only then", async () => {
  const directory = await Deno.makeTempDir({ prefix: "permissions-" });
  const paths = [`--network-bin-dir=${directory}`, `--network-conf-dir=${directory}/net.d`];
  const tries = [
    "run:flock",
    "run:perl",
    `read:${directory}/bridge`,
    `read:${directory}/net.d`,
    "read:/run/netns/x",
    "read:/var/lib/cni/results",
  ];
  const refused = [
    "run:sh",
    "run:ip",
    `write:${directory}/bridge`,
    "write:/run/netns/x",
    "read:/var/lib/cni",
  ];
  const enabled = flagsFor(["--enable-pod-network", ...paths]);
  assertEquals(await permitted(enabled, [...tries, ...refused]), tries);
  assertEquals(await permitted(flagsFor(paths), [...tries, ...refused]), []);
  await Deno.remove(directory, { recursive: true });
});

Deno.test("permissionFlags() permits any host only when no clusters are named", async () => {
  const hosts = ["net:login.example:22", "net:other.example:22"];
  assertEquals(await permitted(flagsFor([]), hosts), hosts);
});

Deno.test("permissionFlags() permits containers on the node their programs, and no host but its own", async () => {
  const flags = flagsFor(["--adapter-name=singularity"]);
  const allowed = [
    "run:sh",
    "run:perl",
    "run:crun",
    "run:nsenter",
    "net:127.0.0.1:10010",
    "sys:hostname",
  ];
  const refused = [
    "run:env",
    "net:login.example:22",
    "read:/proc/self/environ",
    "read:/etc/shadow",
  ];
  assertEquals(await permitted(flags, [...refused, ...allowed]), allowed);
});

Deno.test("HELP_PERMISSION_FLAGS permit no file, program or host", async () => {
  const tries = ["read:/etc/passwd", "write:/tmp/x", "run:sh", "net:a:22", "env:PATH"];
  assertEquals(await permitted(HELP_PERMISSION_FLAGS, tries), ["env:PATH"]);
});

for (const kind of ["jobs", "images"] as const) {
  Deno.test(`commandPermissionFlags() permits the clusters and the login, and no program when the command is ${kind}`, async () => {
    const directory = await Deno.makeTempDir({ prefix: "permissions-" });
    const at = (name: string) => join(directory, name);
    await Deno.mkdir(at("root"));
    const args = [
      ...[kind, "list", `--root-dir=${at("root")}`, `--socket-path=${at("cri.sock")}`],
      "--allowed-clusters=login",
    ];
    const invocation = parseInvocation(args, () => undefined);
    if (invocation.kind !== kind) throw new Error("expected a command");
    const { config } = invocation;
    const flags = commandPermissionFlags(config, readClusters(config));
    const allowed = [
      `write:${at("root/known_hosts")}`,
      `read:${at("cri.sock")}`,
      "net:login:22",
      "env:CLUSTER_PASSWORD",
    ];
    const refused = [
      ...["run:true", "net:other:22", `write:${at("beside")}`, "env:SECRET"],
    ];
    assertEquals(await permitted(flags, [...allowed, ...refused]), allowed);
    await Deno.remove(directory, { recursive: true });
  });
}

Deno.test("sitePermissionFlags() permits the clusters and how their job is asked for, and no program", async () => {
  const directory = await Deno.makeTempDir({ prefix: "permissions-" });
  const args = ["site", "check", `--root-dir=${directory}`, "--allowed-clusters=login"];
  const invocation = parseInvocation(args, () => undefined);
  if (invocation.kind !== "site") throw new Error("expected a command");
  const flags = sitePermissionFlags(invocation.config, readClusters(invocation.config));
  const allowed = [`write:${join(directory, "known_hosts")}`, "net:login:22", "env:JOB_QUEUE"];
  const refused = ["run:true", "net:other:22", "env:SECRET", "write:/run/multicri.sock"];
  assertEquals(await permitted(flags, [...allowed, ...refused]), allowed);
  await Deno.remove(directory, { recursive: true });
});
