import { parse } from "@std/yaml";
import { CriError, messageOf } from "../../../base/error.ts";
import { shown } from "../../../base/shown.ts";
import {
  checkNames,
  type Fields,
  fieldsOf,
  isGiven,
  listOf,
  numberOf,
  textOf,
  textsOf,
} from "./json_fields.ts";
import type { OciHook, OciMount } from "./oci_spec.ts";

/** A file of the node that describes devices (CDI, SPEC.md). */
export interface CdiFile {
  path: string;
  text: string;
}

/** A device node that a container gets; what is absent is as on the node. */
export interface CdiDeviceNode {
  path: string;
  hostPath: string;
  type?: "b" | "c";
  major?: number;
  minor?: number;
  fileMode?: number;
  /** Any of r, w and m. */
  permissions: string;
  uid?: number;
  gid?: number;
}

/** Moments for hooks, in their order. */
const HOOK_NAMES = [
  ...["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
];

/** What a device changes in a container. */
export interface CdiEdits {
  env: string[];
  deviceNodes: CdiDeviceNode[];
  mounts: OciMount[];
  hooks: { name: string; hook: OciHook }[];
  additionalGids: number[];
}

interface CdiSpec {
  path: string;
  /** `vendor.example/class`. */
  kind: string;
  edits: CdiEdits;
  devices: ReadonlyMap<string, CdiEdits>;
}

/**
 * What the devices change in a container: what each file says of all its devices once, and of each device.
 * @param names As `vendor.example/class=device`.
 * @param files In the order of their folders; what a later folder says of a device counts.
 * @throws CriError FAILED_PRECONDITION for a device that no file has, or two files of one folder.
 */
export function editsOf(names: readonly string[], files: readonly CdiFile[]): CdiEdits[] {
  const broken: string[] = [];
  const specs = files.flatMap((file) => {
    try {
      return [parseSpec(file)];
    } catch (error) {
      broken.push(`${file.path} is broken: ${messageOf(error)}`);
      return [];
    }
  });
  const used = new Set<CdiSpec>();
  const ofDevices = [...new Set(names)].map((name) => {
    const [kind, ...rest] = name.split("=");
    const device = rest.join("=");
    const having = specs.filter((spec) => spec.kind === kind && spec.devices.has(device));
    const chosen = having.at(-1);
    const edits = chosen?.devices.get(device);
    if (chosen === undefined || edits === undefined) {
      throw refused(name, ["no file of the node describes it", ...broken].join("; "));
    }
    const rival = having.find((spec) => spec !== chosen && folderOf(spec) === folderOf(chosen));
    if (rival !== undefined) {
      throw refused(name, `both ${rival.path} and ${chosen.path} describe it`);
    }
    used.add(chosen);
    return edits;
  });
  return [...[...used].map(({ edits }) => edits), ...ofDevices];
}

function folderOf({ path }: CdiSpec): string {
  return path.slice(0, path.lastIndexOf("/"));
}

function refused(name: string, why: string): CriError {
  return new CriError(
    "FAILED_PRECONDITION",
    `Cannot give the container the CDI device ${shown(name)}: ${why}.`,
  );
}

/** @throws TypeError, SyntaxError in words for a file that is none, or asks for what is not done here. */
function parseSpec({ path, text }: CdiFile): CdiSpec {
  const spec = fieldsOf(parse(text));
  checkNames(spec, ["cdiVersion", "kind", "annotations", "devices", "containerEdits"]);
  if (!/^v?[01]\./.test(textOf(spec.cdiVersion))) {
    throw new TypeError(`version ${JSON.stringify(spec.cdiVersion)} is not known`);
  }
  const devices = listOf(spec.devices).map(fieldsOf).map((device) => {
    checkNames(device, ["name", "annotations", "containerEdits"]);
    return [textOf(device.name), readEdits(device.containerEdits)] as const;
  });
  const kind = textOf(spec.kind);
  return { path, kind, edits: readEdits(spec.containerEdits), devices: new Map(devices) };
}

function readEdits(value: unknown): CdiEdits {
  const edits = isGiven(value) ? fieldsOf(value) : {};
  checkNames(edits, ["env", "deviceNodes", "mounts", "hooks", "additionalGids"]);
  return {
    env: textsOf(edits.env),
    deviceNodes: listOf(edits.deviceNodes).map(fieldsOf).flatMap(readDeviceNode),
    mounts: listOf(edits.mounts).map(fieldsOf).map((mount) => {
      checkNames(mount, ["hostPath", "containerPath", "type", "options"]);
      return {
        source: textOf(mount.hostPath),
        destination: textOf(mount.containerPath),
        type: isGiven(mount.type) ? textOf(mount.type) : "bind",
        options: textsOf(mount.options),
      };
    }),
    hooks: listOf(edits.hooks).map(fieldsOf).map(readHook),
    // 0 means none (SPEC.md).
    additionalGids: listOf(edits.additionalGids).flatMap((gid) => numberOf(gid) || []),
  };
}

/** Pipes, which the format knows too, are no devices. */
function readDeviceNode(node: Fields): CdiDeviceNode[] {
  checkNames(node, [
    ...["path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid"],
  ]);
  const { type } = node;
  if (type === "p") return [];
  if (isGiven(type) && !["b", "c", "u"].includes(textOf(type))) {
    throw new TypeError(`${JSON.stringify(type)} is no type of device`);
  }
  // None given are all (SPEC.md).
  const permissions = node.permissions === "" || !isGiven(node.permissions)
    ? "rwm"
    : textOf(node.permissions);
  if (!/^[rwm]+$/.test(permissions)) {
    throw new TypeError(
      `${shown(permissions)} are no permissions of a device, which are of r, w and m`,
    );
  }
  const path = textOf(node.path);
  const numbers = ["major", "minor", "fileMode", "uid", "gid"].flatMap((name) => {
    const number = numberOf(node[name]);
    return number === undefined ? [] : [[name, number]];
  });
  return [{
    path,
    hostPath: isGiven(node.hostPath) ? textOf(node.hostPath) : path,
    permissions,
    ...(isGiven(type) ? { type: type === "b" ? "b" as const : "c" as const } : {}),
    ...Object.fromEntries(numbers),
  }];
}

function readHook(hook: Fields): { name: string; hook: OciHook } {
  checkNames(hook, ["hookName", "path", "args", "env", "timeout"]);
  const name = textOf(hook.hookName);
  if (!HOOK_NAMES.includes(name)) {
    throw new TypeError(`${JSON.stringify(name)} is no moment for a hook`);
  }
  const timeout = numberOf(hook.timeout);
  return {
    name,
    hook: {
      path: textOf(hook.path),
      ...(isGiven(hook.args) ? { args: textsOf(hook.args) } : {}),
      ...(isGiven(hook.env) ? { env: textsOf(hook.env) } : {}),
      ...(timeout === undefined ? {} : { timeout }),
    },
  };
}
