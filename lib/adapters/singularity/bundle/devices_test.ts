import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import { Device } from "../../../cri/api.generated.ts";
import { devicesOf, parseDevices } from "./devices.ts";

const FOUND = parseDevices(
  "21b6 1 3 0 0 /dev/null\n61b0 8 10 0 6 /dev/disk/a b\n8180 0 0 0 0 /dev/file\nnonsense\n",
);

function asked(device: Partial<Device>): Device[] {
  return [Device.fromPartial(device)];
}

Deno.test("parseDevices() reads character and block devices", () => {
  assertEquals(FOUND, [
    { path: "/dev/null", type: "c", major: 1, minor: 3, mode: 0o666, uid: 0, gid: 0 },
    { path: "/dev/disk/a b", type: "b", major: 8, minor: 16, mode: 0o660, uid: 0, gid: 6 },
  ]);
});

Deno.test("devicesOf() gives a container the devices that it asks for, and no others", () => {
  const device = { hostPath: "/dev/null", containerPath: "/dev/mine", permissions: "rw" };
  const { devices, rules } = devicesOf(asked(device), FOUND, false);
  assertEquals(devices, [
    { path: "/dev/mine", type: "c", major: 1, minor: 3, fileMode: 0o666, uid: 0, gid: 0 },
  ]);
  assertEquals(rules, [
    { allow: false, access: "rwm" },
    { allow: true, type: "c", major: 1, minor: 3, access: "rw" },
  ]);
});

Deno.test("devicesOf() takes a folder for all devices in it", () => {
  const { devices } = devicesOf(
    asked({ hostPath: "/dev/disk/", containerPath: "/d" }),
    FOUND,
    false,
  );
  assertEquals(devices.map(({ path }) => path), ["/d/a b"]);
});

Deno.test("devicesOf() gives a privileged container all devices of the node", () => {
  const { devices, rules } = devicesOf([], FOUND, true);
  assertEquals(devices.map(({ path }) => path), ["/dev/null", "/dev/disk/a b"]);
  assertEquals(rules, [{ allow: true, access: "rwm" }]);
});

Deno.test("devicesOf() refuses permissions that are none", () => {
  const device = { hostPath: "/dev/null", containerPath: "/dev/null", permissions: "rx" };
  assertThrows(() => devicesOf(asked(device), FOUND, false), CriError, 'permissions "rx"');
});

Deno.test("devicesOf() refuses a place that is none in a container", () => {
  for (const containerPath of ["", "dev/x", "/dev/../etc/x", "/dev/x\0"]) {
    const device = asked({ hostPath: "/dev/null", containerPath });
    assertThrows(() => devicesOf(device, FOUND, false), CriError, "the place of a device");
  }
});

Deno.test("devicesOf() refuses a device that the node does not have", () => {
  assertThrows(
    () => devicesOf(asked({ hostPath: "/dev/no", containerPath: "/dev/no" }), FOUND, false),
    CriError,
    'the device "/dev/no"',
  );
});
