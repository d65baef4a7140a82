import type { Socket } from "node:net";
// @ts-types="@types/ssh2"
import type { Client } from "ssh2";

/**
 * A logged-in client and the socket below it, which ssh2 leaves open after some errors; with a jump host that is the
 * socket to it.
 */
export interface LoggedIn {
  client: Client;
  socket: Socket;
}
