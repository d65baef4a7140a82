import { delay } from "@std/async/delay";

const LOOK_MS = 10;

/** Resolves once something holds that comes by itself; a test that waits in vain hangs, and is ended from outside. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!await holds()) await delay(LOOK_MS);
}
