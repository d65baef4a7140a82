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
