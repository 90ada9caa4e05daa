/** The listeners of a client's events. */

/**
 * @typedef {import('./types.js').Events} Events
 */

export class Listeners {
  /** @type {Map<string, Set<(event: any) => void>>} */
  #byName = new Map();

  /** @type {(name: string, listener: (event: any) => void) => void} */
  add(name, listener) {
    const listeners = this.#byName.get(name) ?? new Set();
    this.#byName.set(name, listeners.add(listener));
  }

  /** @type {(name: string, listener: (event: any) => void) => void} */
  remove(name, listener) {
    this.#byName.get(name)?.delete(listener);
  }

  clear() {
    this.#byName.clear();
  }

  /**
   * Calls the listeners of an event. If one throws, the others are still called, and the error is reported
   * as uncaught.
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {Events[Name]} event
   */
  emit(name, event) {
    for (const listener of [...this.#byName.get(name) ?? []]) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => { throw error; });
      }
    }
  }
}
