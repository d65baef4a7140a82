/** The node of a job that is followed there, for the tests of this directory. */
import { delay } from "@std/async/delay";
import type { ScriptOptions } from "../../executors/ssh/session.ts";
import { StreamLines } from "./stream_lines.ts";

/** A frame as a step sends it. */
export const frame = (letter: string, text = ""): string =>
  `${letter}\0\0\0${String.fromCharCode(text.length)}${text}\n`;

/** The node's side of each step: what it was asked, and what it says. */
export class PlayedNode {
  /** Connections over which every step is this one. */
  readonly lines: StreamLines = new StreamLines(() => ({ run: this.#run }) as never, () => {});
  readonly requests: string[][] = [];
  /** How many steps have not ended. */
  steps = 0;
  #say: ((text: string) => Promise<void>) | undefined;
  #end: (() => void) | undefined;

  readonly #run = async (_script: string, { stdin, onStdout, signal }: ScriptOptions) => {
    const frames = (stdin as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
    await frames.next();
    const [, nonce = "", ...fields] = new TextDecoder().decode((await frames.next()).value)
      .split(/[\0\n]/);
    const ended = Promise.withResolvers<void>();
    this.#end = ended.resolve;
    let begun = "";
    this.#say = async (text) => {
      const bytes = Uint8Array.from(begun + text, (letter) => letter.charCodeAt(0));
      begun = "";
      await onStdout?.(bytes);
    };
    begun = nonce;
    this.requests.push(fields.slice(0, 3));
    signal?.addEventListener("abort", () => ended.resolve());
    this.steps++;
    await Promise.race([ended.promise, frames.next()]);
    this.steps--;
    return { code: 1, stdout: new Uint8Array(), stderr: new Uint8Array() };
  };

  async say(...frames: string[]): Promise<void> {
    await this.#say?.(frames.join(""));
  }

  end(): void {
    this.#end?.();
  }

  /** Resolves when so many steps have been asked for. */
  async asked(times: number): Promise<void> {
    while (this.requests.length < times) await delay(1);
  }
}
