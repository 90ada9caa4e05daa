/** The texts of the page in the reader's language, which a switch changes at any time. */

import { saveSettings, settings } from '../base/settings.js';
import { CHINESE } from './chinese.js';
import { ENGLISH } from './english.js';

/** The present texts. Texts that stay on the page are computed again after a switch. @type {any} */
export let words = chooseWords();

/** Returns the texts in the language that the reader chose, else in the first of the browser's that the page has. */
function chooseWords() {
  const known = navigator.languages.find((language) => /^(zh|en)\b/i.test(language));
  const language = settings.language ?? (/^zh/i.test(known ?? '') ? 'zh' : 'en');
  return language === 'zh' ? CHINESE : ENGLISH;
}

/** Switches to the other language. */
export function switchLanguage() {
  saveSettings({ language: words === ENGLISH ? 'zh' : 'en' });
  words = chooseWords();
  translateDocument();
}

/** Replaces the texts of the document: `data-text`, `data-label` and `data-placeholder` name them. */
export function translateDocument() {
  document.documentElement.lang = words.lang;
  each('text', (node, text) => { node.textContent = text; });
  each('label', (node, text) => node.setAttribute('aria-label', text));
  each('tip', (node, text) => { node.title = text; });
  each('placeholder', (node, text) => node.setAttribute('placeholder', text));
}

/** @type {(name: string, apply: (node: HTMLElement, text: string) => void) => void} */
function each(name, apply) {
  for (const node of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`[data-${name}]`))) {
    const path = node.dataset[name] ?? '';
    apply(node, path.split('.').reduce((texts, key) => texts[key], words));
  }
}
