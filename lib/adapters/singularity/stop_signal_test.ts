import { assertEquals } from "@std/assert";
import { Signal } from "../../cri/api.generated.ts";
import { stopSignal } from "./stop_signal.ts";

const { SIGNAL_RUNTIME_DEFAULT, SIGNAL_SIGUSR1, SIGNAL_SIGRTMINPLUS3, SIGNAL_SIGRTMAXMINUS1 } =
  Signal;

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
