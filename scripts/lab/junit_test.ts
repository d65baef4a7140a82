import { assertEquals, assertThrows } from "@std/assert";
import { mergeReports, parseJunit } from "./junit.ts";

const REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="5" disabled="2" errors="0" failures="1" time="3.5">
 <testsuite name="CRI validation" package="/opt" tests="5" disabled="1" skipped="1" errors="0" failures="1">
  <properties><property name="SuiteSucceeded" value="false"></property></properties>
  <testcase name="[BeforeSuite]" classname="CRI validation" status="passed" time="0.1"></testcase>
  <testcase name="[It] [k8s.io] Pod runs &#34;a &lt; b&#34; [Conformance]" classname="CRI validation" status="passed" time="1">
   <system-err>&gt; Enter</system-err>
  </testcase>
  <testcase name="[It] [k8s.io] Image pulls" classname="CRI validation" status="failed" time="1">
   <failure message="Expected&#xA;    1 &amp; 2" type="failed">[FAILED] Expected</failure>
  </testcase>
  <testcase name="[It] [k8s.io] Profile" classname="CRI validation" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
  <testcase name="[It] [k8s.io] Later" classname="CRI validation" status="pending" time="0"></testcase>
  <testcase name="[It] [k8s.io] Hangs" classname="CRI validation" status="timedout" time="9"><error message="A spec timed out" type="timedout"></error></testcase>
  <testcase name="[ReportAfterSuite] Reports" classname="CRI validation" status="skipped" time="0"></testcase>
 </testsuite>
</testsuites>`;

Deno.test("parseJunit() names the specs of each outcome when a report holds all", () => {
  assertEquals(parseJunit(REPORT), {
    passed: ['[k8s.io] Pod runs "a < b" [Conformance]'],
    failed: [
      { name: "[k8s.io] Image pulls", message: "Expected\n    1 & 2" },
      { name: "[k8s.io] Hangs", message: "A spec timed out" },
    ],
    skipped: ["[k8s.io] Profile", "[k8s.io] Later"],
  });
});

Deno.test("parseJunit() counts a failed set-up as a failure when no spec ran", () => {
  const xml =
    `<testsuites><testsuite><testcase name="[SynchronizedBeforeSuite]" status="panicked">` +
    `<error message="no runtime"/></testcase></testsuite></testsuites>`;
  const failed = [{ name: "[SynchronizedBeforeSuite]", message: "no runtime" }];
  assertEquals(parseJunit(xml), { passed: [], failed, skipped: [] });
});

Deno.test("parseJunit() throws when the text is no report", () => {
  for (const text of ["", "<html></html>", "<testsuites></testsuites>"]) {
    assertThrows(() => parseJunit(text), Error, "JUnit report");
  }
});

Deno.test("mergeReports() counts a spec as skipped only when no run had chosen it", () => {
  const failure = { name: "c", message: "no" };
  assertEquals(
    mergeReports([
      { passed: ["a"], failed: [], skipped: ["b", "c", "d"] },
      { passed: ["b"], failed: [failure], skipped: ["a", "d"] },
    ]),
    { passed: ["a", "b"], failed: [failure], skipped: ["d"] },
  );
});
