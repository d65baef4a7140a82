/**
 * What we expect of a CRI runtime, beyond critest. It is asked of containerd too, so that no expectation is only our
 * own idea.
 */
import type { CriClient } from "../cri_client.ts";

/** A question and its answer. */
export interface Expectation {
  /** Continues "a runtime …". */
  name: string;
  ask: (cri: CriClient) => Promise<unknown>;
  answer: unknown;
  /** Where containerd answers otherwise, and why that is no reason for us to do so. */
  containerd?: { answer: unknown; reason: string };
}

/** An id that nothing has. */
export const UNKNOWN_ID = "0123456789abcdef".repeat(4);
