import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { parseInvocation } from "./flags.ts";
import { UsageError } from "./usage_error.ts";

const parse = (args: string[], env: Record<string, string> = {}) =>
  parseInvocation(args, (name) => env[name]);
const config = (args: string[], env: Record<string, string> = {}) => {
  const invocation = parse(args, env);
  if (invocation.kind !== "serve") {
    throw new Error(`expected a configuration, not ${invocation.kind}`);
  }
  return invocation.config;
};

Deno.test("parseInvocation() gives the documented defaults when there are no flags", () => {
  assertEquals(config([]), {
    adapterName: "slurm",
    allowedClusters: [],
    clustersFile: undefined,
    enablePodNetwork: false,
    enablePodPersistence: false,
    jobLogLines: true,
    kubeletRootDir: "/var/lib/kubelet",
    joinCommands: true,
    mapResources: true,
    networkBinDir: "/opt/cni/bin",
    networkConfDir: "/etc/cni/net.d",
    nodeIp: undefined,
    podLogsDir: "/var/log/pods",
    registryCredentials: undefined,
    remotes: [],
    resourcesCachePath: "/root/.multi-cri",
    rootDir: "/var/lib/multi-cri",
    runtimeHandlers: [],
    sandboxImage: "registry.k8s.io/pause:3.10",
    socketPath: "/var/run/multicri.sock",
    stateDir: "/run/multi-cri",
    logThreshold: "error",
    streamAddr: "127.0.0.1",
    streamPort: 10010,
    maxLogBytes: 512 * 1024 * 1024,
    usageIntervalSeconds: 10,
    slurm: {
      mountPath: "multi-cri",
      imageRemoteMount: undefined,
      siteImages: undefined,
      buildInCluster: false,
      buildInJob: false,
      followOnNode: false,
    },
  });
});

Deno.test("parseInvocation() reads flags in every usual spelling", () => {
  assertEquals(config(["--socket-path=/a/../b.sock"]).socketPath, "/b.sock");
  assertEquals(config(["--socket-path", "/a", "--socket-path", "/b"]).socketPath, "/b");
  assertEquals(config(["--allowed-clusters", ""]).allowedClusters, []);
  assertEquals(config(["-v", "3"]).logThreshold, "info");
  assertEquals(config(["-v=4"]).logThreshold, "debug");
  assertEquals(config(["--stderrthreshold", "1"]).logThreshold, "warning");
  assertEquals(config(["--enable-pod-persistence"]).enablePodPersistence, true);
  assertEquals(config(["--enable-pod-persistence=false"]).enablePodPersistence, false);
  assertEquals(config(["--enable-pod-network"]).enablePodNetwork, true);
  assertEquals(config(["--usage-interval=0"]).usageIntervalSeconds, 0);
  assertEquals(config(["--max-log-bytes=0"]).maxLogBytes, Infinity);
  assertEquals(config(["--max-log-bytes=1000"]).maxLogBytes, 1000);
  assertEquals(config(["--job-log-lines=false"]).jobLogLines, false);
  assertEquals(config(["--allowed-clusters", "a,b:2222,[::1]:23"]).allowedClusters, [
    { host: "a", port: 22 },
    { host: "b", port: 2222 },
    { host: "::1", port: 23 },
  ]);
  assertEquals(
    config([], {
      CRI_SLURM_MOUNT_PATH: "work/",
      CRI_SLURM_IMAGE_REMOTE_MOUNT: "/scratch/images",
      CRI_SLURM_SITE_IMAGES: "/apps/images",
      CRI_SLURM_BUILD_IN_CLUSTER: "job",
      CRI_SLURM_FOLLOW: "node",
    }).slurm,
    {
      mountPath: "work",
      imageRemoteMount: "/scratch/images",
      siteImages: "/apps/images",
      buildInCluster: true,
      buildInJob: true,
      followOnNode: true,
    },
  );
  assertEquals(parse(["-h"]).kind, "help");
  assertEquals(parse(["--version"]).kind, "version");
});

