import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import { parseProfile } from "./seccomp_file.ts";

const PLACE = {
  capabilities: ["CAP_CHOWN", "CAP_SYS_TIME"],
  machine: "x86_64" as const,
  kernel: "6.1.0-13-amd64",
};

Deno.test("parseProfile() takes Docker's form of a profile", () => {
  const json = JSON.stringify({
    defaultAction: "SCMP_ACT_ALLOW",
    defaultErrnoRet: null,
    archMap: [
      { architecture: "SCMP_ARCH_AARCH64", subArchitectures: ["SCMP_ARCH_ARM"] },
      { architecture: "SCMP_ARCH_X86_64", subArchitectures: ["SCMP_ARCH_X86"] },
    ],
    syscalls: [
      { name: "sethostname", action: "SCMP_ACT_ERRNO", args: [], comment: "" },
      { names: ["a", "b"], action: "SCMP_ACT_ERRNO", errnoRet: 38, includes: {}, excludes: null },
    ],
  });
  assertEquals(parseProfile("/p", json, PLACE), {
    defaultAction: "SCMP_ACT_ALLOW",
    architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    syscalls: [
      { names: ["sethostname"], action: "SCMP_ACT_ERRNO" },
      { names: ["a", "b"], action: "SCMP_ACT_ERRNO", errnoRet: 38 },
    ],
  });
});

Deno.test("parseProfile() takes the OCI's form as it is", () => {
  const profile = {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: 1,
    flags: ["SECCOMP_FILTER_FLAG_LOG"],
    architectures: ["SCMP_ARCH_X86_64"],
    syscalls: [{
      names: ["personality"],
      action: "SCMP_ACT_ALLOW",
      args: [{ index: 0, value: 8, op: "SCMP_CMP_EQ" }],
    }],
  };
  assertEquals(parseProfile("/p", JSON.stringify(profile), PLACE), profile);
});

const CONDITIONS: [rule: Record<string, unknown>, isKept: boolean][] = [
  [{ includes: { caps: ["CAP_CHOWN"] } }, true],
  [{ includes: { caps: ["CAP_CHOWN", "CAP_SYS_BOOT"] } }, false],
  [{ includes: { caps: [] } }, true],
  [{ excludes: { caps: ["CAP_SYS_BOOT"] } }, true],
  [{ excludes: { caps: ["CAP_SYS_BOOT", "CAP_CHOWN"] } }, false],
  [{ includes: { arches: ["arm64", "amd64"] } }, true],
  [{ includes: { arches: ["arm64"] } }, false],
  [{ includes: { arches: [] } }, true],
  [{ excludes: { arches: ["amd64"] } }, false],
  [{ excludes: { arches: ["s390x"] } }, true],
  [{ includes: { minKernel: "4.8" } }, true],
  [{ includes: { minKernel: "6.1" } }, true],
  [{ includes: { minKernel: "6.2" } }, false],
  [{ excludes: { minKernel: "4.8" } }, false],
  [{ includes: { caps: ["CAP_CHOWN"] }, excludes: { caps: ["CAP_SYS_TIME"] } }, false],
];

for (const [rule, isKept] of CONDITIONS) {
  Deno.test(`parseProfile() ${isKept ? "keeps" : "leaves out"} a rule with ${JSON.stringify(rule)}`, () => {
    const syscalls = [{ names: ["reboot"], action: "SCMP_ACT_ALLOW", ...rule }];
    const json = JSON.stringify({ defaultAction: "SCMP_ACT_ERRNO", syscalls });
    assertEquals(parseProfile("/p", json, PLACE), {
      defaultAction: "SCMP_ACT_ERRNO",
      syscalls: isKept ? [{ names: ["reboot"], action: "SCMP_ACT_ALLOW" }] : [],
    });
  });
}

const WRONG: [json: string, message: string][] = [
  ["", "must be a JSON object"],
  ["[]", "[] is no object"],
  ["null", "null is no object"],
  ["{}", "it has no defaultAction"],
  ['{"defaultAction": 1}', "it has no defaultAction"],
  ['{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}', "{} is no list"],
  [
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"includes": {"moon": "full"}}]}',
    'a rule has the condition "moon", which is not known',
  ],
];

for (const [json, message] of WRONG) {
  Deno.test(`parseProfile() refuses ${JSON.stringify(json)}`, () => {
    const error = assertThrows(() => parseProfile("/p", json, PLACE), CriError, message);
    assertEquals(error.message.startsWith("Cannot use the seccomp profile /p: "), true);
  });
}
