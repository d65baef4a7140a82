import { XMLParser } from "fast-xml-parser";

/** The outcome of a run of Ginkgo's specs, by their names, in the order of the run. */
export interface SpecReport {
  passed: string[];
  failed: FailedSpec[];
  skipped: string[];
}

export interface FailedSpec {
  name: string;
  /** Why, in the words of the spec. */
  message: string;
}

/** A `testcase` of Ginkgo's report: `status` is one of its states, or failure is absent. */
interface TestCase {
  name: string;
  status: string;
  failure?: { message: string };
  error?: { message: string };
}

/** What a spec's name begins with; the other nodes set up and tear down. */
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
 * Reads a report that Ginkgo 2 wrote by `-ginkgo.junit-report`. A failed node that is no spec, such as a
 * suite's set-up, counts as a failed spec of its name.
 *
 * @throws {Error} when it is no such report.
 */
export function parseJunit(xml: string): SpecReport {
  const suites: { testcase?: TestCase[] }[] | undefined = parser.parse(xml)?.testsuites?.testsuite;
  if (suites === undefined) throw new Error("Expected a JUnit report: it holds no test suite.");
  const report: SpecReport = { passed: [], failed: [], skipped: [] };
  for (const one of suites.flatMap(({ testcase }) => testcase ?? [])) {
    const isSpec = one.name.startsWith(SPEC);
    const name = isSpec ? one.name.slice(SPEC.length) : one.name;
    if (one.status === "skipped" || one.status === "pending") {
      if (isSpec) report.skipped.push(name);
    } else if (one.status === "passed") {
      if (isSpec) report.passed.push(name);
    } else {
      const message = one.failure?.message ?? one.error?.message ?? one.status;
      report.failed.push({ name, message });
    }
  }
  return report;
}

/**
 * Joins reports of the same specs, of which each run had chosen some: a spec that was skipped in one and
 * run in another counts as run.
 */
export function mergeReports(reports: readonly SpecReport[]): SpecReport {
  const passed = reports.flatMap((report) => report.passed);
  const failed = reports.flatMap((report) => report.failed);
  const run = new Set([...passed, ...failed.map(({ name }) => name)]);
  const skipped = new Set(reports.flatMap((report) => report.skipped));
  return { passed, failed, skipped: [...skipped].filter((name) => !run.has(name)) };
}
