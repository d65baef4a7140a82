import { assertEquals } from "@std/assert";
import {
  beginStart,
  type ContainerState,
  markExited,
  markRunning,
  undoStart,
} from "./container_state.ts";

const created: ContainerState = { phase: "created" };
const starting: ContainerState = { phase: "starting" };
const running: ContainerState = { phase: "running", startedAtMs: 50 };
const end = { finishedAtMs: 90, exitCode: 7, reason: "Error", message: "" };
const exited: ContainerState = { phase: "exited", startedAtMs: 50, ...end };

const cases: [
  string,
  (state: ContainerState) => ContainerState,
  ContainerState[],
  ContainerState[],
][] = [
  ["beginStart", beginStart, [created, starting, running, exited], [
    starting,
    starting,
    running,
    exited,
  ]],
  ["undoStart", undoStart, [created, starting, running, exited], [
    created,
    created,
    running,
    exited,
  ]],
  [
    "markRunning",
    (state) => markRunning(state, 60),
    [created, starting, running, exited],
    [{ phase: "running", startedAtMs: 60 }, { phase: "running", startedAtMs: 60 }, running, exited],
  ],
  [
    "markExited",
    (state) => markExited(state, { ...end, finishedAtMs: 40 }),
    [created, running, exited],
    [
      { phase: "exited", startedAtMs: undefined, ...end, finishedAtMs: 40 },
      { phase: "exited", startedAtMs: 50, ...end, finishedAtMs: 50 },
      exited,
    ],
  ],
];

for (const [name, change, from, to] of cases) {
  Deno.test(`${name}() moves each phase as drawn when it is called`, () => {
    assertEquals(from.map(change), to);
  });
}
