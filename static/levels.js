// Levels of log lines: their usual names and their meanings.

const WORDS = {
  trace: "trace verbose finest finer silly 10",
  debug: "debug dbg fine 7 20",
  info: "info information informational inf log 6 30",
  notice: "notice 5",
  warn: "warn warning wrn 4 40",
  error: "error err severe 3 50",
  critical: "critical crit fatal alert emergency emerg panic 2 1 0 60",
};
const MEANT = new Map(Object.entries(WORDS).flatMap(([meaning, words]) => words.split(" ").map((word) => [word, meaning])));
// The numbers of syslog, and the multiples of ten that some libraries write.
const NUMBERS = {
  0: "EMERG", 1: "ALERT", 2: "CRIT", 3: "ERROR", 4: "WARN", 5: "NOTICE", 6: "INFO", 7: "DEBUG",
  10: "TRACE", 20: "DEBUG", 30: "INFO", 40: "WARN", 50: "ERROR", 60: "FATAL",
};

// The meaning of a level, "" if unknown, and the name to show.
export function levelOf(text) {
  const word = text.trim();
  return { meaning: MEANT.get(word.toLowerCase()) ?? "", name: Object.hasOwn(NUMBERS, word) ? NUMBERS[word] : word };
}
