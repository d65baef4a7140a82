import { assertEquals } from "@std/assert";
import { mirrorOf } from "./debian.ts";

const DEB822 = `Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
`;

Deno.test("mirrorOf() finds the Debian mirror among apt's sources", () => {
  const list = (text: string) => [{ path: "/etc/apt/sources.list", text }];
  const deb822 = (text: string) => [{ path: "/etc/apt/sources.list.d/debian.sources", text }];
  const cases: [string, { path: string; text: string }[], string | undefined][] = [
    ["deb822", deb822(DEB822), "http://mirror.example/debian"],
    [
      "one line",
      list("deb http://m.example/debian trixie main contrib\n"),
      "http://m.example/debian",
    ],
    [
      "one line with options and comment",
      list("deb [arch=amd64 signed-by=/k] http://m.example/debian/ sid main # note"),
      "http://m.example/debian/",
    ],
    ["mirror list", list("deb mirror+file:/m.list bookworm main"), "mirror+file:/m.list"],
    [
      "its own archive first, whatever the order",
      list("deb https://other.example/x bookworm main\ndeb http://m.example/debian bookworm main"),
      "http://m.example/debian",
    ],
    [
      "another path",
      list("deb http://proxy.example/deb-remote stable main"),
      "http://proxy.example/deb-remote",
    ],
    ["source packages", list("deb-src http://m.example/debian sid main"), undefined],
    ["a comment", list("# deb http://m.example/debian sid main"), undefined],
    [
      "security only",
      list("deb http://m.example/debian-security bookworm-security main"),
      undefined,
    ],
    [
      "no component main",
      list("deb https://docker.example/linux/debian bookworm stable"),
      undefined,
    ],
    ["another distribution", list("deb http://archive.example/ubuntu noble main"), undefined],
    ["switched off", deb822(`Enabled: no\n${DEB822.split("\n\n")[0]}`), undefined],
    ["nothing", [], undefined],
  ];
  for (const [name, files, expected] of cases) assertEquals(mirrorOf(files), expected, name);
});
