/**
 * The heights of a list of rows, as a Fenwick tree: the offset of a row and the row at an offset take a few steps
 * among 100 000 rows.
 */

const CAPACITY_MIN = 1024;

export class Heights {
  /** Element n is the sum of the heights of the rows n - lowbit(n) to n - 1. */
  #tree = new Float64Array(CAPACITY_MIN);
  #length = 0;

  get length() {
    return this.#length;
  }

  get total() {
    return this.offset(this.#length);
  }

  /** Drops the rows from `length` on. @param {number} length */
  truncate(length) {
    this.#length = Math.min(length, this.#length);
  }

  /** @param {number} height */
  push(height) {
    const at = this.#length + 1;
    if (at >= this.#tree.length) {
      const larger = new Float64Array(this.#tree.length * 2);
      larger.set(this.#tree);
      this.#tree = larger;
    }
    let sum = height;
    const start = at - (at & -at);
    for (let child = at - 1; child > start; child -= child & -child) sum += this.#tree[child];
    this.#tree[at] = sum;
    this.#length = at;
  }

  /** Changes the height of a row by `change`. @type {(row: number, change: number) => void} */
  change(row, change) {
    for (let at = row + 1; at <= this.#length; at += at & -at) this.#tree[at] += change;
  }

  /** Returns the sum of the heights of the first `rows` rows. @param {number} rows */
  offset(rows) {
    let sum = 0;
    for (let at = Math.min(rows, this.#length); at > 0; at -= at & -at) sum += this.#tree[at];
    return sum;
  }

  /** Returns the row at an offset in pixels. @param {number} px */
  rowAt(px) {
    let at = 0;
    let rest = px;
    for (let step = highestBit(this.#length); step > 0; step >>= 1) {
      const next = at + step;
      if (next <= this.#length && this.#tree[next] <= rest) {
        at = next;
        rest -= this.#tree[next];
      }
    }
    return Math.max(0, Math.min(at, this.#length - 1));
  }
}

/** @param {number} value */
function highestBit(value) {
  return value === 0 ? 0 : 1 << (31 - Math.clz32(value));
}
