import { XMLParser } from "fast-xml-parser";

/** The outcome of a run of tests, by their names, in the order of the run. */
export interface TestReport {
  passed: string[];
  failed: FailedTest[];
  skipped: string[];
}

export interface FailedTest {
  name: string;
  /** Why, in the words of the test. */
  message: string;
}

interface TestCase {
  name: string;
  failure?: { message: string };
  error?: { message: string };
  /** Without attributes or text the element is parsed to "". */
  skipped?: unknown;
}

/** What the name of a spec begins with in a report of Ginkgo's; its other nodes set up and tear down. */
const SPEC = "[It] ";

const parser = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: "",
  isArray: (name) => name === "testsuite" || name === "testcase",
  parseAttributeValue: false,
  // Character references too, which Ginkgo writes for quotes and line ends.
  htmlEntities: true,
});

/**
 * Reads a report as `deno test --junit-path` and Ginkgo's `-ginkgo.junit-report` write it.
 *
 * @throws {Error} when it is no such report.
 */
export function parseJunit(xml: string): TestReport {
  const suites: { testcase?: TestCase[] }[] | undefined = parser.parse(xml)?.testsuites?.testsuite;
  if (suites === undefined) throw new Error("Expected a JUnit report: it holds no test suite.");
  const report: TestReport = { passed: [], failed: [], skipped: [] };
  for (const { name, failure, error, skipped } of suites.flatMap((suite) => suite.testcase ?? [])) {
    const reason = failure ?? error;
    if (reason !== undefined) report.failed.push({ name, message: reason.message });
    else if (skipped !== undefined) report.skipped.push(name);
    else report.passed.push(name);
  }
  return report;
}

/**
 * Keeps the specs of a report of Ginkgo's. A failed node that is no spec, such as a suite's set-up, counts as
 * a failed spec of its name.
 */
export function specsOf({ passed, failed, skipped }: TestReport): TestReport {
  const withoutPrefix = (name: string) => name.startsWith(SPEC) ? name.slice(SPEC.length) : name;
  const specs = (names: string[]) =>
    names.filter((name) => name.startsWith(SPEC)).map(withoutPrefix);
  return {
    passed: specs(passed),
    failed: failed.map(({ name, message }) => ({ name: withoutPrefix(name), message })),
    skipped: specs(skipped),
  };
}

/**
 * Joins reports of the same tests, of which each run had chosen some: one that was skipped in one and run in
 * another counts as run.
 */
export function mergeReports(reports: readonly TestReport[]): TestReport {
  const passed = reports.flatMap((report) => report.passed);
  const failed = reports.flatMap((report) => report.failed);
  const run = new Set([...passed, ...failed.map(({ name }) => name)]);
  const skipped = new Set(reports.flatMap((report) => report.skipped));
  return { passed, failed, skipped: [...skipped].filter((name) => !run.has(name)) };
}
