/** Images that are not docker://: SIFs from a registry, from a web server and from a volume, on the real lab. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { Lab } from "../../scripts/lab/lab.ts";
import { makeCertificate } from "./certificate.ts";
import { Harness } from "./harness.ts";

/** Where the site of these tests keeps its images. */
const SITE_IMAGES = "/home/site-images";
const TLS_PORT = 8443;

let harness: Harness;
let webs: Deno.HttpServer[];
/** The SIFs, as bytes: one by a definition file with a runscript, one converted from the image `entry`. */
let sifs: { defined: Uint8Array<ArrayBuffer>; converted: Uint8Array<ArrayBuffer> };

Deno.test.beforeAll(async () => {
  // The certificate must be there before the server is.
  const lab = new Lab();
  await lab.up();
  const certificate = await makeCertificate(`IP:${lab.address("machine")},DNS:singularity-hub.org`);
  await Deno.writeTextFile(lab.path("knode", "/run/web-ca.pem"), certificate.cert);
  harness = await Harness.start({
    name: "sources",
    env: { SSL_CERT_FILE: "/run/web-ca.pem", CRI_SLURM_SITE_IMAGES: SITE_IMAGES },
  });
  sifs = await makeSifs();
  // Singularity Hub's client knows no other port.
  webs = [TLS_PORT, 443].map((port) => serve(lab, port, certificate));
});

function serve(
  lab: Lab,
  port: number,
  certificate: { cert: string; key: string },
): Deno.HttpServer {
  return Deno.serve(
    { hostname: lab.address("machine"), port, ...certificate, onListen: () => {} },
    (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/images/Tool.sif") return new Response(sifs.defined);
      if (pathname.startsWith("/v1/")) return library(pathname);
      if (pathname === "/api/container/labs/tool:latest") {
        const image = `https://${lab.address("machine")}:${TLS_PORT}/images/Tool.sif`;
        return Response.json({ image, name: "labs/tool", tag: "latest", version: "0" });
      }
      if (pathname === "/images/text.sif") return new Response("<html>no image</html>");
      return new Response("no such file", { status: 404 });
    },
  );
}
Deno.test.afterAll(async () => {
  await Promise.all(webs?.map((web) => web.shutdown()));
  await harness?.stop();
});

/** A Sylabs library with one image. */
async function library(pathname: string): Promise<Response> {
  if (pathname === "/v1/images/labs/tools/tool:1") {
    const hash = `sha256.${await sha256(sifs.defined)}`;
    const size = sifs.defined.length;
    return Response.json({ data: { id: "1", hash, size, uploaded: true, arch: "amd64" } });
  }
  return pathname === "/v1/imagefile/labs/tools/tool:1"
    ? new Response(sifs.defined)
    : new Response('{"error":{"code":404,"message":"no such image"}}', { status: 404 });
}

