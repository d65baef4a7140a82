import { CriError } from "../base/error.ts";
import type { Table } from "../store/table.ts";

/**
 * Finds a record by its id or a unique prefix of it, which people type after `crictl`.
 * @throws CriError INVALID_ARGUMENT for an empty or ambiguous id.
 */
export function findById<R extends { readonly id: string }>(
  table: Table<R>,
  kind: string,
  id: string,
): R | undefined {
  if (id === "") throw new CriError("INVALID_ARGUMENT", `Cannot find a ${kind}: its id is empty.`);
  const exact = table.get(id);
  if (exact !== undefined) return exact;
  const matches = table.all().filter((record) => record.id.startsWith(id));
  if (matches.length > 1) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot find the ${kind} '${id}': ${matches.length} ids begin like that, give more of it.`,
    );
  }
  return matches[0];
}

/** As `findById`, for calls that need the record: @throws CriError NOT_FOUND. */
export function requireById<R extends { readonly id: string }>(
  table: Table<R>,
  kind: string,
  id: string,
): R {
  const record = findById(table, kind, id);
  if (record === undefined) {
    throw new CriError("NOT_FOUND", `Cannot find the ${kind} '${id}': there is none with that id.`);
  }
  return record;
}

/** True when every wanted label is there with its value (api.proto: filters are ANDed). */
export function matchesLabels(
  labels: { [key: string]: string },
  wanted: { [key: string]: string } | undefined,
): boolean {
  return Object.entries(wanted ?? {}).every(([key, value]) =>
    Object.hasOwn(labels, key) && labels[key] === value
  );
}
