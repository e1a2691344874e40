// Names of series: their order, and which part of them differs.

export const BY_NAME = new Intl.Collator("en", { numeric: true });

// How many leading tokens all names share. They do not help to distinguish the lines in the legend.
export function sharedTokens(names) {
  const [first, ...rest] = names.map((name) => name.split("."));
  if (!rest.length) return 0;
  let count = 0;
  while (count < first.length - 1 && rest.every((t) => t.length > count + 1 && t[count] === first[count])) count++;
  return count;
}
