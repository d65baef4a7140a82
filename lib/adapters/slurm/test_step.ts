/** A program of ours for compute nodes, run on this machine, with its input and output by hand. */
import { READ_PROGRAM } from "./step_script.ts";
import { type Frame, FrameReader, inputFrame } from "../steps/frames.ts";

export const NONCE = "0123456789abcdef0123456789abcdef";

export class TestStep {
  /** Every frame but output. */
  readonly frames: Frame[] = [];
  readonly output = { stdout: "", stderr: "" };
  readonly ended: Promise<void>;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  #changed = Promise.withResolvers<void>();

  /** `request` is encoded with NONCE in it. */
  constructor(program: Uint8Array, request: Uint8Array) {
    const child = new Deno.Command("perl", {
      args: ["-w", "-e", READ_PROGRAM],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#stdin = child.stdin.getWriter();
    this.ended = this.#run(child);
    this.#write(program);
    this.#write(request);
  }

  /** Sends input. */
  type(text: string): void {
    this.#write(inputFrame("i", new TextEncoder().encode(text)));
  }

  endInput(): void {
    this.#write(inputFrame("e", new Uint8Array()));
  }

  resize(columns: number, rows: number): void {
    this.#write(inputFrame("w", new TextEncoder().encode(`${columns} ${rows}`)));
  }

  /** From here on nobody waits. */
  async abandon(): Promise<void> {
    await this.#stdin.close().catch(() => {});
    await this.ended;
  }

  /** Waits until stdout, or stderr, matches. */
  async shows(pattern: RegExp, stream: "stdout" | "stderr" = "stdout"): Promise<void> {
    while (!pattern.test(this.output[stream])) await this.#change();
  }

  /** Waits until there is such a frame. */
  async tells(kind: Frame["kind"]): Promise<void> {
    while (!this.frames.some((frame) => frame.kind === kind)) await this.#change();
  }

  async #change(): Promise<void> {
    await Promise.race([
      this.#changed.promise,
      this.ended.then(() => {
        throw new Error(`it ended: ${JSON.stringify([this.frames, this.output])}`);
      }),
    ]);
  }

  #write(bytes: Uint8Array): void {
    this.#stdin.write(bytes).catch(() => {
      // It ended before.
    });
  }

  async #run(child: Deno.ChildProcess): Promise<void> {
    const decoder = { stdout: new TextDecoder(), stderr: new TextDecoder() };
    const reader = new FrameReader(NONCE, (frame) => {
      if (frame.kind === "stdout" || frame.kind === "stderr") {
        this.output[frame.kind] += decoder[frame.kind].decode(frame.bytes, { stream: true });
      } else this.frames.push(frame);
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
    });
    const noise = new Response(child.stderr).text();
    for await (const piece of child.stdout) reader.add(piece);
    const { code } = await child.status;
    await this.#stdin.abort().catch(() => {});
    if (code !== 0 || await noise !== "") throw new Error(`ended with ${code}: ${await noise}`);
  }
}
