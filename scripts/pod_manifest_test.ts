import { assertEquals, assertThrows } from "@std/assert";
import { readPodManifest } from "./pod_manifest.ts";

const POD = `# A comment before the first document.
---
apiVersion: v1
kind: Secret
metadata: { name: cluster }
stringData: { user: example, password: example }
---
apiVersion: v1
kind: Pod
metadata:
  name: first
  labels: { app: demo }
  annotations: { note: "1" }
spec:
  runtimeClassName: multicri
  containers:
    - name: main
      image: multicri/docker-repository.perl
      command: [perl]
      args: ["-e", "print 1"]
      workingDir: /tmp
      env:
        - { name: PLAIN, value: "" }
        - name: CLUSTER_USERNAME
          valueFrom: { secretKeyRef: { name: cluster, key: user } }
    - { name: bare, image: perl }
`;

const OPTIONS = { uid: "u-1", podLogsDir: "/var/log/pods" };

Deno.test("readPodManifest() makes what the kubelet would of a Pod", () => {
  const pod = readPodManifest(POD, { ...OPTIONS, secretValues: { user: "alice" } });
  assertEquals(pod.runtimeHandler, "multicri");
  assertEquals(pod.sandbox.metadata, {
    name: "first",
    namespace: "default",
    uid: "u-1",
    attempt: 0,
  });
  assertEquals(pod.sandbox.log_directory, "/var/log/pods/default_first_u-1");
  assertEquals(pod.sandbox.annotations, { note: "1" });
  assertEquals(pod.sandbox.labels["app"], "demo");
  assertEquals(pod.sandbox.labels["io.kubernetes.pod.uid"], "u-1");
  const [main, bare] = pod.containers.map(({ config }) => config);
  assertEquals(main?.image, { image: "multicri/docker-repository.perl" });
  assertEquals([main?.command, main?.args, main?.working_dir], [
    ["perl"],
    ["-e", "print 1"],
    "/tmp",
  ]);
  assertEquals(main?.envs, [
    { key: "PLAIN", value: "" },
    { key: "CLUSTER_USERNAME", value: "alice" },
  ]);
  assertEquals(main?.log_path, "main/0.log");
  assertEquals(main?.labels["io.kubernetes.container.name"], "main");
  assertEquals([bare?.command, bare?.args, bare?.envs, bare?.working_dir], [[], [], [], ""]);
});

const REFUSALS: readonly [what: string, yaml: string, words: string][] = [
  ["no Pod is there", "---\nkind: Secret\nmetadata: { name: x }\n---\n", "must hold a Pod"],
  ["nothing is there", "", "must hold a Pod"],
  [
    "a Secret is missing",
    POD.replace("name: cluster }", "name: other }"),
    "The manifest's Secret cluster",
  ],
  ["a key is missing", POD.replace("key: user", "key: login"), "must have the key login"],
  ["a variable has no value", POD.replace('value: ""', "other: 1"), "a value or a secretKeyRef"],
];

for (const [what, yaml, words] of REFUSALS) {
  Deno.test(`readPodManifest() throws a sentence when ${what}`, () => {
    assertThrows(() => readPodManifest(yaml, OPTIONS), Error, words);
  });
}

Deno.test("readPodManifest() reads the Pod that is shipped", async () => {
  const yaml = await Deno.readTextFile(new URL("../deploy/first-pod.yaml", import.meta.url));
  const pod = readPodManifest(yaml, OPTIONS);
  assertEquals([pod.runtimeHandler, pod.containers.length], ["multicri", 1]);
});
