import { assertEquals, assertThrows } from "@std/assert";
import { mergeReports, parseJunit, specsOf } from "./junit.ts";

const GINKGO = `<?xml version="1.0" encoding="UTF-8"?>
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
  <testcase name="[It] [k8s.io] Later" classname="CRI validation" status="pending" time="0"><skipped message="pending"></skipped></testcase>
  <testcase name="[It] [k8s.io] Hangs" classname="CRI validation" status="timedout" time="9"><error message="A spec timed out" type="timedout"></error></testcase>
  <testcase name="[ReportAfterSuite] Reports" classname="CRI validation" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
 </testsuite>
</testsuites>`;

Deno.test("parseJunit() names the tests of each outcome when Deno wrote the report", () => {
  const xml = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="4" failures="1" errors="0" time="0.116">
    <testsuite name="./a_test.ts" tests="3" disabled="1" errors="0" failures="1">
        <testcase name="run() ends" classname="./a_test.ts" time="0.001" line="1" col="6">
        </testcase>
        <testcase name="run() says &quot;x&quot;" classname="./a_test.ts" time="0.000" line="2" col="6">
            <failure message="Uncaught Error: x">Error: x
    at file:///a_test.ts:2:40</failure>
        </testcase>
        <testcase name="run() ends &gt; twice" classname="./a_test.ts" time="0.000" line="1" col="65">
            <skipped/>
        </testcase>
    </testsuite>
    <testsuite name="./b_test.ts" tests="1" disabled="0" errors="0" failures="0">
        <testcase name="stop()" classname="./b_test.ts" time="0.011" line="1" col="6">
        </testcase>
    </testsuite>
</testsuites>`;
  assertEquals(parseJunit(xml), {
    passed: ["run() ends", "stop()"],
    failed: [{ name: 'run() says "x"', message: "Uncaught Error: x" }],
    skipped: ["run() ends > twice"],
  });
});

Deno.test("parseJunit() throws when the text is no report", () => {
  for (const text of ["", "<html></html>", "<testsuites></testsuites>"]) {
    assertThrows(() => parseJunit(text), Error, "JUnit report");
  }
});

Deno.test("specsOf() keeps the specs when Ginkgo wrote the report", () => {
  assertEquals(specsOf(parseJunit(GINKGO)), {
    passed: ['[k8s.io] Pod runs "a < b" [Conformance]'],
    failed: [
      { name: "[k8s.io] Image pulls", message: "Expected\n    1 & 2" },
      { name: "[k8s.io] Hangs", message: "A spec timed out" },
    ],
    skipped: ["[k8s.io] Profile", "[k8s.io] Later"],
  });
});

Deno.test("specsOf() counts a failed set-up as a failure when no spec ran", () => {
  const failed = [{ name: "[SynchronizedBeforeSuite]", message: "no runtime" }];
  const report = { passed: ["[AfterSuite]"], failed, skipped: ["[ReportAfterSuite]"] };
  assertEquals(specsOf(report), { passed: [], failed, skipped: [] });
});

Deno.test("mergeReports() counts a test as skipped only when no run had chosen it", () => {
  const failure = { name: "c", message: "no" };
  assertEquals(
    mergeReports([
      { passed: ["a"], failed: [], skipped: ["b", "c", "d"] },
      { passed: ["b"], failed: [failure], skipped: ["a", "d"] },
    ]),
    { passed: ["a", "b"], failed: [failure], skipped: ["d"] },
  );
});
