import { Signal } from "../../cri/api.generated.ts";
import type { Node } from "./node.ts";

/** The signal that asks a program to end: the pod's before the image's, SIGTERM without either. */
export function stopSignal(ofPod: Signal, ofImage: string): string {
  if (ofPod !== Signal.SIGNAL_RUNTIME_DEFAULT) {
    // As kill(1) names them: RTMIN+3 for SIGNAL_SIGRTMINPLUS3.
    return (Signal[ofPod] ?? "").replace(/^SIGNAL_SIG/, "SIG").replace("PLUS", "+")
      .replace("MINUS", "-");
  }
  return /^(SIG)?[A-Z0-9]+([+-]\d+)?$/.test(ofImage) ? ofImage : "SIGTERM";
}

/** By their numbers from 1 on (signal(7), as on x86 and ARM). */
const NAMES = [
  ...["HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2"],
  ...["PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG"],
  ...["XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS"],
];

/** What clients call a signal that `stopSignal` has returned; RUNTIME_DEFAULT where the CRI has no word for it. */
export function signalOf(name: string): Signal {
  const short = /^\d+$/.test(name) ? NAMES[Number(name) - 1] ?? "" : name.replace(/^SIG/, "");
  const word = `SIGNAL_SIG${short.replace("+", "PLUS").replace("-", "MINUS")}`;
  return Signal[word as keyof typeof Signal] ?? Signal.SIGNAL_RUNTIME_DEFAULT;
}

/**
 * $1 the process, $2 the signal's number, $3 how many looks; ends when the process handles the signal, is gone, or is
 * no namespace's first, to which every signal is delivered.
 */
const AWAIT_HANDLER = `
grep -qs '^NSpid:.*\t1$' "/proc/$1/status" || exit 0
left=$3
while [ "$left" -gt 0 ] && set -- "$1" "$2" && handled=$(sed -n 's/^SigCgt:\t//p' "/proc/$1/status" 2>/dev/null); do
  [ -n "$handled" ] && [ $((0x$handled >> ($2 - 1) & 1)) = 0 ] || break
  left=$((left - 1))
  sleep 0.02
done`;
/** A second, with the pauses between. */
const MAX_LOOKS = 50;

/**
 * Gives a program that has just begun a moment to say that it handles the signal: to the first process of a namespace
 * the kernel does not deliver what it does not handle (pid_namespaces(7)).
 */
export async function awaitHandler(node: Node, pid: string, signal: string): Promise<void> {
  const number = NAMES.indexOf(signal.replace(/^SIG/, "")) + 1;
  if (number === 0 || !/^\d+$/.test(pid)) return;
  await node.script("look at a program", AWAIT_HANDLER, [pid, String(number), String(MAX_LOOKS)]);
}
