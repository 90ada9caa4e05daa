/** The field for messages and custom events: several lines, recall, size, and errors beside it. */

import { byteLength } from '../../client/text.js';
import { atMostEvery, byId, setText } from '../base/element.js';
import { formatBytes } from '../base/format.js';
import { formatJson, jsonError } from '../base/json.js';
import { words } from '../words/words.js';
import { draft, rememberSent, saveDrafts, sentTexts } from './memory.js';

/** The event that the field starts with. */
const EXAMPLE = '{\n  "action": "greeting",\n  "data": "Hello Server!"\n}';
/** The size is shown from this part of the limit on. */
const SIZE_SHOWN_FROM = 0.5;
/** The characters of an id and of the frame around a payload. */
const FRAME_CHARS = JSON.stringify({ type: 'custom_event', room: '', id: '0'.repeat(32), payload: 0 }).length;

/**
 * @typedef {import('./memory.js').Mode} Mode
 * @param {{ send: (message: { type: Mode, json: string, text: string }) => void, bytesMax: () => number | undefined }} options
 */
export function createComposer({ send, bytesMax }) {
  const field = byId('text');
  const error = byId('text-error');
  /** @type {string | undefined} */
  let room;
  /** The texts that the arrow keys go through, and the place in them; -1 is the reader's own text. */
  let recalled = { texts: /** @type {string[]} */ ([]), at: -1, own: '' };
  const remember = atMostEvery(saveDrafts, 1_000);

  /** @returns {Mode} */
  function mode() {
    return room === undefined ? 'message' : draft(room).mode;
  }

  /** Shows the field of a room. @param {string | undefined} next */
  function show(next) {
    if (room === next) return;
    room = next;
    restore();
  }

  function restore() {
    const { texts } = room === undefined ? { texts: /** @type {any} */ ({}) } : draft(room);
    setField(texts[mode()] ?? (mode() === 'custom_event' ? EXAMPLE : ''));
    translate();
  }

  /** Shows the texts that depend on the mode and the language. */
  function translate() {
    const isEvent = mode() === 'custom_event';
    byId('mode-message').checked = !isEvent;
    byId('mode-event').checked = isEvent;
    setText(byId('text-label'), room === undefined ? words.message : isEvent ? words.eventLabel(room) : words.messageLabel(room));
    field.placeholder = isEvent ? '' : words.messageHint;
    field.classList.toggle('code', isEvent);
    field.spellcheck = !isEvent;
    setText(byId('text-hint'), isEvent ? words.eventKeys : words.messageKeys);
    byId('format').hidden = !isEvent;
    check(false);
  }

  /** @param {string} text */
  function setField(text) {
    field.value = text;
    recalled.at = -1;
    fit();
  }

  /** Makes the field as high as its text, up to the limit in the style sheet. */
  function fit() {
    const { style } = field.parentElement;
    // Meanwhile the row keeps its height, because the log would scroll.
    style.minHeight = `${field.parentElement.offsetHeight}px`;
    field.style.height = 'auto';
    field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
    style.minHeight = '';
  }

  /** Shows the size of the message and what is wrong with it. Returns its JSON, or null. @param {boolean} sending */
  function check(sending) {
    const text = field.value;
    const isEvent = mode() === 'custom_event';
    const problem = isEvent && text.trim() !== '' ? jsonError(text) : null;
    const json = isEvent ? text : JSON.stringify(text);
    const bytes = byteLength(json) + byteLength(room ?? '') + FRAME_CHARS;
    const max = bytesMax() ?? Infinity;
    const tooLarge = bytes > max;
    setText(byId('text-size'), bytes > max * SIZE_SHOWN_FROM ? words.sizeOf(formatBytes(bytes), formatBytes(max)) : '');
    byId('text-size').classList.toggle('problem', tooLarge);
    const shown = tooLarge ? words.tooLarge(formatBytes(bytes), formatBytes(max))
      // Invalid JSON is reported on submit, and then until it is corrected.
      : problem !== null && (sending || error.textContent !== '') ? words.invalidJson(problem)
      : isEvent && sending && text.trim() === '' ? words.emptyEvent : '';
    setText(error, shown);
    field.setAttribute('aria-invalid', String(shown !== ''));
    return problem === null && !tooLarge && text.trim() !== '' ? json : null;
  }

  /** @param {Event} event */
  function submit(event) {
    event.preventDefault();
    if (room === undefined || byId('send').disabled) return;
    const text = field.value;
    const type = mode();
    // An event is sent as it was typed, because parsing and printing it again would round long numbers.
    const json = check(true);
    field.focus();
    if (json === null) return;
    rememberSent(type, text);
    if (type === 'message') setField('');
    typed();
    send({ type, json, text });
  }

  function typed() {
    if (room === undefined) return;
    draft(room).texts[mode()] = field.value;
    remember();
    check(false);
  }

  /** Puts a text into the field of a room, unless the reader has written another one. Returns whether it is there now. @type {(name: string, type: Mode, text: string, force?: boolean) => boolean} */
  function putBack(name, type, text, force = false) {
    const { texts, mode: current } = draft(name);
    const present = name === room && current === type ? field.value : texts[type] ?? '';
    if (!force && present !== '' && present !== text && present !== EXAMPLE) return false;
    texts[type] = text;
    if (force) draft(name).mode = type;
    if (name === room) restore();
    remember();
    return true;
  }

  /** Takes a text out of the field of a room, unless the reader has changed it. @type {(name: string, type: Mode, text: string) => void} */
  function forget(name, type, text) {
    const { texts, mode: current } = draft(name);
    const isShown = name === room && current === type;
    if ((isShown ? field.value : texts[type]) !== text) return;
    texts[type] = '';
    if (isShown) restore();
    remember();
  }

  // The keyboard

  /** @param {KeyboardEvent} event */
  function keyPressed(event) {
    // Enter also ends the input of Chinese characters.
    if (event.isComposing || event.keyCode === 229) return;
    const withControl = event.ctrlKey || event.metaKey;
    if (event.key === 'Enter' && (withControl || (mode() === 'message' && !event.shiftKey))) submit(event);
    if (event.key === 'ArrowUp' && isAtEdge(0)) recall(event, 1);
    if (event.key === 'ArrowDown' && isAtEdge(field.value.length)) recall(event, -1);
  }

  /** The arrow keys move within the text first. @param {number} edge */
  function isAtEdge(edge) {
    const { selectionStart, selectionEnd, value } = field;
    return selectionStart === selectionEnd && (selectionStart === edge || (recalled.at >= 0 && !value.includes('\n')));
  }

  /** @type {(event: Event, by: number) => void} */
  function recall(event, by) {
    if (recalled.at < 0) recalled = { texts: sentTexts(mode()), at: -1, own: field.value };
    const { texts, at, own } = recalled;
    const next = at + by;
    if (next < -1 || next >= texts.length) return;
    event.preventDefault();
    setField(next < 0 ? own : texts[next]);
    recalled = { texts, at: next, own };
    const end = by > 0 ? 0 : field.value.length;
    field.setSelectionRange(end, end);
    typed();
  }

  /** @param {Mode} next */
  function setMode(next) {
    if (room === undefined) return;
    draft(room).mode = next;
    restore();
    remember();
  }

  function format() {
    if (check(true) === null) return;
    setField(formatJson(field.value));
    typed();
  }

  byId('compose').addEventListener('submit', submit);
  byId('format').addEventListener('click', format);
  byId('mode-message').addEventListener('change', () => setMode('message'));
  byId('mode-event').addEventListener('change', () => setMode('custom_event'));
  field.addEventListener('keydown', keyPressed);
  field.addEventListener('input', () => {
    recalled.at = -1;
    fit();
    typed();
  });
  return { show, translate, putBack, forget, focus: () => field.focus() };
}
