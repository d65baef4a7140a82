/** A program that serves an empty backend on the socket it is told, to be run with scoped permissions and killed. */
import { systemClock } from "../base/clock.ts";
import { createLogger, writeStderrLine } from "../base/log.ts";
import { backendFromHandlers } from "../cri/service.ts";
import { serveCri } from "./server.ts";

const [socketPath = ""] = Deno.args;
const backend = backendFromHandlers({
  version: () => Promise.resolve({ runtimeName: "scoped" }),
}, (name) => `${name} is not part of this test.`);
const log = createLogger({ threshold: "info", write: writeStderrLine });
await serveCri({ socketPath, backend, log, clock: systemClock });
await Deno.stdout.write(new TextEncoder().encode("ready\n"));
