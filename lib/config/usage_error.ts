/** A command line or environment that cannot be used; the message is for the person who typed it. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A value that is not as `expected`. */
export function badValue(what: string, value: string, expected: string): UsageError {
  return new UsageError(`Cannot use ${what} '${value}': it must be ${expected}.`);
}
