import { assertEquals } from "@std/assert";
import { clientFile, stagingModules } from "./clients.ts";

Deno.test("clientFile() names the version of the client's module", () => {
  assertEquals(clientFile("critest"), "critest-1.36.0");
  assertEquals(clientFile("kube-apiserver"), "kube-apiserver-1.37.2");
});

Deno.test("stagingModules() keeps what a module requires of its own repository", () => {
  const requirements = [
    { Path: "k8s.io/api", Version: "v0.0.0" },
    { Path: "k8s.io/klog/v2", Version: "v2.140.0" },
    { Path: "k8s.io/utils", Version: "v0.0.0-20260626114624-be93311217bd" },
    { Path: "k8s.io/kubectl", Version: "v0.0.0" },
  ];
  assertEquals(stagingModules(requirements), ["k8s.io/api", "k8s.io/kubectl"]);
  assertEquals(stagingModules([]), []);
});
