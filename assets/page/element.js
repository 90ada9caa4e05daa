/** Elements of the page. Whatever came over the wire enters it as text only, never as markup. */

/** @param {string} id */
export const byId = (id) => /** @type {any} */ (document.getElementById(id));

/** @type {(name: string, className: string, text?: string) => any} */
export function element(name, className, text = '') {
  const node = document.createElement(name);
  node.className = className;
  node.textContent = text;
  return node;
}
