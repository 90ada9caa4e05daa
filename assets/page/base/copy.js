/** Copies texts and saves files. */

import { words } from '../words/words.js';

const COPIED_FOR_MS = 1_500;

/**
 * Copies a text, and says so on the button for a moment.
 * @type {(text: string, button: HTMLElement) => Promise<void>}
 */
export async function copyText(text, button) {
  const copied = await writeClipboard(text);
  button.dataset.label ??= button.textContent ?? '';
  button.textContent = copied ? words.copied : words.notCopied;
  setTimeout(() => { button.textContent = button.dataset.label ?? ''; }, COPIED_FOR_MS);
}

/** @param {string} text */
async function writeClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages without TLS have no clipboard, except at localhost.
    return copyBySelection(text);
  }
}

/** @param {string} text */
function copyBySelection(text) {
  const field = document.createElement('textarea');
  field.value = text;
  field.className = 'visually-hidden';
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  // In an open dialog only its own elements can have the focus.
  (before?.closest('dialog') ?? document.body).append(field);
  field.select();
  const copied = document.execCommand('copy');
  field.remove();
  before?.focus();
  return copied;
}

/** Saves texts as a file. @type {(name: string, type: string, texts: string[]) => void} */
export function saveFile(name, type, texts) {
  const address = URL.createObjectURL(new Blob(texts, { type }));
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
