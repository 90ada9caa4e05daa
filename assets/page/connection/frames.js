/** The last frames in both directions, as they travel. Tokens and sessions are masked. */

const FRAMES_MAX = 1_000;
/** The part of a frame that is kept. */
const FRAME_CHARS_MAX = 10_000;

/** @typedef {{ direction: 'in' | 'out' | 'open' | 'close', ts: number, text: string, chars: number, px?: number }} Frame */

export class FrameLog {
  /** @type {Frame[]} */
  frames = [];
  /** The number of the first frame. */
  base = 0;
  /** When a frame was last received. */
  lastReceived = performance.now();
  /** Called after every frame. */
  changed = () => {};

  /** @type {(direction: Frame['direction'], text: string) => void} */
  add(direction, text) {
    if (direction === 'in') this.lastReceived = performance.now();
    const kept = text.length > FRAME_CHARS_MAX ? text.slice(0, FRAME_CHARS_MAX) : text;
    this.frames.push({ direction, ts: Date.now(), text: direction === 'in' ? kept : masked(kept), chars: text.length });
    if (this.frames.length > FRAMES_MAX * 1.2) {
      const dropped = this.frames.splice(0, this.frames.length - FRAMES_MAX);
      this.base += dropped.length;
    }
    this.changed();
  }

  clear() {
    this.base += this.frames.length;
    this.frames = [];
    this.changed();
  }
}

/** @param {string} text */
function masked(text) {
  return text.replace(/([?&](?:token|session)=)[^&]*/g, '$1…')
    .replace(/^(\{"type":"auth".*"token":")[^"]*/, '$1…');
}

/**
 * Returns a class of WebSockets that record their frames.
 * @param {FrameLog} log
 * @returns {new (url: string, protocols?: string[]) => WebSocket}
 */
export function recordingWebSocket(log) {
  return class extends WebSocket {
    /**
     * @param {string} url
     * @param {string[]} [protocols]
     */
    constructor(url, protocols = []) {
      super(url, protocols);
      log.add('open', url);
      this.addEventListener('message', ({ data }) => log.add('in', String(data)));
      this.addEventListener('close', ({ code, reason }) => log.add('close', reason ? `${code} ${reason}` : String(code)));
    }

    /** @param {any} data */
    send(data) {
      log.add('out', String(data));
      super.send(data);
    }
  };
}
