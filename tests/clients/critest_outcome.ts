/** What a run of critest must have come to: everything passes but what a list names, with the words that it names. */
import { assertEquals, assertMatch } from "@std/assert";
import { writeStdoutLine } from "../../lib/base/log.ts";
import type { TestReport } from "../../scripts/junit.ts";

/** Specs that end alike for one reason. */
export interface Exceptions {
  /** A sentence. */
  reason: string;
  /** What they say when they fail, so that no other trouble hides behind the reason; without it they are skipped. */
  message?: RegExp;
  /** Where luck decides: they may pass as well. */
  mayPass?: true;
  /** What the specs' names begin with behind `[k8s.io] `, to save repeating it. */
  under: string;
  /** The rest of their names. */
  specs: readonly string[];
}

/** What critest skips in the lab, whatever it is run against. */
export const SKIPPED_EVERYWHERE: readonly Exceptions[] = [
  {
    reason: "critest skips AppArmor where the kernel has none, as in the lab.",
    under: "AppArmor runtime should ",
    specs: [
      ...["support deprecated apparmor_profile field", "support apparmor field"].flatMap((
        field,
      ) => [
        `${field} should fail with an unloaded apparmor_profile`,
        `${field} should enforce a apparmor_profile blocking writes`,
        `${field} should enforce a permissive deprecated profile`,
      ]),
      "prefer new apparmor field should fail with an unloaded apparmor_profile",
      "prefer new apparmor field should enforce a apparmor_profile blocking writes",
      "prefer new apparmor field should work with apparmor profile",
    ],
  },
  {
    reason: "critest runs its benchmarks only when it is asked to.",
    under: "",
    specs: [
      "PodSandbox benchmark about operations on PodSandbox benchmark about lifecycle of PodSandbox",
      "PodSandbox benchmark about start a container from scratch benchmark about start a container from scratch",
      "Container benchmark about operations on Container benchmark about basic operations on Container",
      "Image benchmark about operations on Image benchmark about basic operations on Image",
      "Image benchmark about operations on Image benchmark about listing Image",
    ],
  },
];

/** What the names of all of critest's specs begin with. */
const PREFIX = "[k8s.io] ";

/** The full names of an entry's specs. */
const namesOf = ({ under, specs }: Exceptions) => specs.map((spec) => `${PREFIX}${under}${spec}`);

/** @throws AssertionError naming the specs that ended otherwise than listed. */
export function assertOutcome(
  { passed, failed, skipped }: TestReport,
  exceptions: readonly Exceptions[],
): void {
  writeStdoutLine(`${passed.length} passed, ${failed.length} failed, ${skipped.length} skipped`);
  const fails = exceptions.filter(({ message }) => message !== undefined);
  const isSkipped = exceptions.filter(({ message }) => message === undefined);
  const mayPass = fails.filter((entry) => entry.mayPass).flatMap(namesOf);
  assertEquals(
    [...new Set([...failed.map(({ name }) => name), ...mayPass])].sort(),
    fails.flatMap(namesOf).sort(),
    JSON.stringify(failed, null, 1),
  );
  assertEquals(skipped.toSorted(), isSkipped.flatMap(namesOf).sort());
  for (const { name, message } of failed) {
    const entry = fails.find((entry) => namesOf(entry).includes(name));
    assertMatch(message, entry?.message ?? /^$/, `${name} fails for another reason`);
  }
}
