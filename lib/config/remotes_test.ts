import { assertEquals, assertThrows } from "@std/assert";
import { parseHandlers, parseRemotes } from "./remotes.ts";

const OWN = "/var/run/multicri.sock";

Deno.test("parseRemotes() reads names and sockets in both spellings", () => {
  assertEquals(parseRemotes("", OWN), []);
  assertEquals(
    parseRemotes("default:/run/containerd//containerd.sock,k-2:unix:///run/a:b.sock", OWN),
    [
      { name: "default", socketPath: "/run/containerd/containerd.sock" },
      { name: "k-2", socketPath: "/run/a:b.sock" },
    ],
  );
});

const REFUSED: [list: string, words: string][] = [
  ["/run/containerd.sock", "must be name:endpoint"],
  ["Default:/run/a.sock", "must be name:endpoint"],
  ["-a:/run/a.sock", "must be name:endpoint"],
  ["multicri:/run/a.sock", "this runtime itself"],
  ["a:tcp://127.0.0.1:1", "not tcp"],
  ["a:npipe:////./pipe/x", "not npipe"],
  ["a:run/a.sock", "path of a unix socket"],
  ["a:unix://run/a.sock", "path of a unix socket"],
  ["a:", "path of a unix socket"],
  ["a:/run/multicri.sock", "that multicri serves itself"],
  ["a:/var/run//multicri.sock", "that multicri serves itself"],
  ["a:/x,a:/y", "two remote runtimes 'a'"],
  ["a:/run/x.sock,b:/var/run/x.sock", "add --runtime-handlers b=a"],
  ["a:/x,b:unix:///x", "add --runtime-handlers b=a"],
];
for (const [list, words] of REFUSED) {
  Deno.test(`parseRemotes() refuses '${list}' with a sentence`, () => {
    assertThrows(() => parseRemotes(list, OWN), Error, words);
  });
}

const REMOTES = parseRemotes("default:/a,crio:/b", OWN);

Deno.test("parseHandlers() reads handlers with and without the remote's own name", () => {
  assertEquals(parseHandlers("", REMOTES), []);
  assertEquals(parseHandlers("nvidia=default/nvidia-cdi.v1, plain=crio", REMOTES), [
    { handler: "nvidia", remote: "default", remoteHandler: "nvidia-cdi.v1" },
    { handler: "plain", remote: "crio", remoteHandler: "" },
  ]);
});

const REFUSED_HANDLERS: [list: string, words: string][] = [
  ["nvidia", "handler=remote"],
  ["Nvidia=default", "handler=remote"],
  ["nvidia=default/a b", "handler=remote"],
  ["nvidia=kata/x", "no remote runtime 'kata'; --remote-runtime-endpoints names 'default', 'crio'"],
  ["multicri=default", "'multicri' is taken"],
  ["crio=default", "'crio' is taken"],
  ["a=default,a=crio", "'a' is taken"],
];
for (const [list, words] of REFUSED_HANDLERS) {
  Deno.test(`parseHandlers() refuses '${list}' with a sentence`, () => {
    assertThrows(() => parseHandlers(list, REMOTES), Error, words);
  });
}