Deno.test("parseInvocation() lists every flag when help is asked for", () => {
  const help = parse(["--help"]);
  const text = help.kind === "help" ? help.text : "";
  for (
    const flag of [
      "--adapter-name",
      "--remote-runtime-endpoints",
      "--stderrthreshold",
      "-v",
      "CRI_SLURM_MOUNT_PATH",
    ]
  ) {
    assertStringIncludes(text, flag);
  }
});

const refusals: [string[], Record<string, string>, string][] = [
  [["--bogus"], {}, "Unknown flag '--bogus'"],
  [["--socket", "/x"], {}, "did you mean --socket-path?"],
  [["--socket-path"], {}, "--socket-path needs a value (path)."],
  [["--socket-path", "--v"], {}, "--socket-path needs a value (path)."],
  [["--socket-path", "relative"], {}, "absolute path"],
  [["--root-dir", "/a,b"], {}, "without commas"],
  [["--resources-cache-path", "/a:b"], {}, "without colons"],
  [["--max-log-bytes", "1G"], {}, "a number of bytes, or 0 for no bound"],
  [["--usage-interval", "10s"], {}, "a number of seconds from 0 (off) to 3600"],
  [["--usage-interval", "3601"], {}, "a number of seconds from 0 (off) to 3600"],
  [["--stream-port", "65536"], {}, "a port number from 0 to 65535"],
  [["--stream-addr", "localhost"], {}, "an IP address"],
  [["--stderrthreshold", "loud"], {}, "0 (info), 1 (warning) or 2 (error)"],
  [["-v", "x"], {}, "a number from 0 to 10"],
  [["--adapter-name", "docker"], {}, "it must be slurm"],
  [["--enable-pod-persistence=maybe"], {}, "true or false"],
  [["--allowed-clusters", "a:b"], {}, "a port number"],
  [["--allowed-clusters", "fd00::1"], {}, "in brackets"],
  [["--socket-path", ""], {}, "Cannot use --socket-path ''"],
  [["--stream-port", "-1"], {}, "Cannot use --stream-port '-1'"],
  [["--allowed-clusters", "a b"], {}, "host or host:port"],
  [["--network-bin-dir", "/a:b"], {}, "without colons"],
  [["--network-conf-dir", "net.d"], {}, "absolute path"],
  [["--remote-runtime-endpoints", "default:x"], {}, "path of a unix socket"],
  [["--runtime-handlers", "kata=default"], {}, "no remote runtime 'default'"],
  [["stray"], {}, "takes flags only"],
  [["--", "stray"], {}, "takes flags only"],
  [[], { CRI_SLURM_MOUNT_PATH: "../up" }, "CRI_SLURM_MOUNT_PATH"],
  [[], { CRI_SLURM_MOUNT_PATH: "/abs" }, "relative to $HOME"],
  [[], { CRI_SLURM_MOUNT_PATH: "a\nb\x1b" }, "'a\\nb\\u001b'"],
  [[], { CRI_SLURM_MOUNT_PATH: "a:b" }, "CRI_SLURM_MOUNT_PATH"],
  [[], { CRI_SLURM_MOUNT_PATH: "a,b" }, "CRI_SLURM_MOUNT_PATH"],
  [[], { CRI_SLURM_IMAGE_REMOTE_MOUNT: "/scratch:ro" }, "CRI_SLURM_IMAGE_REMOTE_MOUNT"],
  [[], { CRI_SLURM_IMAGE_REMOTE_MOUNT: "/scratch,x" }, "CRI_SLURM_IMAGE_REMOTE_MOUNT"],
  [[], { CRI_SLURM_SITE_IMAGES: "images" }, "an absolute path"],
  [[], { CRI_SLURM_SITE_IMAGES: "/a:b" }, "an absolute path"],
  [["--registry-credentials", "auth.json"], {}, "an absolute path"],
  [[], { CRI_SLURM_BUILD_IN_CLUSTER: "maybe" }, "true or false"],
  [[], { CRI_SLURM_FOLLOW: "nfs" }, "files or node"],
];

for (const [args, env, words] of refusals) {
  Deno.test(`parseInvocation() refuses with a sentence when given ${JSON.stringify([args, env])}`, () => {
    const error = assertThrows(() => parse(args, env), UsageError);
    assertStringIncludes((error as UsageError).message, words);
  });
}
