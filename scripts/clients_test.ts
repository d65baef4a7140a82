import { assertEquals } from "@std/assert";
import { clientFile, stagingModules } from "./clients.ts";

Deno.test("clientFile() names the version of the client's module", () => {
  assertEquals(clientFile("critest"), "critest-1.36.0");
  assertEquals(clientFile("kube-apiserver"), "kube-apiserver-1.37.2");
});

Deno.test("stagingModules() keeps what a module replaces by its own folders", () => {
  const replacement = (old: string, by: string) => ({ Old: { Path: old }, New: { Path: by } });
  const replacements = [
    replacement("k8s.io/api", "./staging/src/k8s.io/api"),
    replacement("example.org/fork", "example.org/other"),
    replacement("k8s.io/kubectl", "./staging/src/k8s.io/kubectl"),
  ];
  assertEquals(stagingModules(replacements), ["k8s.io/api", "k8s.io/kubectl"]);
  assertEquals(stagingModules([]), []);
});
