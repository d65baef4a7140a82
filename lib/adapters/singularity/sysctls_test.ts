import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { checkSysctls, refusedSysctl } from "./sysctls.ts";

const OWN = { ipc: true, network: true };

for (
  const name of ["kernel.shm_rmid_forced", "fs.mqueue.msg_max", "net.ipv4.ip_forward"]
) {
  Deno.test(`checkSysctls() lets a pod set ${name}`, () => checkSysctls({ [name]: "1" }, OWN));
}

for (const value of ["", "4\t5\t6", "x".repeat(4095)]) {
  Deno.test(`checkSysctls() lets a pod set the value ${JSON.stringify(value.slice(0, 9))}`, () =>
    checkSysctls({ "kernel.sem": value }, OWN));
}

for (const value of ["1\n2", "1\0", "x".repeat(4096)]) {
  Deno.test(`checkSysctls() refuses the value ${JSON.stringify(value.slice(0, 9))}`, () => {
    const why = "its value must be one line of 4095 characters at most";
    assertThrows(() => checkSysctls({ "kernel.sem": value }, OWN), CriError, why);
  });
}

for (
  const [name, own, why] of [
    ["kernel.panic", OWN, "a pod can have of its own"],
    ["net.../../kernel/panic", OWN, "a pod can have of its own"],
    ["net.ipv4.a\nb", OWN, "a pod can have of its own"],
    ["net/ipv4/x", OWN, "a pod can have of its own"],
    ["", OWN, "a pod can have of its own"],
    ["kernel.sem", { ...OWN, ipc: false }, "the node's IPC"],
    ["net.ipv4.ip_forward", { ...OWN, network: false }, "the node's network"],
  ] as const
) {
  Deno.test(`checkSysctls() refuses ${JSON.stringify(name)} since ${why}`, () => {
    assertThrows(() => checkSysctls({ [name]: "1" }, own), CriError, why);
  });
}

Deno.test("checkSysctls() refuses a value on two lines", () => {
  assertThrows(() => checkSysctls({ "net.a": "1\n2" }, OWN), CriError, "must be one line");
});

for (
  const [refused, message] of [
    [
      "kernel.shmmax refused\n",
      `Cannot set the kernel's "kernel.shmmax" for the pod to "a b": the kernel does not take that value.`,
    ],
    [
      "net.ipv4.x unknown\n",
      `Cannot set the kernel's "net.ipv4.x" for the pod: this node's kernel has no such setting.`,
    ],
  ] as const
) {
  Deno.test(`refusedSysctl() tells why when the script says ${refused.trim()}`, () => {
    const { code, message: told } = refusedSysctl(refused, { "kernel.shmmax": "a b" });
    assertEquals([code, told], ["INVALID_ARGUMENT", message]);
  });
}
