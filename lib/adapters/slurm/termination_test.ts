import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { ContainerConfig, Mount } from "../../cri/api.generated.ts";
import { TestStore } from "../../store/test_store.ts";
import {
  checkTermination,
  copyTerminationMessage,
  TERMINATION_FILE,
  terminationMount,
  withTermination,
} from "./termination.ts";
import { TestCluster } from "./test_cluster.ts";

const DEFAULT_PATH = "/dev/termination-log";
const ANNOTATION = "io.kubernetes.container.terminationMessagePath";

const MOUNTS: readonly [what: string, annotation: string | undefined, found: string | undefined][] =
  [
    ["the annotation is missing", undefined, DEFAULT_PATH],
    ["the annotation names the default path", DEFAULT_PATH, DEFAULT_PATH],
    ["the annotation names a path of its own", "/out/message", "/out/message"],
    ["the annotation names a path that is not mounted", "/elsewhere", undefined],
  ];

for (const [what, annotation, found] of MOUNTS) {
  Deno.test(`terminationMount() gives ${found} when ${what}`, () => {
    const config = ContainerConfig.fromPartial({
      annotations: annotation === undefined ? {} : { [ANNOTATION]: annotation },
      mounts: ["/etc/hosts", DEFAULT_PATH, "/out/message"].map((containerPath) => ({
        containerPath,
      })),
    });
    assertEquals(terminationMount(config)?.containerPath, found);
  });
}

Deno.test("terminationMount() gives nothing when the kubelet asks for no message", () => {
  assertEquals(terminationMount(ContainerConfig.fromPartial({})), undefined);
});

Deno.test("withTermination() changes nothing when the path is one that can be mounted", () => {
  for (const hasShell of [true, false]) {
    assertEquals(withTermination("/out/message", "/home/u/c1", ["program", "a b"], hasShell), {
      runtimeArguments: [],
      argv: ["program", "a b"],
    });
  }
});

Deno.test("withTermination() leaves a program alone that has no shell to make the link", () => {
  assertEquals(withTermination(DEFAULT_PATH, "/home/u/c1", ["program"], false), {
    runtimeArguments: [],
    argv: ["program"],
  });
});

Deno.test("withTermination() makes the link and becomes the program when the path is in /dev", async () => {
  await using records = await TestStore.open();
  // A path of this machine that begins as the container's would, were its root the directory.
  const words = ["sh", "-c", 'printf "%s|" "$@"; exit 5', "$0", "a b", "", "it's *"];
  const { runtimeArguments, argv } = withTermination("/dev/message", "/home/u/c1", words, true);
  assertEquals(runtimeArguments, [
    "--mount",
    `type=bind,source=/home/u/c1/${TERMINATION_FILE},destination=/.multicri/termination-log`,
  ]);
  const link = records.path("message");
  const here = argv.map((word) => word === "/dev/message" ? link : word);
  const [program = "", ...args] = here;
  for (let run = 0; run < 2; run++) {
    // The second time the link is there: that must not keep the program from running.
    const { code, stdout, stderr } = await new Deno.Command(program, { args }).output();
    assertEquals(
      [code, new TextDecoder().decode(stdout), new TextDecoder().decode(stderr)],
      [5, "a b||it's *|", ""],
    );
  }
  assertEquals(await Deno.readLink(link), "/.multicri/termination-log");
});

const MESSAGES: readonly [what: string, message: string | undefined, copied: string][] = [
  ["the program wrote one", "ünï\nit failed", "ünï\nit failed"],
  ["the program wrote none", "", "before"],
  ["the file is gone", undefined, "before"],
  ["it is longer than the kubelet reads", "x".repeat(20_000), "x".repeat(12 * 1024)],
];

for (const [what, message, copied] of MESSAGES) {
  Deno.test(`copyTerminationMessage() leaves ${copied.length} characters for the kubelet when ${what}`, async () => {
    await using cluster = await TestCluster.create();
    await using records = await TestStore.open();
    const hostPath = records.path("message");
    await Deno.writeTextFile(hostPath, "before");
    if (message !== undefined) {
      await Deno.writeTextFile(join(cluster.home, TERMINATION_FILE), message);
    }
    await copyTerminationMessage(cluster.session, cluster.home, hostPath);
    assertEquals(await Deno.readTextFile(hostPath), copied);
  });
}

Deno.test("copyTerminationMessage() throws UNAVAILABLE while the cluster is away", async () => {
  await using cluster = await TestCluster.create();
  cluster.offline = new CriError("UNAVAILABLE", "no route");
  const copy = () => copyTerminationMessage(cluster.session, cluster.home, "/nowhere");
  assertEquals((await assertRejects(copy, CriError, "no route")).code, "UNAVAILABLE");
});

const KUBELET = "/var/lib/kubelet";
const FILE = `${KUBELET}/pods/u/containers/main/1a2b`;
const CHECKS: readonly [containerPath: string, hostPath: string, words: string | undefined][] = [
  [DEFAULT_PATH, FILE, undefined],
  ["/out/message", FILE, undefined],
  ["relative", FILE, "must be absolute"],
  ["/a:b,c\\d", FILE, undefined],
  [DEFAULT_PATH, "/etc/shadow", "must lie below --kubelet-root-dir"],
  [DEFAULT_PATH, `${KUBELET}/config.yaml`, "must lie below --kubelet-root-dir"],
  [DEFAULT_PATH, `${KUBELET}-other/pods/x`, "must lie below --kubelet-root-dir"],
  [DEFAULT_PATH, `${KUBELET}/pods/../config.yaml`, "must lie below --kubelet-root-dir"],
];

for (const [containerPath, hostPath, words] of CHECKS) {
  Deno.test(`checkTermination() ${words === undefined ? "accepts" : "refuses"} ${containerPath} from ${hostPath}`, () => {
    const check = () => checkTermination(Mount.fromPartial({ containerPath, hostPath }), KUBELET);
    if (words === undefined) return assertEquals(check(), undefined);
    assertEquals((assertThrows(check, CriError, words) as CriError).code, "INVALID_ARGUMENT");
  });
}
