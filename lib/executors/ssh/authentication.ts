// @ts-types="@types/ssh2"
import type { AnyAuthMethod, Prompt } from "ssh2";
import { CriError } from "../../base/error.ts";
import { type ClusterLogin, loginName } from "./login.ts";

/** The methods we know (RFC 4252, RFC 4256); "none" asks the server for its list. */
type Method = "none" | "publickey" | "password" | "keyboard-interactive";

/**
 * Chooses the authentication methods of one connection attempt: first "none", to learn what the server
 * accepts, then the key, then the password. The password is sent once at most, because sites lock
 * accounts after a few failures: as "password" where the server accepts that, else as the answer to
 * the one question of "keyboard-interactive".
 */
export class Authentication {
  readonly #login: ClusterLogin;
  readonly #tried = new Set<Method>();
  /** Whether the one question of keyboard-interactive got the password. */
  #answered = false;
  /** What the server asked for that the login cannot answer, such as a one-time code. */
  #unanswered: string | undefined;
  #offered: readonly string[] = [];

  /** The login's private key must be as `parsePrivateKey` gives it. */
  constructor(login: ClusterLogin) {
    this.#login = login;
  }

  /** The next method to try; false when none is left. `offered` is null before the first answer. */
  next(offered: readonly string[] | null): AnyAuthMethod | false {
    if (offered !== null) this.#offered = offered;
    const method = offered === null
      ? "none"
      : this.#usable().find((usable) => offered.includes(usable) && !this.#tried.has(usable));
    if (method === undefined) return false;
    this.#tried.add(method);
    if (method === "password") this.#tried.add("keyboard-interactive");
    return this.#request(method);
  }

  /** Why the server let nobody in, once `next` has given false or the server hung up. */
  refusal(): CriError {
    const name = loginName(this.#login);
    const refuse = (reason: string) =>
      new CriError("UNAUTHENTICATED", `Cannot log in to ${name}: ${reason}`);
    if (this.#unanswered !== undefined) {
      return refuse(
        `a password or key is not enough for the server, it also asks ${
          JSON.stringify(this.#unanswered)
        }`,
      );
    }
    const accepted = this.#offered.join(", ") || "nothing";
    const usable = this.#usable();
    if (usable.length === 0) return refuse("a password or a private key must be given");
    const refused = usable.filter((method) => this.#tried.has(method));
    if (refused.length === 0) {
      return refuse(
        `the server takes no ${usable.join(" or ")}, only ${accepted}`,
      );
    }
    const what = [
      refused.includes("publickey") ? "the private key" : "",
      refused.some((method) => method !== "publickey") ? "the password" : "",
    ].filter((part) => part !== "").join(" and ");
    return refuse(`the server refused ${what} (it accepts ${accepted})`);
  }

  #usable(): Method[] {
    const usable: Method[] = [];
    if (this.#login.privateKey !== undefined) usable.push("publickey");
    if (this.#login.password !== undefined) usable.push("password", "keyboard-interactive");
    return usable;
  }

  #request(method: Method): AnyAuthMethod {
    const username = this.#login.user;
    switch (method) {
      case "none":
        return { type: "none", username };
      case "publickey":
        return { type: "publickey", username, key: this.#login.privateKey ?? "" };
      case "password":
        return { type: "password", username, password: this.#login.password ?? "" };
      case "keyboard-interactive":
        return {
          type: "keyboard-interactive",
          username,
          prompt: (_name, _instructions, _language, prompts, finish) =>
            finish(this.#answer(prompts)),
        };
      default: {
        const unknown: never = method;
        throw new CriError("INTERNAL", `Unknown authentication method ${unknown}`);
      }
    }
  }

  /** The password for the first question; an empty answer, which is refused, for any other. */
  #answer(prompts: readonly Prompt[]): string[] {
    return prompts.map((prompt, index) => {
      if (index === 0 && !this.#answered) {
        this.#answered = true;
        return this.#login.password ?? "";
      }
      this.#unanswered ??= prompt.prompt.trim();
      return "";
    });
  }
}