async function makeSifs(): Promise<typeof sifs> {
  const { lab } = harness;
  const definition = `Bootstrap: docker
From: ${lab.registry}/${lab.images.busybox}
%environment
    export FROM_DEFINITION="set by the image"
%runscript
    echo "runscript of the image"
    for argument in "$@"; do echo "argument=$argument"; done
    echo "FROM_DEFINITION=$FROM_DEFINITION"
`;
  await Deno.writeTextFile(lab.path("knode", "/run/tool.def"), definition);
  const { code, stderr } = await lab.exec("knode", [
    "sh",
    "-euc",
    `cd /run
apptainer --silent build --force tool.sif tool.def
apptainer --silent pull --force entry.sif docker://${lab.registry}/${lab.images.entry}
for name in tool entry; do
  apptainer --silent push --no-https $name.sif oras://${lab.registry}/sif/$name:1
done`,
  ], { timeoutMs: 120_000 });
  assertEquals(code, 0, stderr);
  const read = (name: string) => Deno.readFile(lab.path("knode", `/run/${name}.sif`));
  return { defined: await read("tool"), converted: await read("entry") };
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

async function runToEnd(
  image: string,
  spec: Parameters<Harness["run"]>[0] = {},
): Promise<{ code: number; lines: string[] }> {
  const made = await harness.run({ image, ...spec });
  const { status } = await harness.exited(made.container);
  const { stdout, stderr } = await harness.logs(made.container);
  await harness.server.crictlOk(["rmp", "--force", made.pod]);
  return { code: status.exitCode, lines: [...stdout, ...stderr] };
}

const RUNSCRIPT_LINES = [
  "runscript of the image",
  "argument=one",
  "argument=$HOME two",
  "FROM_DEFINITION=set by the image",
];
const runscriptArgs = ["one", "$HOME two"];

Deno.test("a SIF that was pushed to a registry runs by its runscript, with the pod's args", async () => {
  const image = "multicri/oras-repository.registry.lab/sif/tool:1";
  const id = await harness.server.crictlOk(["pull", image]);
  assertMatch(id, new RegExp(`sha256:${await sha256(sifs.defined)}`));
  assertEquals(await runToEnd(image, { args: runscriptArgs }), { code: 0, lines: RUNSCRIPT_LINES });
  const own = await runToEnd(image, { command: ["/bin/echo", "the pod's own"] });
  assertEquals(own, { code: 0, lines: ["the pod's own"] });
});

Deno.test("a SIF that was converted from an OCI image runs as that image", async () => {
  const image = "multicri/oras-repository.registry.lab/sif/entry:1";
  await harness.server.crictlOk(["pull", image]);
  const { lines } = await runToEnd(image);
  assertEquals(lines.slice(0, 5), [
    "arg1=from entrypoint",
    "arg2=from cmd",
    "arg3=$HOME",
    'GREETING=hello from the image\'s "$ENV"',
    "pwd=/srv/work",
  ]);
  const { status } = JSON.parse(await harness.server.crictlOk(["inspecti", "-o", "json", image]));
  assertEquals([status.uid?.value, status.repoTags], ["1234", [image]]);
});

Deno.test("a SIF comes from a web server under an escaped name, once for one content", async () => {
  const where = `${harness.lab.address("machine")}0x--3a${TLS_PORT}`;
  // What the kubelet makes of it: no port, no upper case, and :latest behind.
  const image = `multicri/https-sif.${where}/images/0x--54ool.sif:latest`;
  await harness.server.crictlOk(["pull", image]);
  assertEquals((await runToEnd(image, { args: runscriptArgs })).lines, RUNSCRIPT_LINES);
  const list = JSON.parse(await harness.server.crictlOk(["images", "-o", "json"])).images;
  const id = `sha256:${await sha256(sifs.defined)}`;
  const [found] = list.filter((one: { id: string }) => one.id === id);
  assert(found.repoTags.includes(image), JSON.stringify(found));
  // By its digest it is what was asked for, or nothing.
  const wrong = `multicri/https-sif.${where}/images/0x--54ool.sif@sha256:${"0".repeat(64)}`;
  const { code, stderr } = await harness.server.crictl(["pull", wrong]);
  assertEquals(code === 0, false);
  assertMatch(stderr, /its digest must be sha256:0000/);
});

Deno.test("a SIF comes from a library and from Singularity Hub's like", async () => {
  const machine = harness.lab.address("machine");
  const hosts = harness.lab.path("knode", "/etc/hosts");
  const before = await Deno.readTextFile(hosts);
  await Deno.writeTextFile(hosts, `${before}${machine} singularity-hub.org\n`);
  try {
    for (
      const image of [
        `multicri/library-repository.${machine}0x--3a${TLS_PORT}/labs/tools/tool:1`,
        "multicri/singularity-repository.labs/tool:latest",
      ]
    ) {
      const said = await harness.server.crictlOk(["pull", image]);
      assertMatch(said, new RegExp(`sha256:${await sha256(sifs.defined)}`));
    }
  } finally {
    await Deno.writeTextFile(hosts, before);
  }
});

for (
  const [name, says] of [
    ["https-sif.MACHINE0x--3a8443/images/text.sif", /must be a SIF/],
    ["https-sif.MACHINE0x--3a8443/images/none.sif", /NotFound.*the requested image was not found/],
    ["https-sif.MACHINE0x--3a1/x.sif", /apptainer says: .*connection refused/],
    ["oras-repository.registry.lab/lab/busybox:1", /holds no SIF/],
    ["oras-repository.registry.lab/sif/none:1", /has no such image/],
    ["docker-repository.registry.lab/sif/tool:1", /oras-repository/],
    ["singularity-repository.jorgesece/singularity-nginx", /Singularity Hub was shut down in 2021/],
    ["library-repository.sylabs/examples/lolcow", /library:\/\/sylabs\/examples\/lolcow:latest/],
  ] as const
) {
  Deno.test(`a pull ends with a sentence and leaves nothing when the image is ${name}`, async () => {
    const image = `multicri/${name.replace("MACHINE", harness.lab.address("machine"))}`;
    const before = await harness.server.crictlOk(["images", "-q"]);
    const { code, stderr } = await harness.server.crictl(["pull", image]);
    assert(code !== 0, "it was pulled");
    assertMatch(stderr, says);
    assertEquals(await harness.server.crictlOk(["images", "-q"]), before);
    const work = await harness.lab.exec("knode", ["ls", join(harness.server.cachePath, "work")]);
    assertEquals(work.stdout, "");
  });
}

/** As the kubelet mounts a persistent volume by NFS. */
const volume = (claim: string) => ({
  host_path: `/var/lib/kubelet/pods/u/volumes/kubernetes.io~nfs/${claim}`,
  container_path: "/multicri",
});

Deno.test("an image runs from the container's volume, and the volume is there", async () => {
  const directory = join(harness.lab.homePath, "multi-cri/claim1/images");
  await Deno.mkdir(directory, { recursive: true });
  await Deno.writeFile(join(directory, "Tool v1.img"), sifs.defined);
  const image = "multicri/local-image.images/0x--54ool0x--20v1.img:latest";
  await harness.server.crictlOk(["pull", image]);
  const { user } = harness.lab.login;
  await harness.lab.exec("ctl", ["chown", "-R", user, `/home/${user}/multi-cri/claim1`]);
  const mounts = [volume("claim1")];
  assertEquals(await runToEnd(image, { args: runscriptArgs, mounts }), {
    code: 0,
    lines: RUNSCRIPT_LINES,
  });
  await runToEnd(image, { command: ["/bin/sh", "-c", "echo 42 >/multicri/answer"], mounts });
  assertEquals(await harness.onCluster("cat multi-cri/claim1/answer"), "42");
  await harness.onCluster("rm -r multi-cri/claim1");
});

Deno.test("an image of the site runs where there is no volume", async () => {
  await harness.lab.exec("ctl", ["mkdir", "-p", SITE_IMAGES]);
  const path = join(harness.lab.homePath, "..", "site-images");
  await Deno.writeFile(join(path, "tool.sif"), sifs.defined);
  await Deno.chmod(join(path, "tool.sif"), 0o444);
  const image = "multicri/local-image.tool.sif";
  await harness.server.crictlOk(["pull", image]);
  assertEquals((await runToEnd(image, { args: runscriptArgs })).lines, RUNSCRIPT_LINES);
  await harness.lab.exec("ctl", ["rm", "-r", SITE_IMAGES]);
});

for (
  const [what, says, make] of [
    ["is not there", /no readable file of that name/, ""],
    ["lies outside", /a link leads out of its volume/, "ln -s /etc/passwd multi-cri/claim2/x.img"],
  ] as const
) {
  Deno.test(`a start fails with a sentence when the image in the volume ${what}`, async () => {
    await harness.onCluster(`mkdir -p multi-cri/claim2; ${make}`);
    const image = "multicri/local-image.x.img";
    await harness.server.crictlOk(["pull", image]);
    const made = await harness.create({ image, mounts: [volume("claim2")] });
    const { code, stderr } = await harness.server.crictl(["start", made.container]);
    assert(code !== 0);
    assertMatch(stderr, says);
    assertEquals((await harness.inspect(made.container)).status.state, "CONTAINER_EXITED");
    await harness.server.crictlOk(["rmp", "--force", made.pod]);
    await harness.onCluster("rm -r multi-cri/claim2");
  });
}

Deno.test("an image is built on the cluster from a definition file in the volume, once", async () => {
  const { lab } = harness;
  await harness.onCluster("mkdir -p multi-cri/claim3/build");
  await harness.onCluster(`cat >multi-cri/claim3/build/perl.def <<'END'
Bootstrap: docker
From: ${lab.registry}/${lab.images.busybox}
%files
    data.txt /data.txt
%runscript
    cat /data.txt
END
echo "of the definition" >multi-cri/claim3/build/data.txt`);
  const image = "multicri/local-def-file.build/perl.def";
  await harness.server.crictlOk(["pull", image]);
  const mounts = [volume("claim3")];
  const made = await Promise.all([harness.run({ image, mounts }), harness.run({ image, mounts })]);
  const built: string[] = [];
  for (const { container } of made) {
    const { status } = await harness.exited(container);
    const { stdout, own } = await harness.logs(container);
    assertEquals([status.exitCode, stdout], [0, ["of the definition"]]);
    built.push(...own.filter((line) => line.startsWith("building the image from")));
  }
  assertEquals(built, [`building the image from build/perl.def on ${account()}`]);
  await harness.onCluster("sed -i 's,^From:.*,&-none,' multi-cri/claim3/build/perl.def");
  const failed = await harness.create({ image, mounts });
  const { stderr } = await harness.server.crictl(["start", failed.container]);
  assertMatch(stderr, /Cannot make the image \(building the image from build\/perl.def\)/);
  for (const { pod } of [...made, failed]) await harness.server.crictlOk(["rmp", "--force", pod]);
  await harness.onCluster("rm -r multi-cri/claim3");
  assertEquals(await harness.onCluster("ls multi-cri/.images | grep -v 'sif$' || true"), "");
});

function account(): string {
  const { user, host, port } = harness.lab.login;
  return `${user}@${host}:${port}`;
}
