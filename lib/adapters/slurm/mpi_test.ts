import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { type MpiSettings, readMpi, splitWords, unusedMpi } from "./mpi.ts";

const read = (values: Record<string, string>, annotation?: string) =>
  readMpi(
    new Map(Object.entries(values)),
    annotation === undefined ? {} : { "multicri.io/mpi": annotation },
  );

const SRUN = (type: string) => ["srun", `--mpi=${type}`, "--kill-on-bad-exit=1"];
const READ: readonly [
  values: Record<string, string>,
  annotation: string | undefined,
  expected: MpiSettings | undefined,
][] = [
  [{}, undefined, undefined],
  [{ MPI_VERSION: " ", MPI_FLAGS: "-np 2" }, "mpirun", undefined],
  [{ MPI_VERSION: "1.10.2", MPI_FLAGS: "-np 2" }, undefined, {
    launcher: ["mpirun", "-np", "2"],
    module: "1.10.2",
    ranks: "2",
  }],
  [{ MPI_VERSION: " default " }, "mpirun", { launcher: ["mpirun"], module: "", ranks: undefined }],
  [{ MPI_VERSION: "OpenMPI/4.1.5-GCC-12.3", MPI_FLAGS: "--ntasks=8 -x 'A B'" }, "pmix_v4", {
    launcher: [...SRUN("pmix_v4"), "--ntasks=8", "-x", "A B"],
    module: "OpenMPI/4.1.5-GCC-12.3",
    ranks: "8",
  }],
  [{ MPI_VERSION: "system", MPI_FLAGS: "-n $N" }, "pmi2", {
    launcher: [...SRUN("pmi2"), "-n", "$N"],
    module: "",
    ranks: undefined,
  }],
];

for (const [values, annotation, expected] of READ) {
  Deno.test(`readMpi() reads ${JSON.stringify([values, annotation])}`, () => {
    assertEquals(read(values, annotation), expected);
  });
}

for (
  const [values, annotation, words] of [
    [{ MPI_VERSION: "/home/u/module" }, undefined, "MPI_VERSION"],
    [{ MPI_VERSION: "../module" }, undefined, "MPI_VERSION"],
    [{ MPI_VERSION: "a/../b" }, undefined, "MPI_VERSION"],
    [{ MPI_VERSION: "-h" }, undefined, "MPI_VERSION"],
    [{ MPI_VERSION: "a b" }, undefined, "MPI_VERSION"],
    [{ MPI_VERSION: "4" }, "none", "multicri.io/mpi"],
    [{ MPI_VERSION: "4" }, "pmix --prolog=x", "multicri.io/mpi"],
    [{ MPI_VERSION: "4", MPI_FLAGS: "-x 'A" }, undefined, "quotes are closed"],
  ] as [Record<string, string>, string | undefined, string][]
) {
  Deno.test(`readMpi() refuses ${JSON.stringify([values, annotation])}`, () => {
    const error = assertThrows(() => read(values, annotation), CriError, words);
    assertEquals(error.code, "INVALID_ARGUMENT");
  });
}

for (
  const [text, words] of [
    ["", []],
    [" \t\n", []],
    ["a  b\nc", ["a", "b", "c"]],
    [`'a b'"c d"e ''`, ["a bc de", ""]],
    [`"a\\"b" 'c\\d' e\\ f \\\\`, ['a"b', "c\\d", "e f", "\\"]],
    ["$(id) `id` $HOME * ; | & # x", ["$(id)", "`id`", "$HOME", "*", ";", "|", "&", "#", "x"]],
  ] as [string, string[]][]
) {
  Deno.test(`splitWords() finds ${words.length} words in ${JSON.stringify(text)}`, () => {
    assertEquals(splitWords(text), words);
  });
}

for (const text of ["'", '"', "a'b c", '"a\\"', "a\\"]) {
  Deno.test(`splitWords() throws for ${JSON.stringify(text)}`, () => {
    assertThrows(() => splitWords(text), CriError, "quotes are closed");
  });
}

Deno.test("unusedMpi() names what means nothing without MPI_VERSION", () => {
  const names = (values: Record<string, string>, annotations: Record<string, string> = {}) =>
    unusedMpi(new Map(Object.entries(values)), annotations).map((line) => line.split(":")[0]);
  assertEquals(names({ MPI_FLAGS: " " }), []);
  assertEquals(names({ MPI_FLAGS: "-np 2" }, { "multicri.io/mpi": "pmix" }), [
    "MPI_FLAGS",
    'the annotation "multicri.io/mpi"',
  ]);
});
