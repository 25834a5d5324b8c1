// Shows what Grafana makes of the answers of Prometheus, by Grafana's own @grafana/data: transformations, overrides,
// mappings, units, colours, reductions and steps are all its. Only what turns answers into frames is written here.
//
//   node engine.cjs grafana-data-13
//
// reads one request a line from stdin, as JSON, and writes one answer a line to stdout: see tests/support/grafana.py.
"use strict";

const { createRequire } = require("node:module");
const readline = require("node:readline");

const engine = process.argv[2];
// The library is written for browsers and looks at both of these. react-use, which it loads, takes a `window` for a
// whole browser, so it has to be loaded before there is one.
Object.defineProperty(globalThis, "navigator", {
  value: { language: "en-US", languages: ["en-US"], platform: "", userAgent: "node" },
});
createRequire(require.resolve(engine))("react-use");
globalThis.window = { addEventListener: () => undefined };
const data = require(engine);

// By id, because an old name of a transformation stands in the list beside the new one.
const transformers = new Map(Object.values(data.standardTransformers).map((one) => [one.id, one]));
// Up to 12 the list holds each transformation itself, since 13 a function that loads it: this is both.
const both = (one) => {
  const parts = { operator: one.operator, defaultOptions: one.defaultOptions };
  return Object.assign(() => parts, parts);
};
data.standardTransformersRegistry.setInit(() =>
  [...transformers.values()].map((one) => ({ id: one.id, name: one.name, transformation: both(one) })),
);
// What an override may set. Grafana's own list stands in @grafana/ui beside the editors of each; a property that is not
// here would be left out without a word, so the tests ask for the list.
const PROPERTIES = ["unit", "decimals", "min", "max", "displayName", "mappings", "thresholds", "color", "links", "noValue"];
const CUSTOM = ["width", "minWidth", "align", "cellOptions", "lineStyle", "fillOpacity", "lineWidth", "stacking"];
const asIs = { process: (value) => value, shouldApply: () => true, override: () => null, editor: () => null };
const registry = new data.FieldConfigOptionsRegistry(() => [
  ...PROPERTIES.map((id) => ({ id, path: id, name: id, ...asIs })),
  ...CUSTOM.map((id) => ({ id: `custom.${id}`, path: id, name: id, isCustom: true, ...asIs })),
]);
const theme = data.createTheme();

/** JSON has no infinity: the base of thresholds is written as null, and Grafana restores it when it loads a dashboard. */
function withInfinity(node) {
  if (Array.isArray(node)) {
    return node.map(withInfinity);
  }
  if (node === null || typeof node !== "object") {
    return node;
  }
  const copy = Object.fromEntries(Object.entries(node).map(([key, value]) => [key, withInfinity(value)]));
  if (Array.isArray(copy.steps)) {
    copy.steps = copy.steps.map((step) => ({ ...step, value: step.value ?? -Infinity }));
  }
  return copy;
}

const points = (one) => one.values ?? [one.value];
const labelsOf = (one) => Object.fromEntries(Object.entries(one.metric).filter(([name]) => name !== "__name__"));

function legendOf(labels, format) {
  if (format === "__auto" || !format) {
    const values = Object.values(labels);
    return values.length === 1 ? values[0] : undefined;
  }
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? "");
}

/** One frame for each series: its times, and its values under the name that the legend gives. */
function series(answer) {
  return answer.result.map((one) => ({
    refId: answer.refId,
    length: points(one).length,
    fields: [
      { name: "Time", type: "time", config: {}, values: points(one).map(([at]) => at * 1000) },
      {
        name: "Value",
        type: "number",
        labels: labelsOf(one),
        config: { displayNameFromDS: legendOf(labelsOf(one), answer.legend) },
        values: points(one).map(([, value]) => Number(value)),
      },
    ],
  }));
}

/** One frame for each query, with a column for each label. A query without an answer gives a frame without labels. */
function table(answer, alone) {
  const names = [...new Set(answer.result.flatMap((one) => Object.keys(labelsOf(one))))].sort();
  const rows = answer.result.flatMap((one) => points(one).map((point) => [one.metric, point]));
  return {
    refId: answer.refId,
    length: rows.length,
    fields: [
      { name: "Time", type: "time", config: {}, values: rows.map(([, [at]]) => at * 1000) },
      ...names.map((name) => ({
        name,
        type: "string",
        config: { filterable: true },
        values: rows.map(([labels]) => labels[name] ?? ""),
      })),
      {
        name: alone ? "Value" : `Value #${answer.refId}`,
        type: "number",
        config: {},
        values: rows.map(([, [, value]]) => Number(value)),
      },
    ],
  };
}

function transformed(transformations, frames) {
  return new Promise((resolve, reject) =>
    data.transformDataFrame(transformations ?? [], frames).subscribe({ next: resolve, error: reject }),
  );
}

function shown(display) {
  return { text: data.formattedValueToString(display), color: display.color ?? null, number: display.numeric ?? null };
}

/** What a panel shows: its frames as columns, and for panels of single figures those figures. */
async function panel({ panel, answers }) {
  const tables = answers.filter((answer) => answer.format === "table").length;
  const frames = answers.flatMap((answer) =>
    answer.format === "table" ? [table(answer, tables === 1)] : series(answer),
  );
  const begun = performance.now();
  const joined = await transformed(panel.transformations, frames);
  const spent = performance.now() - begun;
  const options = {
    fieldConfig: withInfinity(panel.fieldConfig),
    fieldConfigRegistry: registry,
    replaceVariables: (text) => text,
    theme,
    timeZone: "utc",
  };
  const configured = data.applyFieldOverrides({ ...options, data: joined });
  const figures = panel.options?.reduceOptions
    ? data.getFieldDisplayValues({ ...options, data: configured, reduceOptions: panel.options.reduceOptions })
    : [];
  return {
    milliseconds: spent,
    frames: configured.map((frame) =>
      frame.fields.map((field) => ({
        name: field.name,
        title: data.getFieldDisplayName(field, frame, configured),
        labels: field.labels ?? {},
        config: field.config,
        cells: field.values.map((value) => ({
          value,
          ...shown(field.display ? field.display(value) : { text: String(value) }),
        })),
      })),
    ),
    figures: figures.map((figure) => ({ title: figure.display.title ?? figure.name, ...shown(figure.display) })),
  };
}

/** The seconds between two points of a query over time, as Grafana rounds them. */
function step({ start, end, points, least }) {
  const range = { from: data.dateTime(start * 1000), to: data.dateTime(end * 1000) };
  return data.rangeUtil.calculateInterval(range, points, `${least}s`).intervalMs / 1000;
}

function format({ value, ...config }) {
  return shown(data.getDisplayProcessor({ field: { name: "", type: "number", config: withInfinity(config) }, theme })(value));
}

const color = ({ name }) => theme.visualization.getColorByName(name);
const ANSWERS = { panel, step, format, color, properties: () => [...PROPERTIES, ...CUSTOM.map((id) => `custom.${id}`)] };
readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const { kind, ...request } = JSON.parse(line);
  let answer;
  try {
    answer = { answer: await ANSWERS[kind](request) };
  } catch (error) {
    answer = { error: error.stack };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
