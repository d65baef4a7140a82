import { assertEquals, assertThrows } from "@std/assert";
import { stringify } from "@std/yaml";
import { CriError } from "../../../base/error.ts";
import { editsOf } from "./cdi_spec.ts";

const NOTHING = { env: [], deviceNodes: [], mounts: [], hooks: [], additionalGids: [] };

/** A description of devices of the kind lab.example/toy. */
function file(path: string, devices: Record<string, unknown>, more: Record<string, unknown> = {}) {
  const list = Object.entries(devices).map(([name, containerEdits]) => ({ name, containerEdits }));
  const spec = { cdiVersion: "0.6.0", kind: "lab.example/toy", devices: list, ...more };
  return { path, text: path.endsWith(".json") ? JSON.stringify(spec) : stringify(spec) };
}

const named = (name: string) => ({ env: [`NAME=${name}`] });

for (const ending of ["json", "yaml"]) {
  Deno.test(`editsOf() reads all that a ${ending} file can say`, () => {
    const hook = { path: "/usr/bin/toy", args: ["toy", "--init"], env: ["A=1"], timeout: 5 };
    const toy = {
      env: ["TOY=1"],
      deviceNodes: [
        { path: "/dev/toy" },
        { path: "/dev/in", hostPath: "/dev/out", type: "c", major: 1, minor: 3, fileMode: 432 },
        { path: "/dev/pipe", type: "p" },
      ],
      mounts: [{ hostPath: "/usr/lib/toy", containerPath: "/lib/toy", options: ["ro", "bind"] }],
      hooks: [{ hookName: "createContainer", ...hook }],
      additionalGids: [0, 44],
      intelRdt: null,
    };
    assertEquals(editsOf(["lab.example/toy=a"], [file(`/etc/cdi/toy.${ending}`, { a: toy })]), [
      NOTHING,
      {
        env: ["TOY=1"],
        deviceNodes: [
          { path: "/dev/toy", hostPath: "/dev/toy", permissions: "rwm" },
          {
            ...{ path: "/dev/in", hostPath: "/dev/out", permissions: "rwm" },
            ...{ type: "c", major: 1, minor: 3, fileMode: 432 },
          },
        ],
        mounts: [{
          source: "/usr/lib/toy",
          destination: "/lib/toy",
          type: "bind",
          options: ["ro", "bind"],
        }],
        hooks: [{ name: "createContainer", hook }],
        additionalGids: [44],
      },
    ]);
  });
}

Deno.test("editsOf() takes what a file says of all its devices once, and first", () => {
  const files = [
    file("/etc/cdi/a.yaml", { a: named("a"), b: named("b"), c: {} }, {
      containerEdits: named("all"),
    }),
    file("/etc/cdi/other.yaml", { x: {} }, { kind: "lab.example/other" }),
  ];
  const names = ["a", "b", "a"].map((name) => `lab.example/toy=${name}`);
  assertEquals(editsOf(names, files).map(({ env }) => env), [["NAME=all"], ["NAME=a"], ["NAME=b"]]);
});

Deno.test("editsOf() takes a device from the later folder", () => {
  const files = [
    file("/etc/cdi/a.yaml", { a: named("early") }),
    file("/var/run/cdi/a.json", { a: named("late") }),
  ];
  assertEquals(editsOf(["lab.example/toy=a"], files).at(-1)?.env, ["NAME=late"]);
});

Deno.test("editsOf() takes all behind the first = for the device's name, which may have others", () => {
  const files = [file("/etc/cdi/toy.yaml", { a: named("a") })];
  const error = assertThrows(() => editsOf(["lab.example/toy=a=b"], files), CriError);
  assertEquals(
    error.message,
    'Cannot give the container the CDI device "lab.example/toy=a=b": no file of the node describes it.',
  );
});

Deno.test("editsOf() takes no permissions for all", () => {
  const files = [
    file("/etc/cdi/toy.yaml", { a: { deviceNodes: [{ path: "/dev/x", permissions: "" }] } }),
  ];
  const nodes = editsOf(["lab.example/toy=a"], files).flatMap(({ deviceNodes }) => deviceNodes);
  assertEquals(nodes.map(({ permissions }) => permissions), ["rwm"]);
});

const toy = (edits: unknown) => [file("/etc/cdi/toy.yaml", { a: edits })];

const REFUSED: [files: { path: string; text: string }[], message: string][] = [
  [[], '"lab.example/toy=a": no file of the node describes it.'],
  [[file("/etc/cdi/x.yaml", { b: {} })], "no file of the node describes it."],
  [
    [file("/etc/cdi/x.yaml", { a: {} }), file("/etc/cdi/y.json", { a: {} })],
    "both /etc/cdi/x.yaml and /etc/cdi/y.json describe it",
  ],
  [[{ path: "/etc/cdi/x.yaml", text: "a: [" }], "describes it; /etc/cdi/x.yaml is broken: "],
  [[{ path: "/etc/cdi/x.yaml", text: "" }], "/etc/cdi/x.yaml is broken: null is no object"],
  [[file("/etc/cdi/x.yaml", { a: {} }, { cdiVersion: "2.0.0" })], 'version "2.0.0" is not known'],
  [[file("/etc/cdi/x.yaml", { a: {} }, { kind: "" })], '"" stands where a text must be'],
  [toy({ netDevices: [{ name: "eth0" }] }), '"netDevices" is not known'],
  [toy({ env: "A=1" }), '"A=1" is no list'],
  [toy({ deviceNodes: [{ path: "/dev/x", major: "1" }] }), '"1" stands where a whole number must'],
  [toy({ deviceNodes: [{ path: "/dev/x", type: "z" }] }), '"z" is no type of device'],
  [
    toy({ deviceNodes: [{ path: "/dev/x", permissions: "rwx" }] }),
    '"rwx" are no permissions of a device',
  ],
  [toy({ hooks: [{ hookName: "never", path: "/x" }] }), '"never" is no moment for a hook'],
  [toy({ mounts: [{ containerPath: "/x" }] }), "nothing stands where a text must be"],
];

for (const [files, message] of REFUSED) {
  Deno.test(`editsOf() refuses a device, since ${message}`, () => {
    const error = assertThrows(() => editsOf(["lab.example/toy=a"], files), CriError, message);
    assertEquals(error.code, "FAILED_PRECONDITION");
  });
}
