/** kubectl exec, attach and port-forward on a Slurm pod, through an API server and a kubelet. */
import { assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { clientFile } from "../../scripts/clients.ts";
import { type ControlPlane, startControlPlane } from "../../scripts/lab/control_plane.ts";
import { Kubelet, NODE_NAME } from "../../scripts/lab/kubelet.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer, prepareNode } from "../../scripts/lab/node_server.ts";
import type { CommandResult } from "../../scripts/lab/process.ts";
import { KNODE_PATHS } from "../../scripts/lab/settings.ts";
import { pod, podSpec } from "./pods.ts";

const POLL_MS = 250;

const lab = new Lab();
const server = new NodeServer(lab, { name: "kubectl-streams" });
let plane: ControlPlane;
let kubelet: Kubelet;

Deno.test.beforeAll(async () => {
  await prepareNode(lab, () => {});
  await lab.exec("knode", ["rm", "-rf", server.rootDir, server.stateDir, server.logPath]);
  await server.start();
  plane = await startControlPlane(lab);
  kubelet = new Kubelet(lab, { socketPath: server.socketPath, controlPlane: plane });
  await kubelet.start();
});
Deno.test.afterAll(async () => {
  await kubelet?.remove();
  await plane?.stop();
  for (const pod of (await server.crictlOk(["pods", "-q"])).split("\n")) {
    if (pod !== "") await server.crictlOk(["rmp", "--force", pod]);
  }
  await server.stop();
});

/** A running pod with one container, deleted afterwards. */
async function withPod(
  name: string,
  script: string,
  more: Record<string, unknown>,
  use: () => Promise<void>,
): Promise<void> {
  const spec = podSpec(lab, [{ name: "main", script, more }], { nodeName: NODE_NAME });
  const manifest = pod(name, spec);
  await plane.kubectlOk(["apply", "-f", "-"], JSON.stringify(manifest));
  await plane.kubectlOk(["wait", "--for=condition=Ready", `pod/${name}`, "--timeout=50s"]);
  // Ready means that Slurm has the job; a command needs it to run.
  while ((await plane.kubectl(["exec", name, "--", "true"])).code !== 0) await delay(POLL_MS);
  await use();
  await plane.kubectlOk(["delete", "pod", name, "--wait"]);
}

const KUBECTL = `${KNODE_PATHS.clients}/${clientFile("kubectl")}`;

/** Runs a bash script in the node, with `kubectl` as a function in it. */
async function bash(script: string): Promise<CommandResult> {
  const text = `kubectl() { ${KUBECTL} --kubeconfig ${plane.kubeconfig} "$@"; }\n${script}`;
  return await lab.exec("knode", ["bash", "-c", text], { timeoutMs: 60_000 });
}

Deno.test("kubectl exec gives output, exit code and a half-closed stdin", () =>
  withPod("exec", "sleep 600", {}, async () => {
    const ended = await plane.kubectl([
      "exec",
      "exec",
      "--",
      "sh",
      "-c",
      "echo out; echo err >&2; exit 7",
    ]);
    assertEquals([ended.code, ended.stdout], [7, "out\n"]);
    assertMatch(ended.stderr, /^err\n/);
    const { code, stdout, stderr } = await bash(
      `head -c 20000000 /dev/urandom >/tmp/sent
kubectl exec -i exec -- sha256sum </tmp/sent; sha256sum </tmp/sent
kubectl exec -i exec -- cat </tmp/sent | cmp - /tmp/sent && echo same`,
    );
    const [theirs, ours, same] = stdout.split("\n");
    assertEquals([code, theirs, same], [0, ours, "same"], stderr);
  }));

Deno.test("kubectl exec -it gives a terminal of the right size", () =>
  withPod("terminal", "sleep 600", {}, async () => {
    const { stdout } = await bash(
      `export TERM=xterm
kubectl() { stty rows 33 cols 101; ${KUBECTL} --kubeconfig ${plane.kubeconfig} "$@"; }
export -f kubectl
script -qec "kubectl exec -it terminal -- sh -c 'sleep 1; tty; stty size; exit 6'" /dev/null </dev/null
echo "code $?"`,
    );
    assertMatch(stdout, /\/dev\/pts\/\d+\r\n33 101\r\n/);
  }));

Deno.test("kubectl attach reaches the program's stdin and output", () => {
  const script = 'while read line; do echo "got $line"; done; echo over; exit 0';
  return withPod("attach", script, { stdin: true, stdinOnce: true }, async () => {
    const { stdout, stderr } = await bash(
      "(sleep 1; echo one; echo two; sleep 1) | kubectl attach -i attach",
    );
    assertEquals(stdout, "got one\ngot two\nover\n", stderr);
  });
});

Deno.test("kubectl port-forward connects to a port of the job", () => {
  const script = `while :; do nc -ll -p 8123 -e sh -c 'head -c 5000000 | sha256sum'; done`;
  return withPod("port", script, {}, async () => {
    const { stdout, stderr } = await bash(
      // Not by the function: a shell around kubectl would be killed in its place.
      `${KUBECTL} --kubeconfig ${plane.kubeconfig} port-forward port 18080:8123 >/dev/null & forward=$!
until exec 3<>/dev/tcp/127.0.0.1/18080; do sleep 0.2; done 2>/dev/null
head -c 5000000 /dev/urandom >/tmp/sent
(cat /tmp/sent >&3 &); cat <&3; sha256sum </tmp/sent
kill "$forward"`,
    );
    const [theirs, ours] = stdout.split("\n");
    assertEquals(theirs, ours, stderr);
  });
});
