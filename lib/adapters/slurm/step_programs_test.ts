import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { encodeRequest, type EnterRequest } from "./step_programs.ts";

const NONCE = "00112233445566778899aabbccddeeff";
const REQUEST: EnterRequest = {
  nonce: NONCE,
  jobId: "17",
  directory: "/home/ü/c",
  workingDirectory: "/",
  timeoutMs: 1,
  waitMs: 2,
  maxOutputBytes: 3,
  stdio: "tty",
  argv: ["a b", "", "\n"],
};

Deno.test("encodeRequest() counts bytes and ends each field by NUL", () => {
  const fields = [NONCE, "/home/ü/c", "17", "/", "1", "2", "3", "tty", "a b", "", "\n"].join("\0") +
    "\0";
  const bytes = new TextEncoder().encode(fields);
  assertEquals(new TextDecoder().decode(encodeRequest(REQUEST)), `${bytes.length}\n${fields}`);
});

Deno.test("encodeRequest() throws when a word holds NUL", () => {
  const error = assertThrows(() => encodeRequest({ ...REQUEST, argv: ["a", "b\0"] }), CriError);
  assertEquals(error.code, "INVALID_ARGUMENT");
});
