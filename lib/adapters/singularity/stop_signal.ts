import { Signal } from "../../cri/api.generated.ts";

/** The signal that asks a program to end: the pod's before the image's, SIGTERM without either. */
export function stopSignal(ofPod: Signal, ofImage: string): string {
  if (ofPod !== Signal.SIGNAL_RUNTIME_DEFAULT) {
    // As kill(1) names them: RTMIN+3 for SIGNAL_SIGRTMINPLUS3.
    return (Signal[ofPod] ?? "").replace(/^SIGNAL_SIG/, "SIG").replace("PLUS", "+")
      .replace("MINUS", "-");
  }
  return /^(SIG)?[A-Z0-9+-]+$/.test(ofImage) ? ofImage : "SIGTERM";
}
