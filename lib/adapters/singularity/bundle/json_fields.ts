/** What a JSON or YAML object of others holds, before anybody has looked. */
export type Fields = Readonly<Record<string, unknown>>;

/** Programs in Go write null for what is not there. */
export function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/** @throws TypeError for what is no object. */
export function fieldsOf(value: unknown): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw new TypeError(`${JSON.stringify(value) ?? "nothing"} is no object`);
}

/** A list that may be missing. @throws TypeError for what is none. */
export function listOf(value: unknown): unknown[] {
  if (!isGiven(value)) return [];
  if (Array.isArray(value)) return value;
  throw new TypeError(`${JSON.stringify(value)} is no list`);
}

/** A list of texts that may be missing. @throws TypeError for what is none. */
export function textsOf(value: unknown): string[] {
  return listOf(value).map(textOf);
}

/** @throws TypeError for what is no text, and an empty one. */
export function textOf(value: unknown): string {
  if (typeof value === "string" && value !== "") return value;
  throw new TypeError(`${JSON.stringify(value) ?? "nothing"} stands where a text must be`);
}

/** A number from 0 that may be missing. @throws TypeError for what is none. */
export function numberOf(value: unknown): number | undefined {
  if (!isGiven(value)) return undefined;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw new TypeError(`${JSON.stringify(value)} stands where a whole number must be`);
}

/** @throws TypeError naming the first field that is none of these. */
export function checkNames(fields: Fields, names: readonly string[]): void {
  const unknown = Object.keys(fields).find((name) =>
    isGiven(fields[name]) && !names.includes(name)
  );
  if (unknown !== undefined) throw new TypeError(`${JSON.stringify(unknown)} is not known`);
}
