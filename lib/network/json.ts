/** An object as JSON has it. */
export type JsonObject = { readonly [key: string]: unknown };

/** Whether a parsed value is an object, and no array. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The objects of a list; a list that is absent or null is empty, as Go's JSON writes empty lists. */
export function objectsOf(list: unknown): JsonObject[] | undefined {
  if (list === undefined || list === null) return [];
  return Array.isArray(list) && list.every(isObject) ? list : undefined;
}
