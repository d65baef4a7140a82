import { assertEquals } from "@std/assert";
import sftpModule from "ssh2/lib/protocol/SFTP.js";
import { bannerLength, skipSftpBanners } from "./sftp_banner.ts";

const VERSION = [0, 0, 0, 5, 2, 0, 0, 0, 3];

for (
  const [bytes, length] of [
    [[], 0],
    [VERSION, 0],
    [[87, 10], 2],
    [[87, 10, ...VERSION], 2],
  ] as [number[], number][]
) {
  Deno.test(`bannerLength() says ${length} of ${JSON.stringify(bytes)}`, () => {
    assertEquals(bannerLength(Uint8Array.from(bytes)), length);
  });
}

Deno.test("skipSftpBanners() lets a reader see only packets, whatever comes before and in whichever pieces", () => {
  skipSftpBanners();
  for (
    const pieces of [[VERSION], [[87], [101, 10, ...VERSION]], [
      [87, ...VERSION.slice(0, 3)],
      VERSION.slice(3),
    ]]
  ) {
    const client = {
      _protocol: { _remoteIdentRaw: "SSH-2.0-OpenSSH_9", channelData() {} },
      on() {},
    };
    const reader = new sftpModule.SFTP(client, { type: "sftp", incoming: {}, outgoing: {} });
    let ready = false;
    reader.on("ready", () => ready = true);
    reader.on("error", (error: Error) => {
      throw error;
    });
    for (const piece of pieces) reader.push(Uint8Array.from(piece));
    assertEquals(ready, true, JSON.stringify(pieces));
  }
});
