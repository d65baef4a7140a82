import type { DatabaseSync } from "node:sqlite";
import { CriError } from "../base/error.ts";

/** SQLITE_FULL: the disk has no room for the change (sqlite.org/rescode.html). */
const FULL_CODE = 13;

/** How a record is written; bump `version` and keep reading the older ones when its shape changes. */
export interface RecordCodec<R> {
  version: number;
  encode(record: R): unknown;
  /** `version` is the one the record was written with. */
  decode(json: unknown, version: number): R;
}

export type TableChange<R> =
  | { kind: "put"; record: R; before: R | undefined }
  | { kind: "deleted"; before: R };

/**
 * One kind of record: all of them in memory for reading, each change durable before the call returns, but for those
 * that tell of an end while the disk is full. Records are immutable values; a change replaces one.
 */
export class Table<R extends { readonly id: string }> {
  readonly #database: DatabaseSync;
  readonly #name: string;
  readonly #codec: RecordCodec<R>;
  readonly #records = new Map<string, R>();
  readonly #listeners = new Set<(change: TableChange<R>) => void>();
  /** Ids of those whose rows are to become what memory has as soon as the disk has room. */
  readonly #unwritten = new Set<string>();

  /** `name` is a table name of this project, never input. */
  constructor(database: DatabaseSync, name: string, codec: RecordCodec<R>) {
    this.#database = database;
    this.#name = name;
    this.#codec = codec;
    database.exec(
      `CREATE TABLE IF NOT EXISTS ${name} (id TEXT PRIMARY KEY, version INTEGER NOT NULL, record TEXT NOT NULL)`,
    );
    for (const row of database.prepare(`SELECT id, version, record FROM ${name}`).all()) {
      const record = codec.decode(JSON.parse(String(row["record"])), Number(row["version"]));
      this.#records.set(record.id, record);
    }
  }

  get(id: string): R | undefined {
    return this.#records.get(id);
  }

  /** All records, oldest first. */
  all(): R[] {
    return [...this.#records.values()];
  }

  /** Inserts or replaces. @throws CriError RESOURCE_EXHAUSTED on a full disk; nothing is changed then. */
  put(record: R): void {
    if (!this.#write(record.id, record)) {
      throw new CriError(
        "RESOURCE_EXHAUSTED",
        `Cannot write records into ${this.#database.location()}: database or disk is full.`,
      );
    }
    this.#keep(record);
  }

  #keep(record: R): void {
    const before = this.#records.get(record.id);
    this.#records.set(record.id, record);
    this.#notify({ kind: "put", record, before });
  }

  /**
   * Replaces a record by what `change` makes of it; the same object back means "leave it". Returns what
   * stands afterwards, undefined when there is no such record.
   * @throws CriError as `put`.
   */
  update(id: string, change: (record: R) => R): R | undefined {
    const before = this.#records.get(id);
    if (before === undefined) return undefined;
    const after = change(before);
    if (after !== before) this.put(after);
    return after;
  }

  /**
   * As `update`, of something that has happened already, which no full disk can hold up: it counts at once, and is
   * written with the next change for which there is room. A process that dies before finds the record as it was, as
   * after a crash right after what happened.
   */
  settle(id: string, change: (record: R) => R): void {
    const before = this.#records.get(id);
    if (before === undefined) return;
    const after = change(before);
    if (after !== before) this.putSettled(after);
  }

  /** As `put`, of something that has happened already: see `settle`. */
  putSettled(record: R): void {
    if (!this.#write(record.id, record)) this.#unwritten.add(record.id);
    this.#keep(record);
  }

  /** Whether another process would find of this id what memory has; what waits for room is tried again before. */
  isWritten(id: string): boolean {
    this.writeWaiting();
    return !this.#unwritten.has(id);
  }

  /** Deletes a record; a missing one is no error. On a full disk as `settle`. */
  delete(id: string): void {
    const before = this.#records.get(id);
    if (before === undefined) return;
    if (!this.#write(id, undefined)) this.#unwritten.add(id);
    this.#records.delete(id);
    this.#notify({ kind: "deleted", before });
  }

  /** Writes what has waited for room, as far as there is some. */
  writeWaiting(): void {
    for (const id of this.#unwritten) {
      if (this.#writeRow(id, this.#records.get(id))) this.#unwritten.delete(id);
    }
  }

  /** Calls `listener` after each change; returns how to stop it. */
  onChange(listener: (change: TableChange<R>) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Resolves with the record as soon as `holds` says yes of it, or with undefined when it is deleted.
   * Rejects with the signal's reason.
   */
  waitFor(id: string, holds: (record: R) => boolean, signal: AbortSignal): Promise<R | undefined> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const now = this.get(id);
      if (now === undefined || holds(now)) return resolve(now);
      const finish = (settle: () => void) => {
        stop();
        signal.removeEventListener("abort", onAbort);
        settle();
      };
      const onAbort = () => finish(() => reject(signal.reason));
      const stop = this.onChange((change) => {
        if (change.kind === "deleted" && change.before.id === id) finish(() => resolve(undefined));
        if (change.kind === "put" && change.record.id === id && holds(change.record)) {
          finish(() => resolve(change.record));
        }
      });
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Writes a row, or removes it, and those that have waited; false when there was no room for this one. */
  #write(id: string, record: R | undefined): boolean {
    this.writeWaiting();
    const written = this.#writeRow(id, record);
    if (written) this.#unwritten.delete(id);
    return written;
  }

  #writeRow(id: string, record: R | undefined): boolean {
    try {
      if (record === undefined) {
        this.#database.prepare(`DELETE FROM ${this.#name} WHERE id = ?`).run(id);
      } else {
        this.#database.prepare(
          `INSERT INTO ${this.#name} (id, version, record) VALUES (?, ?, ?)
           ON CONFLICT (id) DO UPDATE SET version = excluded.version, record = excluded.record`,
        ).run(id, this.#codec.version, JSON.stringify(this.#codec.encode(record)));
      }
      return true;
    } catch (error) {
      if (isFull(error)) return false;
      throw error;
    }
  }

  #notify(change: TableChange<R>): void {
    for (const listener of [...this.#listeners]) listener(change);
  }
}

function isFull(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && error.errcode === FULL_CODE;
}
