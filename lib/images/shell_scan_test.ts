import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { hasShell } from "./shell_scan.ts";
import { tarOf } from "./test_layout.ts";

const gzip = async (bytes: Uint8Array<ArrayBuffer>) =>
  new Uint8Array(
    await new Response(
      new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip")),
    ).arrayBuffer(),
  );

const LAYERS: readonly [string, (() => Promise<Uint8Array<ArrayBuffer>>)[], boolean][] = [
  [
    "a zipped layer has /bin/sh",
    [async () => await gzip(await tarOf(["etc/x", "bin/sh", "z"]))],
    true,
  ],
  ["the shell lies in usr/bin", [() => tarOf(["./usr/bin/sh"])], true],
  ["an upper layer brings it", [
    async () => await gzip(await tarOf(["a"])),
    () => tarOf(["/bin/sh"]),
  ], true],
  ["no layer has it", [async () => await gzip(await tarOf(["bin/bash", "opt/bin/sh"]))], false],
  ["a layer is damaged", [() => Promise.resolve(new Uint8Array([0x1f, 0x8b, 1, 2, 3]))], false],
  ["a layer is no archive", [() => Promise.resolve(new TextEncoder().encode("text"))], false],
  ["there are no layers", [], false],
];

for (const [name, layers, expected] of LAYERS) {
  Deno.test(`hasShell() says ${expected} when ${name}`, async () => {
    const layout = await Deno.makeTempDir();
    try {
      const blobs = join(layout, "blobs", "sha256");
      await Deno.mkdir(blobs, { recursive: true });
      const digests: string[] = [];
      for (const layer of layers) {
        const bytes = await layer();
        const hex = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
        await Deno.writeFile(join(blobs, hex), bytes);
        digests.push(`sha256:${hex}`);
      }
      assertEquals(await hasShell(layout, digests), expected);
    } finally {
      await Deno.remove(layout, { recursive: true });
    }
  });
}
