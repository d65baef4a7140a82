/** Longer lines are no messages; what a program draws on one line (progress bars) is one. */
const MAX_LINE_CHARACTERS = 1000;
/** Enough to see how a build goes; a hostile definition file must not fill the node's disk through a log. */
const MAX_LINES = 1000;

// deno-lint-ignore no-control-regex
const COLOURS = /\x1b\[[0-9;]*[A-Za-z]/g;
// deno-lint-ignore no-control-regex
const CONTROLS = /[\x00-\x1f\x7f]/g;

/** A program's output as lines for a person: without colours, empty lines and redrawn progress. */
export class OutputLines {
  /** The last line so far. */
  last = "";
  #rest = "";
  #count = 0;
  readonly #decoder = new TextDecoder();

  constructor(private readonly write: (line: string) => Promise<void>) {}

  async add(piece: Uint8Array): Promise<void> {
    const lines = (this.#rest + this.#decoder.decode(piece, { stream: true })).split("\n");
    this.#rest = (lines.pop() ?? "").slice(-MAX_LINE_CHARACTERS);
    for (const line of lines) await this.#tell(line);
  }

  /** Writes what had no newline behind it. */
  async end(): Promise<void> {
    await this.#tell(this.#rest);
    this.#rest = "";
  }

  async #tell(line: string): Promise<void> {
    const plain = (line.split("\r").findLast((part) => part !== "") ?? "")
      .replaceAll(COLOURS, "").replaceAll(CONTROLS, " ").trim().slice(0, MAX_LINE_CHARACTERS);
    if (plain === "") return;
    this.last = plain;
    if (this.#count++ < MAX_LINES) await this.write(plain);
  }
}
