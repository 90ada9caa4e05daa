/** The dialog for the token: what the present one grants and how long, and a field for another one. */

import { byId, element, setText } from '../base/element.js';
import { formatDuration } from '../base/format.js';
import { currentToken, readToken, setToken, tokenIn } from '../connection/token.js';
import { words } from '../words/words.js';

/** A token is shown as expiring from this many seconds on. */
const EXPIRES_SOON_S = 60;

/** @typedef {import('../connection/token.js').Grant} Grant */

/** @param {{ onChange: () => void }} options `onChange`: the reader has entered or removed a token */
export function createTokenDialog({ onChange }) {
  const dialog = byId('token-dialog');
  const field = byId('token-text');

  /** Opens the dialog. @param {string} [reason] why the server wants another token */
  function open(reason = '') {
    setText(byId('token-reason'), reason);
    field.value = currentToken();
    byId('token-remove').hidden = currentToken() === '';
    show();
    if (!dialog.open) dialog.showModal();
    field.focus();
    field.select();
  }

  /** Shows what the token in the field grants. */
  function show() {
    const token = tokenIn(field.value);
    const grant = token === '' ? null : readToken(token);
    setText(byId('token-error'), token !== '' && grant === null ? words.token.unreadable : '');
    field.setAttribute('aria-invalid', String(token !== '' && grant === null));
    byId('token-grant').replaceChildren(...(grant ? describe(grant) : []));
  }

  /** @param {Grant} grant */
  function describe({ user, subscribe, publish, admin, expires }) {
    /** @type {[string, string][]} */
    const lines = [
      [words.token.user, user ?? words.token.nobody],
      [words.token.subscribe, subscribe.join(', ') || words.token.nothing],
      [words.token.publish, publish.join(', ') || words.token.nothing],
      [words.token.admin, admin ? words.token.yes : words.token.no],
      [words.token.expires, expires === undefined ? words.token.never : timeLeft(expires)],
    ];
    return lines.flatMap(([name, value]) => [element('dt', '', name), element('dd', '', value)]);
  }

  /** @param {Event} event */
  function submit(event) {
    const { value } = /** @type {any} */ (/** @type {SubmitEvent} */ (event).submitter ?? {});
    if (value === 'cancel') return;
    const token = tokenIn(field.value);
    if (value !== 'remove' && token !== '' && readToken(token) === null) {
      event.preventDefault();
      return;
    }
    setToken(value === 'remove' ? '' : token);
    onChange();
  }

  field.addEventListener('input', show);
  byId('token-form').addEventListener('submit', submit);
  return { open, isOpen: () => dialog.open };
}

/** @param {number} expires in Unix seconds */
function timeLeft(expires) {
  const left = expires - Date.now() / 1_000;
  return left <= 0 ? words.token.expired : words.token.left(formatDuration(left));
}

/** Shows on the button of the dialog who the reader is and how long the token lasts. */
export function showTokenButton() {
  const grant = readToken(currentToken());
  const left = grant?.expires === undefined ? Infinity : grant.expires - Date.now() / 1_000;
  const who = grant ? grant.user ?? (grant.admin ? words.token.operator : words.token.title) : words.token.title;
  const text = left < EXPIRES_SOON_S * 10 ? `${who} · ${left <= 0 ? words.token.expired : formatDuration(left)}` : who;
  setText(byId('token-button'), text);
  byId('token-button').classList.toggle('soon', left < EXPIRES_SOON_S);
  for (const node of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-panel=operator]'))) node.hidden = !grant?.admin;
}
