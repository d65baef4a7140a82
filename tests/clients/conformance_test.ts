/** Our expectations of a CRI runtime, asked of containerd, of it behind multicri, and of multicri by both adapters. */
import { assertEquals } from "@std/assert";
import {
  type Containerd,
  containerdSocket,
  startContainerd,
} from "../../scripts/lab/containerd.ts";
import { pushCritestImages } from "../../scripts/lab/critest_images.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer } from "../../scripts/lab/node_server.ts";
import { CriClient, IMAGE } from "../cri_client.ts";
import { FIELD_EXPECTATIONS } from "./cri_fields.ts";
import { VERB_EXPECTATIONS } from "./cri_verbs.ts";
import { nothingLeft, prepareLab } from "./pods.ts";

const lab = new Lab();
// The containers name no cluster, so that both runtimes are sent the same.
const server = new NodeServer(lab, { name: "conformance", ownLogin: true });
const router = new NodeServer(lab, {
  name: "conformance-router",
  flags: ["--remote-runtime-endpoints", `default:${containerdSocket("containerd")}`],
});
const onNode = new NodeServer(lab, {
  name: "conformance-node",
  flags: ["--adapter-name", "singularity"],
});
let containerd: Containerd;
const clients: Record<string, CriClient> = {};

Deno.test.beforeAll(async () => {
  await prepareLab(lab);
  // containerd's pause image is among them.
  await pushCritestImages(lab, () => {});
  containerd = await startContainerd(lab);
  for (const one of [server, router, onNode]) {
    await one.forget();
    await one.start();
  }
  const runtimes = {
    containerd,
    "containerd through multicri": router,
    "multicri on Slurm": server,
    "multicri on the node": onNode,
  };
  for (const [name, { socketPath }] of Object.entries(runtimes)) {
    const client = new CriClient(lab.path("knode", socketPath));
    await client.call("pullImage", { image: { image: IMAGE } });
    clients[name] = client;
  }
});
Deno.test.afterAll(async () => {
  for (const client of Object.values(clients)) {
    for (const podSandboxId of await client.pods({})) {
      await client.call("removePodSandbox", { podSandboxId });
    }
    client.close();
  }
  await router.stop();
  await containerd?.stop();
  await onNode?.stop();
  await server.stop();
  await nothingLeft(lab);
});

/** The clients' connections stay open from test to test. */
const SHARED_CLIENTS = { sanitizeOps: false, sanitizeResources: false };

for (const { name, ask, answer, containerd } of [...VERB_EXPECTATIONS, ...FIELD_EXPECTATIONS]) {
  const itsAnswer = containerd?.answer ?? answer;
  const answers = {
    containerd: itsAnswer,
    "containerd through multicri": itsAnswer,
    "multicri on Slurm": answer,
    "multicri on the node": answer,
  };
  for (const [runtime, expected] of Object.entries(answers)) {
    Deno.test(`a runtime ${name}: ${runtime}`, SHARED_CLIENTS, async () => {
      const client = clients[runtime];
      if (client === undefined) throw new Error(`${runtime} is not there.`);
      assertEquals(await ask(client), expected);
    });
  }
}
