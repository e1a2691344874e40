// Reads the binary messages of a line chart, which components/charts/wire.py describes.

// Reads a message from its first byte to its last.
export class Reader {
  constructor(bytes) {
    this.data = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  byte() {
    return this.data[this.at++];
  }

  // The part of the message before the cells.
  opening() {
    const flags = this.byte();
    const sender = this.int();
    const number = this.int();
    const base = number - this.int();
    const now = this.int();
    return { flags, sender, number, base, now, head: this.header(flags) };
  }

  header(flags) {
    return flags & 1 ? JSON.parse(new TextDecoder().decode(this.bytes(this.int()))) : {};
  }

  int() {
    let [number, unit] = [0, 1];
    let byte;
    do {
      byte = this.byte();
      number += (byte & 127) * unit;
      unit *= 128;
    } while (byte > 127);
    return number;
  }

  bytes(count) {
    return this.data.subarray(this.at, (this.at += count));
  }

  // Numbers as byte planes: the lowest bytes of all first, then the next. With three bytes, the last eight bits of a
  // single-precision number are missing; with five, the last 24 bits of a double.
  floats(count, size) {
    const bytes = this.bytes(count * size);
    const whole = size === 5 ? 8 : 4;
    return (i) => {
      for (let k = 0; k < whole; k++) SCRATCH.setUint8(k, k < whole - size ? 0 : bytes[(k - whole + size) * count + i]);
      return size === 5 ? SCRATCH.getFloat64(0, true) : SCRATCH.getFloat32(0, true);
    };
  }

  doubles(count) {
    const start = this.at;
    this.at += count * 8;
    return (i) => this.view.getFloat64(start + i * 8, true);
  }

  // `known` and `origin`: the number of series and the bin that the short form leaves out.
  cells(bounded, known, origin) {
    const { view } = this;
    const flags = this.byte();
    const further = (flags & 24) === 24 ? this.byte() : flags & 24;
    const short = Boolean(flags & 64);
    const oldest = short ? null : this.int();
    const end = bounded ? this.int() : Infinity;
    const start = this.int();
    const first = short ? origin + (start % 2 ? -(start + 1) / 2 : start / 2) : oldest + start;
    const [series, count] = [short ? known : this.int(), this.int()];
    const bases = new Map();
    const based = short && !(flags & 4) ? 0 : this.int();
    for (let left = based; left > 0; left--) {
      bases.set(this.int(), view.getFloat64(this.at, true));
      this.at += 8;
    }
    const width = 1 << ((further >> 3) & 3);
    const exact = Boolean(flags & 32);
    const steps = this.bytes(width * count);
    const spread = flags & 2 ? this.bytes((count + 7) >> 3) : null;
    const several = (i) => spread !== null && (spread[i >> 3] >> (i & 7)) & 1;
    let more = 0;
    for (let i = 0; i < count; i++) more += several(i);
    const read = (count, size) => (exact ? this.doubles(count) : this.floats(count, size));
    const single = flags & 128 ? 5 : 4;
    const singles = read(count - more, single), lows = read(more, 3), highs = read(more, 3);
    const newest = further & 1 ? read(more, single) : null;
    let wide = 0;
    const each = (take) => {
      for (let i = 0, key = 0; i < count; i++) {
        for (let k = width - 1, step = 0; k >= 0; k--) {
          step = step * 256 + steps[i * width + k];
          if (k === 0) key += step;
        }
        const row = key % series;
        const base = bases.get(row) ?? 0;
        const bin = first + (key - row) / series;
        if (!several(i)) {
          const value = singles(i - wide) + base;
          take(row, bin, [value, value]);
          continue;
        }
        const cell = [lows(wide) + base, highs(wide) + base];
        if (newest) cell.newest = newest(wide) + base;
        wide++;
        take(row, bin, cell);
      }
    };
    return { whole: Boolean(flags & 1), oldest, end, each };
  }
}

const SCRATCH = new DataView(new ArrayBuffer(8));
