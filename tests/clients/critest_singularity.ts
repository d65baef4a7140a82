/** The specs of critest that do not pass on the node itself, and why. Every other one passes. */
import type { Exceptions } from "./critest_outcome.ts";

/** Everything that does not pass. */
export const EXCEPTIONS: readonly Exceptions[] = [
  {
    reason: "Only the original image has the digest that critest knows.",
    message: /the registry has no such image/,
    under: "Image Manager ",
    specs: ["public image with digest should be pulled and removed [Conformance] [Serial]"],
  },
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
