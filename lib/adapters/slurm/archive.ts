import { Buffer } from "node:buffer";
import { pack } from "tar-stream";

/** A file, directory or symbolic link that goes to the cluster; `name` is relative. */
export type ArchiveEntry =
  & { name: string }
  & (
    | { kind: "file"; mode: number; content: Uint8Array | string }
    | { kind: "directory"; mode: number }
    | { kind: "link"; target: string }
  );

/** A tar archive of them (POSIX.1-2001, so names may be long and hold any character), in their order. */
export async function archiveOf(entries: readonly ArchiveEntry[]): Promise<Uint8Array> {
  const archive = pack();
  for (const entry of entries) {
    const { name } = entry;
    switch (entry.kind) {
      case "file":
        // tar-stream takes an empty string for a content that is still to come.
        archive.entry({ name, mode: entry.mode }, bytesOf(entry.content));
        break;
      case "directory":
        archive.entry({ name, mode: entry.mode, type: "directory" });
        break;
      case "link":
        archive.entry({ name, type: "symlink", linkname: entry.target });
        break;
      default:
        entry satisfies never;
    }
  }
  archive.finalize();
  const chunks: BlobPart[] = [];
  for await (const chunk of archive) chunks.push(chunk as Uint8Array<ArrayBuffer>);
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

function bytesOf(content: Uint8Array | string) {
  return Buffer.from(typeof content === "string" ? new TextEncoder().encode(content) : content);
}
