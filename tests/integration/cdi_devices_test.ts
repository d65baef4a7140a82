/** Devices that files of the node describe (CDI), in containers on the node itself. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { lab, logged, onNode } from "../on_node.ts";

const FILE = "/etc/cdi/lab-toy.yaml";
const HOOKED = "/run/lab-toy-hooked";

/** A device, beside it a folder and a variable, and a program that is told of the container before it is made. */
const DESCRIPTION = `
cdiVersion: 0.6.0
kind: lab.example/toy
containerEdits:
  env: [TOYS=yes]
devices:
  - name: one
    containerEdits:
      env: [TOY=one]
      deviceNodes:
        - { path: /dev/toy, hostPath: /dev/loop-control, permissions: r }
      mounts:
        - { hostPath: /etc/apt, containerPath: /opt/toy, options: [ro, nosuid, bind] }
      hooks:
        - { hookName: createRuntime, path: /bin/sh, args: [sh, -c, "cat >${HOOKED}"] }
      additionalGids: [4242]
  - name: two
    containerEdits:
      env: [TOY_TWO=two]
  - name: missing
    containerEdits:
      deviceNodes: [{ path: /dev/no-such-toy }]
`;

Deno.test.beforeAll(async () => {
  await prepareNode(lab, () => {});
  await lab.exec("knode", ["mkdir", "-p", "/etc/cdi"]);
  await Deno.writeTextFile(lab.path("knode", FILE), DESCRIPTION);
});

Deno.test.afterAll(async () => {
  await lab.exec("knode", ["rm", "-f", FILE, HOOKED]);
});

Deno.test("a container gets the devices that it asks for as the node's files describe them", () =>
  onNode(async ({ client }) => {
    const pod = await client.runPod();
    const script = `: </dev/toy && echo opened
(: >/dev/toy) 2>/dev/null || echo "not written"
echo "$TOY $TOYS"; test -d /opt/toy/sources.list.d && echo mounted
touch /opt/toy/x 2>/dev/null || echo "not touched"; id -G`;
    const id = await client.create(pod, script, {
      CDIDevices: [{ name: "lab.example/toy=one" }],
    });
    await client.call("startContainer", { containerId: id });
    await client.exited(id);
    const expected = "opened\nnot written\none yes\nmounted\nnot touched\n0 4242\n";
    assertEquals(await logged(pod, "stdout"), expected);
    const state = JSON.parse(await Deno.readTextFile(lab.path("knode", HOOKED)));
    assertEquals(state.id, id);
  }));

Deno.test("a container gets the devices that its annotations name, once", () =>
  onNode(async ({ server, client }) => {
    const pod = await client.runPod();
    const id = await client.create(pod, 'echo "$TOY $TOY_TWO"; id -G', {
      CDIDevices: [{ name: "lab.example/toy=one" }],
      annotations: {
        "cdi.k8s.io/plugin_1": "lab.example/toy=two,lab.example/toy=one",
        "lab.example/other": "lab.example/toy=missing",
      },
    });
    await client.call("startContainer", { containerId: id });
    await client.exited(id);
    assertEquals(await logged(pod, "stdout"), "one two\n0 4242\n");
    const { hooks } = JSON.parse(
      await Deno.readTextFile(lab.path("knode", `${server.stateDir}/containers/${id}/config.json`)),
    );
    assertEquals(hooks.createRuntime.length, 1);
    const annotations = { "cdi.k8s.io/plugin_2": "toy" };
    await assertRejects(
      () => client.create(pod, "true", { annotations, metadata: { name: "bad" } }),
      Error,
      '"toy"',
    );
  }));

Deno.test("a device that is not described or not there is refused with a sentence", () =>
  onNode(async ({ client }) => {
    const pod = await client.runPod();
    const refusals = { none: /no file of the node describes it/, missing: /"\/dev\/no-such-toy"/ };
    for (const [device, message] of Object.entries(refusals)) {
      const CDIDevices = [{ name: `lab.example/toy=${device}` }];
      const error = await assertRejects(() => client.create(pod, "true", { CDIDevices }), Error);
      assertMatch(error.message, message);
    }
  }));
