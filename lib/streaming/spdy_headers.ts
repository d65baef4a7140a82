/**
 * Header blocks of SPDY/3.1: names and values, compressed by one zlib stream for all blocks of a direction
 * (draft-mbelshe-httpbis-spdy-00, 2.6.10).
 */
import { constants, createInflate, type Inflate } from "node:zlib";
import { concat } from "@std/bytes/concat";
import { ProtocolError } from "./spdy_frames.ts";

/** Of one block, inflated; those of Kubernetes' clients have some hundred bytes. */
const MAX_BLOCK_BYTES = 64 * 1024;

/** What the dictionary begins with: each word behind its length of 32 bits. */
const DICTIONARY_WORDS = (
  "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|" +
  "accept-ranges|age|allow|authorization|cache-control|connection|content-base|" +
  "content-encoding|content-language|content-length|content-location|content-md5|content-range|" +
  "content-type|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|" +
  "if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|proxy-authenticate|" +
  "proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|" +
  "user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|" +
  "public|set-cookie|keep-alive|origin"
).split("|");

/** What follows as it is. */
const DICTIONARY_TEXT =
  "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505" +
  "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Una" +
  "uthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service" +
  " UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, " +
  "Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,applicat" +
  "ion/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf" +
  "-8charset=iso-8859-1,utf-,*,enq=0.";

/** Of the draft; both sides' zlib streams start from it. */
const DICTIONARY = concat([
  ...DICTIONARY_WORDS.map(withLength),
  new TextEncoder().encode(DICTIONARY_TEXT),
]);

/** Reads the header blocks of one connection, in their order. */
export class HeaderReader {
  readonly #inflate: Inflate;
  #block: Uint8Array[] = [];
  #blockBytes = 0;
  readonly #failed = Promise.withResolvers<never>();

  constructor() {
    this.#inflate = createInflate({ dictionary: DICTIONARY, finishFlush: constants.Z_SYNC_FLUSH });
    this.#failed.promise.catch(() => {
      // Whoever reads is told.
    });
    // Also for after the last block: an error without a listener would end this process.
    this.#inflate.on("error", (error) => this.#failed.reject(error));
    this.#inflate.on("data", (piece: Uint8Array) => {
      this.#blockBytes += piece.length;
      if (this.#blockBytes > MAX_BLOCK_BYTES) this.#failed.reject(new Error("it is too long"));
      else this.#block.push(piece);
    });
  }

  /** The headers by their names in lower case. One call at a time. @throws ProtocolError */
  async read(compressed: Uint8Array): Promise<Map<string, string>> {
    this.#block = [];
    this.#blockBytes = 0;
    try {
      const written = new Promise<void>((resolve) =>
        this.#inflate.write(compressed, () => resolve())
      );
      await Promise.race([written, this.#failed.promise]);
      return parseHeaders(concat(this.#block));
    } catch (error) {
      throw new ProtocolError("a header block cannot be read", { cause: error });
    }
  }

  close(): void {
    this.#failed.reject(new Error("the connection is over"));
    this.#inflate.close();
  }
}

/** @throws ProtocolError */
function parseHeaders(block: Uint8Array): Map<string, string> {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const decoder = new TextDecoder();
  let at = 0;
  const number = () => {
    if (at + 4 > block.length) throw new ProtocolError("a header block is too short");
    at += 4;
    return view.getUint32(at - 4);
  };
  const text = () => {
    const length = number();
    if (at + length > block.length) throw new ProtocolError("a header block is too short");
    at += length;
    return decoder.decode(block.subarray(at - length, at));
  };
  const headers = new Map<string, string>();
  for (let left = number(); left > 0; left--) headers.set(text().toLowerCase(), text());
  return headers;
}

/** A zlib header without dictionary and with the least compression (RFC 1950). */
const ZLIB_HEADER = Uint8Array.of(0x78, 0x01);
/** The number of headers, none, in a stored block, and an empty one at which Go's inflater gives it out (RFC 1951). */
const NO_HEADERS = Uint8Array.of(0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

/** A block without headers, the only one that we send; the first of a connection begins the zlib stream. */
export function emptyHeaderBlock(isFirst: boolean): Uint8Array {
  return isFirst ? concat([ZLIB_HEADER, NO_HEADERS]) : NO_HEADERS;
}

/** The text behind its length in bytes. */
function withLength(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length);
  return concat([length, bytes]);
}
