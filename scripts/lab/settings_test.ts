import { assertEquals, assertThrows } from "@std/assert";
import { addressOf, hostsFile, labSettings } from "./settings.ts";

const noEnvironment = () => undefined;

Deno.test("labSettings() takes options first, then the environment, then its defaults", () => {
  const env = (name: string) =>
    ({
      MULTICRI_LAB_NAME: "second",
      MULTICRI_LAB_SUBNET: "10.78.0",
      XDG_CACHE_HOME: "/var/cache",
      HOME: "/home/me",
    })[name];
  const pick = (
    { name, subnet, folder, machineInterface }: ReturnType<typeof labSettings>,
  ) => [name, subnet, folder, machineInterface];
  assertEquals(pick(labSettings({}, env)), [
    ...["second", "10.78.0", "/var/cache/multicri/labs/second", "mc-second"],
  ]);
  assertEquals(pick(labSettings({ name: "third", cache: "/c" }, env)), [
    ...["third", "10.78.0", "/c/labs/third", "mc-third"],
  ]);
  const home = (name: string) => name === "HOME" ? "/home/me" : undefined;
  assertEquals(pick(labSettings({}, home)), [
    ...["lab", "10.77.0", "/home/me/.cache/multicri/labs/lab", "mc-lab"],
  ]);
});

Deno.test("labSettings() refuses a name or subnet that it cannot use", () => {
  for (const name of ["", "Lab", "a/b", "1st", "ninechars", "a b", "../x"]) {
    assertThrows(
      () => labSettings({ name }, noEnvironment),
      Error,
      "lower-case letters and digits",
    );
  }
  for (const subnet of ["", "10.77", "10.77.0.0", "10.77.256", "a.b.c", "10.77.0/24"]) {
    assertThrows(() => labSettings({ subnet }, noEnvironment), Error, "first three numbers");
  }
});

Deno.test("hostsFile() names every host once, and the registry twice", () => {
  const settings = labSettings({ subnet: "192.168.7", cache: "/c" }, noEnvironment);
  assertEquals(addressOf(settings, "machine"), "192.168.7.254");
  assertEquals(
    hostsFile(settings),
    `127.0.0.1 localhost
192.168.7.1 registry registry.lab
192.168.7.10 ctl
192.168.7.11 n1
192.168.7.12 n2
192.168.7.100 knode
192.168.7.254 machine
`,
  );
});
