// Figures of the glossary, as selected by the page's switches. Labels, definitions, numerators and
// denominators come from the server: analytics/dashboard/figures.py.

import { get } from "./state.js";

let words = null;
let places = null;

/** Loads names and definitions; once per page. */
export async function loadWording() {
  words = await (await fetch("/api/wording")).json();
  places = new Map(words.fields.map((name, index) => [name, index]));
}

/** The definition of a count. */
export const meaning = (field) => words.docs[field];

/** The reason of a verdict, in words. */
export const reason = (name) => words.reasons[name] ?? name.replaceAll("_", " ");

/** What a bounce's reason means, and what to do about it. */
export const bounceWords = (name) => words.bounces[name] ?? [name.replaceAll("_", " "), "Read the wording."];

/** A count in a row of counts. */
export const value = (counts, field) => counts[places.get(field)];

/** The metric of this name, for the present switches. */
export function metric(name, basis = get("basis"), who = get("who")) {
  return words.metrics.find(
    (item) => item.name === name && (!item.basis || item.basis === basis) && (!item.who || item.who === who),
  );
}

/**
 * A rate: {ratio, above, below, least, most}; ratios are null when there is nothing to divide by.
 * least and most are the ends of the interval that the doubt of verdicts leaves, where there is one.
 */
export function rate(counts, item) {
  const above = value(counts, item.numerator);
  const below = value(counts, item.denominator);
  const end = (field) => (field && below ? value(counts, field) / below : null);
  return { ratio: below ? above / below : null, above, below, least: end(item.least), most: end(item.most) };
}

/** Every metric for the present switches, and every count: for the list of definitions. */
export const definitions = () => [
  ...words.metrics
    .filter((item) => item === metric(item.name))
    .map((item) => [item.label, item.tip]),
];
