import { create } from "@bufbuild/protobuf";
import {
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
  type FileDescriptorSet,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import {
  compareFacts,
  compareWithUpstream,
  generate,
  GENERATED,
  ROOT,
  wireFacts,
} from "./proto.ts";

Deno.test("lib/cri/api.generated.ts is what proto/ generates", async () => {
  const committed = await Deno.readTextFile(join(ROOT, GENERATED));
  assert(await generate() === committed, "run `deno task proto` and commit the result");
});

Deno.test("proto/ describes the wire of k8s.io/cri-api", async (t) => {
  const comparison = await compareWithUpstream();
  if (comparison.kind === "impossible") {
    // A step of its own, so that the summary counts what was not proved.
    await t.step({ name: `NOT COMPARED: ${comparison.reason}`, ignore: true, fn: () => {} });
  } else {
    assertEquals(comparison, { kind: "same" });
  }
});

function sample(): FileDescriptorSet {
  return create(FileDescriptorSetSchema, {
    file: [{
      package: "p",
      service: [{ name: "S", method: [{ name: "Call", inputType: ".p.M", outputType: ".p.M" }] }],
      messageType: [{
        name: "M",
        field: [
          { name: "a_b", number: 1, type: Type.STRING, label: Label.OPTIONAL, jsonName: "aB" },
          { name: "e", number: 2, type: Type.ENUM, typeName: ".p.E", label: Label.REPEATED },
        ],
        nestedType: [{ name: "Entry", options: { mapEntry: true } }],
      }],
      enumType: [{ name: "E", value: [{ name: "ZERO", number: 0 }] }],
    }],
  });
}

Deno.test("wireFacts() tells services, fields and enum values apart from everything else", () => {
  assertEquals(wireFacts(sample()), [
    "enum .p.E: ZERO = 0",
    "message .p.M",
    "message .p.M.Entry (entry of a map)",
    "message .p.M: optional string a_b = 1 (JSON aB)",
    "message .p.M: repeated .p.E e = 2 (JSON )",
    "service .p.S: Call(.p.M) → .p.M",
  ]);
});

type File = FileDescriptorSet["file"][number];
const field = (file: File) => first(first(file.messageType).field);
const enumValue = (file: File) => first(first(file.enumType).value);
const rpc = (file: File) => first(first(file.service).method);

function first<T>(list: readonly T[]): T {
  const [value] = list;
  if (value === undefined) throw new Error("The sample has nothing there.");
  return value;
}

const CHANGES: readonly [what: string, change: (file: File) => void][] = [
  ["a field has another number", (file) => field(file).number = 7],
  ["a field has another type", (file) => field(file).type = Type.BYTES],
  ["a field has another label", (file) => field(file).label = Label.REPEATED],
  ["a field has another name", (file) => field(file).name = "c"],
  ["a field tells absence apart", (file) => field(file).proto3Optional = true],
  ["a field is missing", (file) => first(file.messageType).field.pop()],
  ["a message is missing", (file) => file.messageType.pop()],
  ["an enum value has another number", (file) => enumValue(file).number = 1],
  ["an RPC is missing", (file) => first(file.service).method.pop()],
  ["an RPC streams its answer", (file) => rpc(file).serverStreaming = true],
  ["an RPC streams its request", (file) => rpc(file).clientStreaming = true],
  ["an RPC takes another message", (file) => rpc(file).inputType = ".p.N"],
  ["the package has another name", (file) => file.package = "q"],
];

for (const [what, change] of CHANGES) {
  Deno.test(`compareFacts() finds a difference when ${what}`, () => {
    const changed = sample();
    assertEquals(compareFacts(wireFacts(changed), wireFacts(sample())), []);
    change(first(changed.file));
    assert(compareFacts(wireFacts(changed), wireFacts(sample())).length > 0);
  });
}
