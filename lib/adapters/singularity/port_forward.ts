import { CriError } from "../../base/error.ts";
import type { PortForwarder } from "../../streaming/process.ts";
import nodeProgram from "../steps/node.pl" with { type: "text" };
import reachPort from "../steps/reach_port.pl" with { type: "text" };
import stepProgram from "../steps/step.pl" with { type: "text" };
import { runNodeStep, type StepMeans } from "./step.ts";

const PROGRAM = nodeProgram + stepProgram + reachPort;

/** Connects clients to ports at the loopback of a pod's network; undefined: the node's. */
export function portForwarder(means: StepMeans, network: string | undefined): PortForwarder {
  return async (port, { incoming, outgoing, endOutgoing }, signal) => {
    const verb = `connect to the port ${port} of the pod`;
    const end = await runNodeStep(
      means,
      {
        verb,
        ...(network === undefined ? {} : { prefix: ["nsenter", `--net=${network}`] }),
        program: PROGRAM,
        fields: [port, 0],
        streams: { stdin: incoming },
      },
      signal,
      (frame) => {
        if (frame.kind === "stdout") return outgoing(frame.bytes);
        if (frame.kind === "outputEnded") return endOutgoing();
      },
    );
    if (end.kind === "refused") {
      throw new CriError("FAILED_PRECONDITION", `Cannot ${verb}: ${end.text}.`);
    }
  };
}
