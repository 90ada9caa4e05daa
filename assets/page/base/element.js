/** Elements of the page. Received data becomes text in them, never markup. */

/** @param {string} id */
export const byId = (id) => /** @type {any} */ (document.getElementById(id));

/** @type {(name: string, className?: string, text?: string) => any} */
export function element(name, className = '', text = '') {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/** @type {(className: string, text: string, act: (event: MouseEvent) => void) => HTMLButtonElement} */
export function button(className, text, act) {
  const node = element('button', className, text);
  node.type = 'button';
  node.addEventListener('click', act);
  return node;
}

/** Sets a text only if it changes, because a live region reads out every replacement. @type {(node: Node, text: string) => void} */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Returns a function that runs `act` once before the next frame, however often it is called. @param {() => void} act */
export function oncePerFrame(act) {
  let frame = 0;
  return () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      act();
    });
  };
}

/** Like `oncePerFrame`, but also runs in a tab that is not visible. @type {(act: () => void, ms: number) => () => void} */
export function atMostEvery(act, ms) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      act();
    }, ms);
  };
}
