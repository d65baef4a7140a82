import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CriError } from "../lib/base/error.ts";
import { type ImageSource, parseImageName } from "./core.ts";
import { randomSource, seedFor } from "./test_random.ts";

const TABLE = new URL("testdata/image_names.tsv", import.meta.url);

/** What the golden table has in its last column. */
function spelt(image: ImageSource): string {
  switch (image.kind) {
    case "docker":
    case "oras":
      return image.full;
    case "shub":
    case "library":
      return image.repository;
    case "https":
      return "-";
    default:
      return image.path;
  }
}

function refusalOf(name: string): CriError {
  const error = assertThrows(() => parseImageName(name), CriError);
  assertEquals(error.code, "INVALID_ARGUMENT");
  return error;
}

Deno.test("parseImageName() reads the names of the golden table", async () => {
  const lines = (await Deno.readTextFile(TABLE)).split("\n");
  for (const line of lines.filter((line) => line !== "" && !line.startsWith("#"))) {
    const [name = "", kind, canonicalOrPosition, rest = ""] = line.split("\t");
    if (kind === "error") {
      const { message } = refusalOf(name);
      assertStringIncludes(message, ` at character ${canonicalOrPosition}: `);
      assertStringIncludes(message, rest, name);
    } else {
      const image = parseImageName(name);
      assertEquals([image.kind, image.canonical, spelt(image)], [kind, canonicalOrPosition, rest]);
    }
  }
});

Deno.test("parseImageName() returns every field of each kind", () => {
  const digest = `sha256:${"0a".repeat(32)}`;
  const table: Record<string, ImageSource> = {
    [`multicri/docker-repository.quay.io/x/y:1@${digest}`]: {
      kind: "docker",
      prefixed: true,
      canonical: `docker://quay.io/x/y@${digest}`,
      url: `docker://quay.io/x/y@${digest}`,
      registry: "quay.io",
      repository: "x/y",
      tag: "1",
      digest,
      familiar: `quay.io/x/y:1@${digest}`,
      full: `quay.io/x/y:1@${digest}`,
    },
    "oras-repository.perl": {
      kind: "oras",
      prefixed: false,
      canonical: "oras://docker.io/library/perl:latest",
      url: "oras://docker.io/library/perl:latest",
      registry: "docker.io",
      repository: "library/perl",
      tag: "latest",
      familiar: "perl:latest",
      full: "docker.io/library/perl:latest",
    },
    "singularity-repository.a/b:1": {
      kind: "shub",
      prefixed: false,
      canonical: "shub://a/b:1",
      url: "shub://a/b:1",
      repository: "a/b",
      tag: "1",
    },
    "library-repository.h.lab/a/b/c": {
      kind: "library",
      prefixed: false,
      canonical: "library://h.lab/a/b/c:latest",
      url: "library://h.lab/a/b/c:latest",
      registry: "h.lab",
      repository: "a/b/c",
      tag: "latest",
    },
    [`https-sif.h.lab/x.sif@${digest}`]: {
      kind: "https",
      prefixed: false,
      canonical: `https://h.lab/x.sif@${digest}`,
      url: "https://h.lab/x.sif",
      digest,
    },
    "multicri/local-def-file.a/b.def:latest": {
      kind: "local-def-file",
      prefixed: true,
      canonical: "local-def-file:a/b.def",
      url: "local-def-file:a/b.def",
      path: "a/b.def",
    },
  };
  for (const [name, image] of Object.entries(table)) assertEquals(parseImageName(name), image);
});

Deno.test("parseImageName() refuses hostile names by a sentence on one line", () => {
  for (
    const name of [
      "a\nb",
      "a\0b",
      "\u202eabc",
      "local-image.\u0007",
      "a".repeat(70_000),
      "\ufeffperl",
    ]
  ) {
    const { message } = refusalOf(name);
    assertEquals([...message].some((character) => /\p{Cc}/u.test(character)), false, message);
    assertEquals(message.length < 500, true);
  }
  refusalOf("half a pair: \ud800");
});

/** The regular expressions of the grammar in `src/reference.rs`, as another way to the same answer. */
const COMPONENT = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const HOST = `(?:${COMPONENT}(?:\\.${COMPONENT})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?`;
const WORD = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const REFERENCE = new RegExp(
  `^(${HOST})/(${WORD}(?:/${WORD})*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(sha256:[a-f0-9]{64}))?$`,
);

/** The normalised reference of a plain name; undefined when it is none. */
function normalised(name: string): string | undefined {
  if (/^(sha256:)?[a-f0-9]{64}$/.test(name)) return undefined;
  let [domain, rest] = ["docker.io", name];
  const slash = name.indexOf("/");
  const first = name.slice(0, Math.max(slash, 0));
  if (first === "localhost" || /[.:]|\p{Lu}/u.test(first)) {
    [domain, rest] = [first, name.slice(slash + 1)];
  }
  if (domain === "index.docker.io") domain = "docker.io";
  if (domain === "docker.io" && !rest.includes("/")) rest = `library/${rest}`;
  const [, host, path = "", tag, digest] = REFERENCE.exec(`${domain}/${rest}`) ?? [];
  if (host === undefined || path.length > 255) return undefined;
  const suffix = tag === undefined && digest === undefined ? ":latest" : "";
  return `${host}/${path}${tag === undefined ? "" : `:${tag}`}${
    digest ? `@${digest}` : ""
  }${suffix}`;
}

Deno.test("parseImageName() agrees with the grammar's regular expressions on random names", () => {
  const seed = seedFor("image names");
  const random = randomSource(seed);
  const hex = "0123456789abcdef".repeat(4);
  const pieces = [
    ..."aZ09-._/:@ é[]",
    ...[
      "--",
      "__",
      "/a",
      ":5000",
      "docker.io/",
      "index.docker.io/",
      "localhost/",
      "[::1]",
      "lab.x",
    ],
    ...["library/", `@sha256:${hex}`, hex, "a/b", "a".repeat(130), "Up/"],
  ];
  let accepted = 0;
  for (let round = 0; round < 20_000; round++) {
    const name = Array.from({ length: 1 + random.below(7) }, () => random.pick(pieces)).join("");
    const expected = normalised(name);
    let found: string | undefined;
    try {
      const image = parseImageName(name);
      found = image.kind === "docker" ? image.full : image.kind;
      accepted++;
    } catch (error) {
      if (!(error instanceof CriError)) throw error;
    }
    assertEquals(found, expected, `seed ${seed}, name ${JSON.stringify(name)}`);
  }
  assertEquals(accepted > 1000 && accepted < 19_000, true, `seed ${seed}: ${accepted} accepted`);
});

Deno.test("parseImageName() gives two different images two canonical names", () => {
  const names = ["a:b", "a/b", "a.b", "a_b", "a-b", "a__b", "docker.io/a", "a.io/b", "a:latest"];
  const prefixes = [
    "",
    "oras-repository.",
    "local-image.",
    "library-repository.",
    "https-sif.h.io/",
  ];
  const meanings = new Map<string, string>();
  for (const name of prefixes.flatMap((prefix) => names.map((name) => prefix + name))) {
    let image: ImageSource;
    try {
      image = parseImageName(name);
    } catch (error) {
      assertEquals(error instanceof CriError, true);
      continue;
    }
    const { canonical } = image;
    const meaning = JSON.stringify(image);
    assertEquals(meanings.get(canonical) ?? meaning, meaning, canonical);
    meanings.set(canonical, meaning);
  }
  assertEquals(meanings.size > 25, true);
});
