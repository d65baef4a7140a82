/** A disk of records that takes no changes, for the tests of whoever keeps records. */
import { DatabaseSync } from "node:sqlite";

/** Codes of SQLite (sqlite.org/rescode.html). */
const DISK_FAULTS = { broken: 10, full: 13 } as const;

/** Lets all changes of records fail meanwhile. */
export async function withDiskFault<T>(
  fault: keyof typeof DISK_FAULTS,
  use: () => Promise<T>,
): Promise<T> {
  const { prepare } = DatabaseSync.prototype;
  DatabaseSync.prototype.prepare = function (sql) {
    if (sql.startsWith("SELECT")) return prepare.call(this, sql);
    throw Object.assign(new Error(`the disk is ${fault}`), { errcode: DISK_FAULTS[fault] });
  };
  try {
    return await use();
  } finally {
    DatabaseSync.prototype.prepare = prepare;
  }
}
