import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import {
  LinuxContainerSecurityContext,
  SecurityProfile_ProfileType,
} from "../../../cri/api.generated.ts";
import { defaultProfile, type SeccompChoice, seccompChoice } from "./seccomp.ts";

type Context = Parameters<typeof LinuxContainerSecurityContext.fromPartial>[0];
const { RuntimeDefault, Unconfined, Localhost } = SecurityProfile_ProfileType;

const CHOICES: [context: Context, choice: SeccompChoice][] = [
  [{}, { kind: "unconfined" }],
  [{ seccomp: { profileType: Unconfined } }, { kind: "unconfined" }],
  [{ seccomp: { profileType: RuntimeDefault } }, { kind: "default" }],
  [{ seccomp: { profileType: RuntimeDefault }, privileged: true }, { kind: "unconfined" }],
  [
    { seccomp: { profileType: Localhost, localhostRef: "/p.json" } },
    { kind: "file", path: "/p.json" },
  ],
  [{ seccompProfilePath: "localhost//p.json" }, { kind: "file", path: "/p.json" }],
  [{ seccompProfilePath: "docker/default" }, { kind: "default" }],
  [
    { seccompProfilePath: "docker/default", seccomp: { profileType: Unconfined } },
    { kind: "unconfined" },
  ],
];

for (const [context, choice] of CHOICES) {
  Deno.test(`seccompChoice() makes ${choice.kind} of ${JSON.stringify(context)}`, () => {
    assertEquals(seccompChoice(LinuxContainerSecurityContext.fromPartial(context)), choice);
  });
}

Deno.test("seccompChoice() refuses a file that is named by no path", () => {
  const seccomp = { profileType: Localhost, localhostRef: "p.json" };
  assertThrows(
    () => seccompChoice(LinuxContainerSecurityContext.fromPartial({ seccomp })),
    CriError,
    "must be the absolute path",
  );
});

/** The calls that a profile refuses without a look at their arguments. */
function refused(profile: unknown): string[] {
  const { syscalls } = profile as { syscalls: { names: string[]; args?: unknown }[] };
  return syscalls.filter(({ args }) => args === undefined).flatMap(({ names }) => names);
}

Deno.test("defaultProfile() opens calls by capabilities, and some never", () => {
  const usual = refused(defaultProfile(["CAP_CHOWN"], "x86_64"));
  const admin = refused(defaultProfile(["CAP_SYS_ADMIN"], "x86_64"));
  for (const call of ["mount", "sethostname", "clone3", "bpf"]) {
    assertEquals([usual.includes(call), admin.includes(call)], [true, false], call);
  }
  for (const call of ["keyctl", "userfaultfd", "reboot"]) assertEquals(admin.includes(call), true);
  for (const call of ["read", "clone", "execve", "ptrace"]) {
    assertEquals(usual.includes(call), false, call);
  }
});

/** Whether a profile refuses a call because of its first argument (seccomp_rule_add(3)). */
function refusesArgument(profile: unknown, call: string, argument: number): boolean {
  type Rule = { names: string[]; args?: { value: number; valueTwo?: number; op: string }[] };
  const { syscalls } = profile as { syscalls: Rule[] };
  return syscalls.filter(({ names }) => names.includes(call)).some(({ args = [] }) =>
    args.every(({ value, valueTwo, op }) =>
      op === "SCMP_CMP_EQ" ? argument === value : ((argument & value) >>> 0) === valueTwo
    )
  );
}

Deno.test("defaultProfile() opens no way to the machine below, whatever the capabilities", () => {
  for (const capabilities of [[], ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]]) {
    const profile = defaultProfile(capabilities, "x86_64");
    const refuses = [1, 2, 10, 16, 40].filter((family) =>
      refusesArgument(profile, "socket", family)
    );
    assertEquals(refuses, [40]);
  }
});

Deno.test("defaultProfile() lets only harmless personalities be taken", () => {
  const profile = defaultProfile([], "x86_64");
  const refuses = (persona: number) => refusesArgument(profile, "personality", persona);
  for (const persona of [0, 8, 0x20000, 0x20008, 0xffffffff]) {
    assertEquals(refuses(persona), false, persona.toString(16));
  }
  // ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC, and neighbours of what is allowed.
  const others = [1, 9, 0x40000, 0x400000, 0x40008, 0x20001, 0x80000000, 0xfffffffe, 0x7fffffff];
  for (const persona of [...others, 0xfffffff7, 0xfffdffff]) {
    assertEquals(refuses(persona), true, persona.toString(16));
  }
});
