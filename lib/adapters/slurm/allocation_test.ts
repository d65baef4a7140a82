import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { PodSandboxConfig } from "../../cri/api.generated.ts";
import { allocationOf, sharesAllocation } from "./allocation.ts";
import type { SbatchOption } from "./resources.ts";

const ANNOTATION = "multicri.io/allocation";

const CASES: readonly [Record<string, string>, SbatchOption[], boolean | string][] = [
  [{}, [{ name: "nodes", value: "2" }], false],
  [{ [ANNOTATION]: "pod" }, [], true],
  [{ [ANNOTATION]: "pod" }, [{ name: "nodes", value: "1" }], true],
  [{ [ANNOTATION]: "pod" }, [{ name: "nodes", value: "2" }, { name: "nodes", value: "1-1" }], true],
  [{ [ANNOTATION]: "pod" }, [{ name: "nodes", value: "2" }], "--nodes of a pod"],
  [{ [ANNOTATION]: "pod" }, [{ name: "nodes", value: "1-4" }], "--nodes of a pod"],
  [{ [ANNOTATION]: "" }, [], 'must be "pod"'],
  [{ [ANNOTATION]: "node" }, [], 'must be "pod"'],
];
for (const [annotations, options, outcome] of CASES) {
  Deno.test(`sharesAllocation() says ${outcome} of ${JSON.stringify([annotations, options])}`, () => {
    const ask = () => sharesAllocation({ annotations }, options);
    if (typeof outcome === "boolean") return assertEquals(ask(), outcome);
    assertThrows(ask, CriError, outcome);
  });
}

Deno.test("allocationOf() asks for one node, last, whatever the pod's settings are", () => {
  const { options, jobName, sandboxDirectory } = allocationOf({
    sandboxId: "s1",
    sandbox: PodSandboxConfig.fromPartial({
      metadata: { name: "p", namespace: "ns", uid: "u-1", attempt: 2 },
    }),
    directory: "/home/u/100%/s1/c1",
    options: [{ name: "requeue" }, { name: "partition", value: "a b" }, {
      name: "nodes",
      value: "1",
    }],
  });
  assertEquals([jobName, sandboxDirectory], ["multicri-pod-s1", "/home/u/100%/s1"]);
  assertEquals(options, [
    "--requeue",
    "--partition=a b",
    "--nodes=1",
    "--job-name=multicri-pod-s1",
    "--comment=multicri id=s1 pod=ns/p uid=u-1 container=* attempt=2",
    "--output=/home/u/100%%/s1/allocation/slurm.log",
    "--open-mode=append",
    "--nodes=1",
    "--no-requeue",
  ]);
});
