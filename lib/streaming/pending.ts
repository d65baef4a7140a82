import type { Clock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";

/** From the answer to Exec until its client comes; the kubelet comes at once. */
export const TOKEN_LIFETIME_MS = 60_000;
/** As many as the streaming server of Kubernetes keeps (cri-streaming, request_cache.go). */
export const MAX_PENDING = 1000;

/** 192 bits; who knows a token may do what it stands for. */
const TOKEN_BYTES = 24;

/** Services that wait for their clients, each behind a token that nobody can guess and that counts once. */
export class PendingServices<Service> {
  /** In the order in which they expire. */
  readonly #services = new Map<string, { service: Service; expiresAtMs: number }>();

  constructor(private readonly clock: Clock) {}

  /** The token for a service. @throws CriError RESOURCE_EXHAUSTED when too many wait. */
  add(service: Service): string {
    this.#forgetExpired();
    if (this.#services.size >= MAX_PENDING) {
      throw new CriError(
        "RESOURCE_EXHAUSTED",
        `Cannot prepare one more stream: ${MAX_PENDING} wait for their clients, try again later.`,
      );
    }
    const token = crypto.getRandomValues(new Uint8Array(TOKEN_BYTES)).toBase64({
      alphabet: "base64url",
    });
    this.#services.set(token, { service, expiresAtMs: this.clock.now() + TOKEN_LIFETIME_MS });
    return token;
  }

  /** The service, if the token still counts. */
  look(token: string): Service | undefined {
    this.#forgetExpired();
    return this.#services.get(token)?.service;
  }

  /** From here on the token counts no more. */
  take(token: string): void {
    this.#services.delete(token);
  }

  #forgetExpired(): void {
    const now = this.clock.now();
    for (const [token, { expiresAtMs }] of this.#services) {
      if (expiresAtMs > now) return;
      this.#services.delete(token);
    }
  }
}
