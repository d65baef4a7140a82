/** The specs of critest that do not pass on the node itself, and why. Every other one passes. */
import { type Exceptions, SKIPPED_EVERYWHERE } from "./critest_outcome.ts";

/** Everything that does not pass. */
export const EXCEPTIONS: readonly Exceptions[] = [
  {
    reason: "Only the original image has the digest that critest knows.",
    message: /the registry has no such image/,
    under: "Image Manager ",
    specs: ["public image with digest should be pulled and removed [Conformance] [Serial]"],
  },
  ...SKIPPED_EVERYWHERE,
];
