import { messageOf } from "../base/error.ts";

/** A command line or environment that cannot be used; the message is for the person who typed it. */
export class UsageError extends Error {
  override readonly name = "UsageError";

  /** @param help Lines for below the sentence: what there is to choose from. */
  constructor(message: string, readonly help?: string) {
    super(message);
  }
}

/** What is told of it: the sentence on one line, and the help below. */
export function describeUsage(error: UsageError): string {
  return [`multicri: ${messageOf(error)}`, ...(error.help === undefined ? [] : [error.help])].join(
    "\n",
  );
}

/** Text that came from outside, on one line whatever is in it. */
export function onOneLine(text: string): string {
  return text.replaceAll(
    /\p{Cc}/gu,
    (sign) => sign === "\n" ? "\\n" : `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A value that is not as `expected`. */
export function badValue(what: string, value: string, expected: string): UsageError {
  return new UsageError(`Cannot use ${what} '${onOneLine(value)}': it must be ${expected}.`);
}
