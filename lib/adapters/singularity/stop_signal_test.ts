import { assertEquals } from "@std/assert";
import { Signal } from "../../cri/api.generated.ts";
import { signalOf, stopSignal } from "./stop_signal.ts";

const { SIGNAL_RUNTIME_DEFAULT, SIGNAL_SIGUSR1, SIGNAL_SIGRTMINPLUS3, SIGNAL_SIGRTMAXMINUS1 } =
  Signal;

for (
  const [name, signal] of [
    ["SIGTERM", Signal.SIGNAL_SIGTERM],
    ["QUIT", Signal.SIGNAL_SIGQUIT],
    ["1", Signal.SIGNAL_SIGHUP],
    ["15", Signal.SIGNAL_SIGTERM],
    ["31", Signal.SIGNAL_SIGSYS],
    ["SIGRTMIN+3", SIGNAL_SIGRTMINPLUS3],
    ["RTMAX-1", SIGNAL_SIGRTMAXMINUS1],
    ["SIGRTMIN+99", SIGNAL_RUNTIME_DEFAULT],
    ["0", SIGNAL_RUNTIME_DEFAULT],
    ["99", SIGNAL_RUNTIME_DEFAULT],
  ] as const
) {
  Deno.test(`signalOf() is ${Signal[signal]} when the signal is ${name}`, () => {
    assertEquals(signalOf(name), signal);
  });
}

for (
  const [ofPod, ofImage, signal] of [
    [SIGNAL_RUNTIME_DEFAULT, "", "SIGTERM"],
    [SIGNAL_RUNTIME_DEFAULT, "SIGQUIT", "SIGQUIT"],
    [SIGNAL_RUNTIME_DEFAULT, "3", "3"],
    [SIGNAL_RUNTIME_DEFAULT, "--all", "SIGTERM"],
    [SIGNAL_RUNTIME_DEFAULT, "KILL; x", "SIGTERM"],
    [SIGNAL_SIGUSR1, "SIGQUIT", "SIGUSR1"],
    [SIGNAL_SIGRTMINPLUS3, "", "SIGRTMIN+3"],
    [SIGNAL_SIGRTMAXMINUS1, "", "SIGRTMAX-1"],
  ] as const
) {
  Deno.test(`stopSignal() is ${signal} when the pod says ${Signal[ofPod]} and the image '${ofImage}'`, () => {
    assertEquals(stopSignal(ofPod, ofImage), signal);
  });
}
