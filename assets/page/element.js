/** Elements of the page. Received data becomes text in them, never markup. */

/** @param {string} id */
export const byId = (id) => /** @type {any} */ (document.getElementById(id));

/** @type {(name: string, className: string, text?: string) => any} */
export function element(name, className, text = '') {
  const node = document.createElement(name);
  node.className = className;
  node.textContent = text;
  return node;
}
