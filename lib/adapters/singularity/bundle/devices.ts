import { CriError } from "../../../base/error.ts";
import { shown } from "../../../base/shown.ts";
import type { Device } from "../../../cri/api.generated.ts";
import { checkPathWithin } from "./paths.ts";
import type { OciDevice, OciDeviceRule } from "./oci_spec.ts";

/** A device node of this machine. */
export interface NodeDevice {
  path: string;
  type: "b" | "c";
  major: number;
  minor: number;
  mode: number;
  uid: number;
  gid: number;
}

/**
 * Device nodes from lines of stat(1)'s format `%f %t %T %u %g %n`, numbers in hexadecimal digits but for the owners.
 */
export function parseDevices(lines: string): NodeDevice[] {
  const CHARACTER = 0o020000;
  const BLOCK = 0o060000;
  const TYPE_BITS = 0o170000;
  return lines.split("\n").flatMap((line) => {
    const match = /^([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) (\d+) (\d+) (.+)$/s.exec(line);
    const [, bits = "", major = "", minor = "", uid = "", gid = "", path = ""] = match ?? [];
    const mode = parseInt(bits, 16);
    const kind = mode & TYPE_BITS;
    if (kind !== CHARACTER && kind !== BLOCK) return [];
    return [{
      path,
      type: kind === BLOCK ? "b" as const : "c" as const,
      major: parseInt(major, 16),
      minor: parseInt(minor, 16),
      mode: mode & 0o7777,
      uid: Number(uid),
      gid: Number(gid),
    }];
  });
}

/**
 * The devices of a container and the rules of its cgroup about them: all of the node's if privileged, else those that
 * it asks for, a folder standing for all in it.
 * @param found The node's devices at and below the host paths asked for; of a privileged container all.
 * @throws CriError INVALID_ARGUMENT when a device is not there.
 */
export function devicesOf(
  asked: readonly Device[],
  found: readonly NodeDevice[],
  privileged: boolean,
): { devices: OciDevice[]; rules: OciDeviceRule[] } {
  const chosen = asked.flatMap((device) => matching(device, found));
  const rest = privileged
    ? found.filter(({ path }) => !chosen.some(({ device }) => device.path === path))
    : [];
  return {
    devices: [
      ...chosen.map(({ device, path }) => oci(device, path)),
      ...rest.map((device) => oci(device, device.path)),
    ],
    rules: privileged ? [{ allow: true, access: "rwm" }] : [
      { allow: false, access: "rwm" },
      ...chosen.map(({ device: { type, major, minor }, access }) => ({
        allow: true,
        type,
        major,
        minor,
        access,
      })),
    ],
  };
}

function matching({ hostPath, containerPath, permissions }: Device, found: readonly NodeDevice[]) {
  checkPathWithin("place of a device", containerPath);
  const devices = found.filter(({ path }) =>
    path === hostPath || path.startsWith(`${hostPath.replace(/\/+$/, "")}/`)
  );
  if (!/^[rwm]*$/.test(permissions)) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot give the container the device ${shown(hostPath)} with the permissions ${
        shown(permissions)
      }: they must be of r, w and m.`,
    );
  }
  if (devices.length === 0) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot give the container the device ${
        shown(hostPath)
      }: it must be a device of the node, or a directory of devices.`,
    );
  }
  return devices.map((device) => ({
    device,
    path: containerPath + device.path.slice(hostPath.replace(/\/+$/, "").length),
    access: permissions === "" ? "rwm" : permissions,
  }));
}

function oci({ type, major, minor, mode, uid, gid }: NodeDevice, path: string): OciDevice {
  return { path, type, major, minor, fileMode: mode, uid, gid };
}
