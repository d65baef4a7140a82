import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import { withEdits } from "./cdi_edits.ts";
import type { CdiEdits } from "./cdi_spec.ts";
import type { OciMount, OciSpec } from "./oci_spec.ts";

const NOTHING: CdiEdits = { env: [], deviceNodes: [], mounts: [], hooks: [], additionalGids: [] };
const FOUND = [
  { path: "/dev/out", type: "c" as const, major: 9, minor: 8, mode: 0o640, uid: 0, gid: 44 },
];

function mount(destination: string): OciMount {
  return { destination, type: "bind", source: "/x", options: [] };
}

/** The part of a config.json that devices change, of a program of this user. */
function spec(uid: number): OciSpec {
  const empty = { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] };
  return {
    ociVersion: "1.1.0",
    root: { path: "/root", readonly: false },
    process: {
      terminal: false,
      user: { uid, gid: uid, additionalGids: [7] },
      args: ["true"],
      env: ["A=1", "B=2"],
      cwd: "/",
      capabilities: empty,
      noNewPrivileges: false,
      rlimits: [],
    },
    mounts: [mount("/proc"), mount("/data/deep/er")],
    annotations: {},
    linux: {
      namespaces: [],
      cgroupsPath: "/c",
      resources: { devices: [{ allow: false, access: "rwm" }] },
      devices: [
        { path: "/dev/in", type: "b", major: 1, minor: 1, fileMode: 0o600, uid: 0, gid: 0 },
      ],
      maskedPaths: [],
      readonlyPaths: [],
    },
  };
}

Deno.test("withEdits() adds what devices bring, and replaces variables and device nodes of the same names", () => {
  const hook = { path: "/bin/toy" };
  const edits = [
    { ...NOTHING, env: ["A=all"], hooks: [{ name: "prestart", hook }] },
    {
      ...NOTHING,
      env: ["A=one", "C=3"],
      deviceNodes: [{ path: "/dev/in", hostPath: "/dev/out", permissions: "rw" }],
      mounts: [mount("/data")],
      hooks: [{ name: "prestart", hook }, { name: "poststop", hook }],
      additionalGids: [44, 7],
    },
  ];
  const { process, mounts, hooks, linux } = withEdits(spec(0), edits, FOUND);
  assertEquals(process.env, ["A=one", "B=2", "C=3"]);
  assertEquals(process.user.additionalGids, [7, 44]);
  assertEquals(mounts.map(({ destination }) => destination), ["/proc", "/data", "/data/deep/er"]);
  assertEquals(hooks, { prestart: [hook, hook], poststop: [hook] });
  const node = { path: "/dev/in", type: "c", major: 9, minor: 8, fileMode: 0o640, uid: 0, gid: 44 };
  assertEquals(linux.devices as unknown[], [node]);
  assertEquals(linux.resources.devices, [
    { allow: false, access: "rwm" },
    { allow: true, type: "c", major: 9, minor: 8, access: "rw" },
  ]);
});

Deno.test("withEdits() gives devices to the program's user unless their description says whose they are", () => {
  const node = { path: "/dev/a", hostPath: "/dev/out", permissions: "rwm" };
  const edits = [{ ...NOTHING, deviceNodes: [node, { ...node, path: "/dev/b", uid: 0, gid: 3 }] }];
  const owners = withEdits(spec(1000), edits, FOUND).linux.devices.slice(1);
  assertEquals(owners.map(({ uid, gid }) => [uid, gid]), [[1000, 1000], [0, 3]]);
});

Deno.test("withEdits() takes a device from its description, and refuses one that is nowhere", () => {
  const node = { path: "/dev/a", hostPath: "/dev/gone", permissions: "rwm" };
  const numbers = { type: "b" as const, major: 7, minor: 9 };
  const whole = [{ ...NOTHING, deviceNodes: [{ ...node, ...numbers }] }];
  const device = { path: "/dev/a", ...numbers, fileMode: 0o666, uid: 0, gid: 0 };
  assertEquals(withEdits(spec(0), whole, FOUND).linux.devices.at(-1), device);
  const part = [{ ...NOTHING, deviceNodes: [node] }];
  assertThrows(() => withEdits(spec(0), part, FOUND), CriError, '"/dev/gone"');
});
