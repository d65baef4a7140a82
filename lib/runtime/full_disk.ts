import type { CriBackend } from "../cri/service.ts";
import type { Config } from "../config/flags.ts";
import { namingFullDisk } from "../config/full_disk.ts";

/** A backend whose errors name the directory of ours that is full, if that is why something failed. */
export function withFullDisksNamed(backend: CriBackend, config: Config): CriBackend {
  return {
    async unary(method, request, context) {
      try {
        return await backend.unary(method, request, context);
      } catch (error) {
        throw namingFullDisk(error, config);
      }
    },
    serverStream: (method, request, context) => backend.serverStream(method, request, context),
  };
}
